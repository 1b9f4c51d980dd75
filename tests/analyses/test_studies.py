"""Studies are sweeps over the catalogue, numbered as the paper's tables; runs are ordered by what they need."""

from pathlib import Path

import pytest

from analyses import published
from analyses.commands import run_all
from analyses.studies import STUDIES
from imbalance_bench.datasets.registry import DataSet
from imbalance_bench.detectors.mmdet import catalogue
from imbalance_bench.experiments.benchmark import Benchmark
from imbalance_bench.experiments.setup import Setup
from imbalance_bench.methods import METHODS, parse


@pytest.mark.parametrize("study", STUDIES.values(), ids=lambda s: s.name)
def test_rows(study) -> None:  # type: ignore[no-untyped-def]
    folders = [(row.detector("tiny"), row.run.folder) for row in study.rows]
    assert len(set(folders)) == len(folders), "each setting is one run"
    assert len({tuple(row.labels) for row in study.rows}) == 1


@pytest.mark.parametrize(("number", "papers"), [(2, 6), (3, 6), (4, 7), (5, 4), (6, 4)])
def test_rows_are_the_papers(number: int, papers: int) -> None:
    ours = [int(row.labels["row"].strip("()")) for row in STUDIES[f"table {number}"].rows if row.labels["row"]]
    printed = published.by_row(number)
    # The first rows of Table 3 are results of other papers.
    assert ours == [row for row in printed.index if not (number == 3 and row < 7)]
    assert len(ours) == papers


@pytest.mark.parametrize("number", [2, 3, 6])
def test_frameworks_are_where_the_paper_prints_them(number: int) -> None:
    printed = published.by_row(number)
    for row in STUDIES[f"table {number}"].rows:
        if str(row.run) == "baseline":
            entry = printed.loc[int(row.labels["row"].strip("()"))]
            words = row.labels["framework"].split()
            text = f"{entry['Models']} {entry.get('Backbone', '')} R50"  # Table 6 has no other backbone
            assert all(word in text for word in words), text


def test_frameworks_take_the_scale_of_the_named_detector() -> None:
    rows = STUDIES["table 3"].rows
    assert [row.detector("tiny") for row in rows[::3]] == ["tiny-mask", "tiny-htc", "tiny-htc-dcn"]
    assert [row.detector("faster-rcnn-r50") for row in rows[::3]] == ["mask-rcnn-r50", "htc-x101", "htc-x101-ms-dcn"]
    assert STUDIES["table 1"].rows[0].detector("tiny-mask") == "tiny-mask"


def test_table_1_has_every_row_and_variant() -> None:
    runs = {row.run for row in STUDIES["table 1"].rows}
    assert {m.run(variant) for m in METHODS.values() if m.paper_row for variant in m.variants} <= runs
    assert parse("x2-cls") in runs


def test_settings_mean_what_they_say() -> None:
    by_row = {row.labels["row"]: row.run.options for row in STUDIES["table 4"].rows[1:]}
    assert [(o["background"], o["others"], o["groups"]) for o in by_row.values()] == [
        (False, False, 4), (True, False, 4), (False, True, 4), (True, True, 2), (True, True, 4), (True, True, 8)
    ]  # fmt: skip
    assert all(options["beta"] == 8 for options in by_row.values())
    betas = [row.run.options["beta"] for row in STUDIES["figure 4"].rows[1:]]
    assert betas == [0, 0.5, 1, 2, 4, 8, 16, "n", "all"]
    taus = [r.run.options["tau"] for r in STUDIES["figure 5"].rows if r.run.method.name.startswith("tau")]
    assert taus == [tau / 10 for tau in range(1, 11)] * 3


def test_a_run_comes_after_what_it_starts_from(mini: DataSet, tmp_path: Path) -> None:
    bench = Benchmark(Setup(mini, catalogue.get("tiny")), tmp_path)
    jobs = [(bench, parse(run)) for run in ("bags-tune-all", "bags", "bags:beta=1", "bags:beta=8")]
    assert [str(run) for _, run in run_all.order(jobs)] == ["baseline", "bags:beta=1", "bags-tune-all", "bags"]


def test_first_weights_come_first_and_once(mini: DataSet, tmp_path: Path) -> None:
    seeds = [Benchmark(Setup(mini, catalogue.get("tiny-mask"), seed=seed), tmp_path) for seed in (0, 1)]
    jobs = run_all.order((bench, parse(run)) for bench in seeds for run in ("rfs", "bags"))
    places = [f"{bench.setup.dataset.name} {bench.setup.seed} {run}" for bench, run in jobs]
    assert places == [
        "emoji-pretraining 0 baseline", f"{mini.name} 0 rfs", f"{mini.name} 0 baseline", f"{mini.name} 0 bags",
        f"{mini.name} 1 rfs", f"{mini.name} 1 baseline", f"{mini.name} 1 bags",
    ]  # fmt: skip
