"""A page for each method: from its record, its description, its classifier's docstring, and the measured results."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import pandas as pd

from imbalance_bench.methods import METHODS, Method, candidates, start_of
from imbalance_bench.methods.descriptions import Description, describe, source
from imbalance_bench.methods.settings import text_of
from imbalance_bench.schedule import Schedule

from .. import published, tables
from ..beyond import CONTROL, cell
from . import docstrings
from .measured import GROUPS, order

PARTS = (
    "Idea", "Formula", "What it needs", "Settings", "Published numbers", "Measured here", "When it hurts", "Run it",
    "As implemented here", "Cite",
)  # fmt: skip
"""Headings of every page."""
FAMILIES = {
    "plain": "Plain training, and the control",
    "sampling": "Sampling",
    "softmax loss": "Softmax losses",
    "sigmoid loss": "Sigmoid losses",
    "group softmax": "Group softmax",
    "nearest mean": "Nearest class means",
    "post hoc": "After training",
}
"""Headings of the families, in the order of the pages."""
SCOPES = {
    "all": "the whole detector, end to end",
    "all but stem": "the detector without its first two stages, end to end",
    "head": "the box head, end to end",
    "classifier": "W and b of the classifier, on cached proposals",
    "nothing": "nothing; it is computed from the trained classifier and cached proposals",
}
COUNTS = {
    "none": "none",
    "instances": "training instances of each class",
    "images": "training images of each class",
    "online": "none beforehand; it counts during training",
}
SAMPLINGS = {
    "uniform": "every image once an epoch",
    "repeat-factor": "images repeated by their rarest class",
    "instance-repeat-factor": "images repeated by their rarest class, by images and instances",
    "tail-only": "only annotations of tail classes, and images that keep one",
    "class-balanced": "a class at random, then an image that holds it",
    "bi-level": "a class at random, an image that holds it, the class's RoIs and as many of background",
}
SYMBOLS = (
    "z: logits; p: scores; c, j: classes; y: the class of a RoI; bg: background; h: feature; C: number of classes; "
    "n: training instances, m: training images of a class; I: training images; σ: sigmoid."
)
PAPER = ("mAP", "AP1", "AP2", "AP3", "AP4", "ACC", "ACCbg")
"""Columns of the paper's Table 1 on a page."""
TABLE5 = {"bags-head": 2, "bags-tune-head": 3, "bags-tune-all": 4}
"""Rows of the paper's Table 5 that are methods of their own."""


def pages(measured: pd.DataFrame) -> dict[str, str]:
    """Write every page: by the name of its method, Markdown.

    Args:
        measured: result of ``measured.measured``.
    """
    return {name: page(method, measured) for name, method in METHODS.items()}


def page(method: Method, measured: pd.DataFrame) -> str:
    """Write the page of a method, with all ``PARTS``."""
    described = describe(method)
    parts = (
        described.idea,
        f"```text\n{described.formula.rstrip()}\n```\n\n{SYMBOLS}",
        _needs(method, described),
        _settings(method, described),
        _published(method, described),
        _measured(method, measured),
        _hurts(method, described, measured),
        _run(method, described),
        f"{docstrings.prose(described.documented)}\n\n"
        f"Arguments: [{described.classifier}](../reference/classifiers.md#imbalance_bench.{described.classifier}).",
        _cite(method),
    )
    sections = (f"## {heading}\n\n{text}" for heading, text in zip(PARTS, parts, strict=True))
    return "\n\n".join([f"# {method.title}", *sections]) + "\n"


def index(measured: pd.DataFrame) -> str:
    """Write the list of all methods, with what they gain on the tail in each data set that has most of them."""
    gains = measured[(measured["kind"] == "default") & measured["tail_over_half"].notna()]
    gains = gains[gains["run"] != gains["control"]].drop_duplicates(["world", "method"])
    worlds = [
        world for world, of_world in gains.groupby("world", sort=False) if len(of_world) >= len(candidates()) // 2
    ]
    rows = []
    for method in (method for family in FAMILIES for method in of_family(family)):
        own = gains[gains["method"] == method.name].set_index("world")
        rows.append(
            {
                "method": f"[{method.title}]({method.name}.md)",
                "name": f"`{method.name}`",
                "family": method.family,
                "trains": "W, b" if method.trains == "classifier" else method.trains,
                "year": str(method.year),
                **{f"tail, {world}": over(own.loc[world], "tail") if world in own.index else "-" for world in worlds},
            }
        )
    return sortable(pd.DataFrame(rows))


