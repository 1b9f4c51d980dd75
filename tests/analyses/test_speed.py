"""The benchmarks run at a tiny size, and their own checks hold."""

import importlib.util
import math
import sys
from pathlib import Path

import pandas as pd
import pytest

from analyses import speed
from imbalance_bench import plotting

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Benchmarks are scripts beside each other, not a package."""
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])


def test_rows_say_how_many_times_as_fast() -> None:
    from timing import COLUMNS, in_turns, row

    turns: list[str] = []
    in_turns(lambda: turns.append("ours"), lambda: turns.append("theirs"), repeats=2)
    assert turns == ["ours", "theirs"] * 3
    made = row("b", "c", 2.0, "other", 5.0)
    assert tuple(made) == COLUMNS
    assert made["ratio"] == 2.5
    assert math.isnan(row("b", "c", 2.0)["ratio"])


def test_bags_loss() -> None:
    from bags_loss import measure

    assert [r["alternative"] for r in measure(sizes=(64,), repeats=1)] == ["softmax cross-entropy"] * 2


def test_scoring_finds_what_mmdet_finds() -> None:
    from scoring import measure

    (row,) = measure(images=2, proposals=60, classes=12, repeats=1)
    assert row["ratio"] > 0


def test_lvis_evaluation_agrees_with_all_packages(tmp_path: Path) -> None:
    import ap_peers
    import lvis_evaluation

    lvis_evaluation.generate(tmp_path, images=12, detections=40, classes=30)
    measured = {
        (name, source): ap_peers.measure(tmp_path, name, source)
        for name, (_, module, sources) in ap_peers.PEERS.items()
        if importlib.util.find_spec(module) is not None
        for source in sources
    }
    assert len(measured) >= 7  # ours, hotcoco, faster-coco-eval, lvis
    ap = measured["ours", "arrays"]["ap"]
    assert 0.001 < ap < 0.9
    for one in measured.values():
        assert one["ap"] == pytest.approx(ap, abs=1e-9)
        assert one["seconds"] > 0 and one["mib"] > 10


def test_lvis_evaluation_measures_each_package_in_a_process_of_its_own() -> None:
    import lvis_evaluation

    rows = lvis_evaluation.measure(images=6, detections=20, classes=10, repeats=1)
    assert {"hotcoco", "faster-coco-eval", "official lvis"} <= {row["alternative"] for row in rows}


def test_large_cache_trains_alike_in_both_ways(tmp_path: Path) -> None:
    import large_cache
    import torch

    from imbalance_bench.proposals import store as proposals

    large_cache.generate(tmp_path / "train", images=3, classes=40)
    part = proposals.read(tmp_path / "train")
    (stored,) = part.features
    counts = [len(stored)]
    mapped = large_cache.MappedRows(stored.files, counts, stored.dim, stored.dtype)
    assert torch.equal(mapped.tensor([slice(7, 600)]), stored.tensor([slice(7, 600)]))
    for as_mapped in (False, True):
        assert large_cache.train(tmp_path / "train", as_mapped, 0, classes=40)[1] == 3 * large_cache.ROIS


def test_weight_norms_are_those_of_the_whole_checkpoint(tmp_path: Path) -> None:
    import weight_norms

    weight_norms.make(tmp_path / "a.pth", gigabytes=0.0625)
    assert weight_norms.ours(tmp_path / "a.pth")[1] == pytest.approx(weight_norms.theirs(tmp_path / "a.pth")[1])


def test_figure_of_the_measured_benchmarks(tmp_path: Path) -> None:
    table = pd.read_csv(ROOT / "results" / "measured" / "benchmarks.csv")
    ratios = table[table["alternative"].notna()]
    drawn = speed.figure(table)
    assert len(drawn.axes[0].patches) == len(ratios)
    curves = table["benchmark"][table["benchmark"].str.startswith("cost by")]
    assert len(drawn.axes) == 1 + curves.nunique()
    assert plotting.save(drawn, tmp_path / "benchmarks.png").stat().st_size > 10_000
