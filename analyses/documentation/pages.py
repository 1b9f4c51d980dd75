"""All generated pages by their place in the site, and the generated parts of written pages by their name."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pandas as pd

from imbalance_bench.evaluation.measures import MEASURES

from .. import tables
from . import command_pages, gallery, method_pages, result_pages
from .advice import advice
from .measured import measured

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "results" / "measured"


@cache
def runs() -> pd.DataFrame:
    """Collect the measured runs once."""
    return measured(RESULTS)


@cache
def generated() -> dict[str, str]:
    """Write every page that is generated whole, by its place below ``docs/``."""
    pages = {f"methods/{name}.md": text for name, text in method_pages.pages(runs()).items()}
    pages |= {f"results/{world}.md": result_pages.page(RESULTS, world) for world in result_pages.worlds(RESULTS)}
    changes, contributing = (
        (ROOT / f"{name}.md").read_text(encoding="utf-8") for name in ("CHANGELOG", "CONTRIBUTING")
    )
    pages |= {"changelog.md": changes, "contributing.md": contributing.replace("](docs/", "](")}
    return pages | {"reference/commands.md": command_pages.page()}


@cache
def samples() -> dict[str, str]:
    """Make the sample pages of the gallery once."""
    return gallery.pages(RESULTS)


PARTS: dict[str, Callable[[], str]] = {
    "gallery": lambda: gallery.index(samples()),
    "advice": lambda: advice(RESULTS),
    "methods": lambda: method_pages.index(runs()),
    "findings": lambda: result_pages.findings(runs(), RESULTS),
    "what carries over": lambda: result_pages.what_carries_over(RESULTS),
    "versus the paper": lambda: result_pages.versus_paper(RESULTS),
    "the paper's tables": result_pages.published_tables,
    "measures": lambda: _measures(),
    "data sets": lambda: _data_sets(),
    "detectors": lambda: _detectors(),
    "cost at paper scale": lambda: _paper_scale(),
    "training times": lambda: _training_times(),
    "box regressors": lambda: _box_regressors(),
    "cache and end to end": lambda: _cache_and_end_to_end(),
    "example of a method": lambda: _example(),
}
"""What stands for ``<!-- generated: NAME -->`` in a written page."""


def _measures() -> str:
    rows = [
        [f"`{column}`", said, "percent" if measure.unit == "percent" and column not in measure.counts else "as it is"]
        for measure in MEASURES
        for column, said in measure.columns.items()
    ]
    return method_pages.sortable(pd.DataFrame(rows, columns=["column", "what it says", "shown in"]), texts=True)


def _data_sets() -> str:
    from imbalance_bench.datasets.emoji_profile import PROFILES
    from imbalance_bench.datasets.layouts import LAYOUTS
    from imbalance_bench.datasets.registry import describe

    rows = [[f"`{name}`", describe(name, RESULTS)[1], "this project"] for name in PROFILES]
    rows += [[f"`{name}`", layout.what, layout.site] for name, layout in LAYOUTS.items()]
    return method_pages.sortable(pd.DataFrame(rows, columns=["name", "what it is", "from"]), texts=True)


def _detectors() -> str:
    from imbalance_bench.detectors.mmdet.catalogue import DETECTORS

    rows = [[f"`{name}`", d.framework, d.scale, d.description] for name, d in DETECTORS.items()]
    return method_pages.sortable(
        pd.DataFrame(rows, columns=["name", "framework of the paper", "scale", "what it is"]), texts=True
    )


def _paper_scale() -> str:
    frame = pd.read_csv(RESULTS / "paper_scale_trials.csv")
    shown = pd.DataFrame(
        {
            "detector": "`" + frame["detector"] + "`",
            "parameters, millions": frame["parameters"].map("{:.1f}".format),
            "of these the classifier": frame["classifier_parameters"].map("{:.1f}".format),
            "memory, GiB": frame["memory"].map("{:.1f}".format),
            "seconds an iteration": frame["seconds_per_iteration"].map("{:.0f}".format),
            "seconds a test image": frame["seconds_per_test_image"].map("{:.0f}".format),
        }
    )
    return method_pages.sortable(shown)


def _training_times() -> str:
    rows = []
    for path in sorted(RESULTS.glob("*/table1.csv")):
        runs = pd.read_csv(path)
        for (run, detector), part in runs.groupby(["run", "detector"], sort=False):
            if run in ("baseline", "x2-cls", "bags", "tau-norm"):
                seconds = part["train_seconds"].dropna()
                taken = f"{seconds.median():.0f}" if len(seconds) else "-"
                rows.append([path.parent.name, f"`{detector}`", f"`{run}`", taken, part["machine"].iloc[0]])
    columns = ["data set", "detector", "run", "seconds of training", "machine"]
    return tables.markdown(pd.DataFrame(rows, columns=columns))


def _box_regressors() -> str:
    rows = []
    for path in sorted(RESULTS.glob("*/tiny*/seed*/*/record.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        detector, run = record["settings"]["detector"], path.parent.name
        if detector.partition("-boxes=")[0] == "tiny" and run in ("baseline", "bags", "cosine"):
            rows.append([path.parents[3].name, f"`{detector}`", f"`{run}`", 100 * record["metrics"]["mAP"]])
    frame = pd.DataFrame(rows, columns=["data set", "detector", "run", "mAP"])
    several = frame[frame["detector"].str.contains("boxes")]["data set"].unique()
    groups = frame[frame["data set"].isin(several)].groupby(["data set", "detector", "run"], sort=False)["mAP"]
    shown = groups.agg(seeds="size", mAP="mean").reset_index()
    return tables.markdown(shown.assign(seeds=shown["seeds"].astype(str), mAP=shown["mAP"].map("{:.1f}".format)))


def _cache_and_end_to_end() -> str:
    frame = pd.read_csv(RESULTS / "emoji-lt-small-v1" / "cache_vs_end_to_end.csv", dtype=str)
    return tables.markdown(frame.loc[:, :"train s"])


def _example() -> str:
    """Write the whole of one method of the catalogue, as it stands in the package."""
    package = ROOT / "imbalance_bench"
    found = []
    for file, parts in (("classifiers/sigmoid.py", ("GumbelClassifier",)), ("methods/sigmoid_family.py", ("_gumbel",))):
        source = (package / file).read_text(encoding="utf-8")
        nodes = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
        found += [f"# imbalance_bench/{file}\n{ast.get_source_segment(source, nodes[name])}" for name in parts]
    records = (package / "methods" / "sigmoid_family.py").read_text(encoding="utf-8")
    (record,) = re.findall(r'^    (Method\("gumbel".*?\)),\n    Method', records, re.DOTALL | re.MULTILINE)
    code = "\n\n\n".join([*found, record])
    return f"```python\n{code}\n```"