def of_family(family: str) -> list[Method]:
    """List the methods of a family, in the catalogue's order."""
    return [method for method in METHODS.values() if method.family == family]


def sortable(frame: pd.DataFrame, texts: bool = False) -> str:
    """Write a table whose columns the site sorts on a click; cells with ``texts`` may break."""
    kind = "sortable texts" if texts else "sortable"
    return f'<div class="{kind}" markdown>\n\n{tables.markdown(frame)}\n\n</div>'


def _needs(method: Method, described: Description) -> str:
    start = start_of(method.default)
    schedule = method.schedule(Schedule(epochs=24, lr=1.0, batch_size=16))
    rows = {
        "Name": f"`{method.name}`",
        "Family": FAMILIES[method.family].lower(),
        "Trains": SCOPES[method.trains],
        "Starts from": "the detector's first weights" if start is None else f"[{start}]({start.method.name}.md)",
        "Features": f"`{described.features}`" if method.default.keeps_detector else "images",
        "Class counts": COUNTS[described.counts],
        "Training annotations": "yes, the places of the boxes" if method.statistics else "no more than the counts",
    }
    if method.trains != "nothing":
        own = schedule.epochs != 24
        rows["Schedule"] = f"{schedule.epochs} epochs" if own else "the detector's own"
        if schedule.lr != 1:
            rows["Schedule"] += f", {schedule.lr:g} of its learning rate"
        rows["Images"] = SAMPLINGS[method.sampling]
    rows["In `diagnose`"] = _in_diagnose(method)
    return tables.markdown(pd.DataFrame(rows.items(), columns=["", "this method"]))


def _in_diagnose(method: Method) -> str:
    if method in candidates():
        return "yes"
    if method.name == "baseline":
        return "it is what the others are compared with"
    if method.default.keeps_detector and method.starts_from == "baseline":
        return "only if named by `--methods`, as its features are wide"
    return "no, it trains more than the classifier, or does not start from the baseline"


def _settings(method: Method, described: Description) -> str:
    parts = []
    if method.options:
        rows = [
            [
                f"`{name}`",
                f"`{text_of(option.default) or '(empty)'}`",
                ", ".join(text_of(value) for value in method.tune.get(name, ())) or "-",
                described.options[name],
            ]
            for name, option in method.options.items()
        ]
        columns = ["option", "default", "tried by `--tune`", "what it does"]
        parts.append(tables.markdown(pd.DataFrame(rows, columns=columns)))
        parts.append("Set them by `--variant NAME=VALUE,...`.")
    else:
        parts.append("It has no options.")
    if len(method.variants) > 1:
        rows = [
            [f"`{name}`", _changes(changed), method.notes.get(name, "")] for name, changed in method.variants.items()
        ]
        parts.append(tables.markdown(pd.DataFrame(rows, columns=["variant", "settings", "remark"])))
        parts.append("The first is the default.")
    if method.mended:
        parts.append(f"Compared with other methods, and tried by `diagnose`, is `{method.mended}`.")
    if method.on_validation:
        parts.append(f"Set after results on the validation set: {method.on_validation}.")
    return "\n\n".join(parts)


def _changes(settings: Mapping[str, object]) -> str:
    return ", ".join(f"`{name}={text_of(value)}`" for name, value in settings.items()) or "all defaults"


def _published(method: Method, described: Description) -> str:
    parts = []
    if described.published:
        rows = [
            [
                n.data,
                n.measure,
                n.model,
                n.before or "-",
                n.after,
                n.note,
                f"[{n.source}](https://arxiv.org/abs/{n.source})",
            ]
            for n in described.published
        ]
        columns = ["data", "measure", "model", "before", "after", "with", "printed in"]
        parts.append(tables.markdown(pd.DataFrame(rows, columns=columns)))
    number, paper = (5, TABLE5.get(method.name)) if method.name in TABLE5 else (1, method.paper_row)
    if paper is not None:
        frame = published.by_row(number)
        base = published.by_row(1).loc[1]
        columns = [column for column in PAPER if column in frame]
        rows = [["baseline", *(f"{base[c]:.2f}" for c in columns)]] if (number, paper) != (1, 1) else []
        rows.append([method.title, *(f"{frame.loc[paper, c]:.2f}" for c in columns)])
        parts.append(f"Row {paper} of the paper's Table {number} (LVIS v0.5 val, Faster R-CNN, R50-FPN, boxes):")
        parts.append(tables.markdown(pd.DataFrame(rows, columns=["", *columns])))
        if frame.loc[paper].get("note"):
            parts.append(f"{frame.loc[paper, 'note']}.")
    return "\n\n".join(parts) or "We know of no number of its authors on LVIS."


def _measured(method: Method, measured: pd.DataFrame) -> str:
    own = order(measured[measured["method"] == method.name])
    if own.empty:
        return "Not measured yet."
    rows = []
    for row in own.to_dict("records"):
        is_control = row["run"] == row["control"]
        rows.append(
            {
                "data set": f"[{row['world']}](../results/{row['world']}.md)",
                "detector": row["detector"],
                "settings": row["settings"] + (" (chosen)" if row["kind"] == "tuned" else ""),
                **{f"{g} over control": "-" if is_control else over(row, g) for g in ("tail", "head")},
                "control": "-" if is_control else row["control"],
                "seeds": str(row["seeds"]),
                **{group: cell(row[group], row[f"{group}_std"]) for group in GROUPS},
            }
        )
    return (
        f"{sortable(pd.DataFrame(rows))}\n\nAP in percent: mean ± standard deviation over seeds. "
        "Differences to the control are paired by seed: mean ± half of its 95 % interval over seeds; one seed has "
        "none. tail: the classes of the lower half of the bins; head: the others."
    )


def over(row: Mapping[str, Any] | pd.Series, group: str) -> str:
    """Write the difference of a row of ``measured`` to its control."""
    return cell(row[f"{group}_over"], row[f"{group}_over_half"], "+")


def _hurts(method: Method, described: Description, measured: pd.DataFrame) -> str:
    own = measured[(measured["method"] == method.name) & (measured["kind"] == "default")]
    lines = [f"- {limit}" for limit in described.limits]
    for row, group in itertools.product(order(own).to_dict("records"), ("tail", "head")):
        if row[f"{group}_over"] + row[f"{group}_over_half"] < 0:
            lines.append(
                f"- Measured: on {row['world']} ({row['detector']}) AP on {group} classes is "
                f"{over(row, group).lstrip('-')} points below that of `{row['control']}`."
            )
    return "\n".join(lines)


def _run(method: Method, described: Description) -> str:
    parts = [f"```shell\nimbalance-bench run-baseline --method {method.name} --dataset emoji-lt-small\n```"]
    if method in candidates():
        named = ",".join(dict.fromkeys([CONTROL, method.name]))
        parts.append(
            "On your own mmdet detector, beside the control:\n\n```shell\n"
            "imbalance-bench diagnose --config faster.py --checkpoint epoch_12.pth --train-annotations train.json \\\n"
            f"    --val-annotations val.json --images images --methods {named} --export {method.name}\n```"
        )
    if method.default.keeps_detector and not method.statistics and method.starts_from == "baseline":
        features = "features" if described.features == "fc" else '{"fc": fc, "conv": conv}'
        images = ", image_ids=image_ids" if method.sampling in ("class-balanced", "bi-level") else ""
        parts.append(
            "On arrays ([how](../tutorials/python.md)):\n\n```python\nimport imbalance_bench as ib\n\n"
            f'classifier = ib.fit("{method.name}", {features}, labels, counts{images})\n```'
        )
    return "\n\n".join(parts)


def _cite(method: Method) -> str:
    paper = source(method.source)
    name = f"arXiv:{method.source}" if method.is_on_arxiv else method.source.removeprefix("https://")
    return f"*{paper.title}.* {paper.venue}. [{name}]({method.address})"
