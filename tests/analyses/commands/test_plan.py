"""The plan of runs: time estimated from finished runs, and a warning for random starts."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from analyses.commands import plan
from imbalance_bench.datasets.registry import DataSet
from imbalance_bench.detectors.mmdet import backbones, catalogue
from imbalance_bench.experiments.benchmark import Benchmark
from imbalance_bench.experiments.setup import Setup
from imbalance_bench.methods import parse

Run = Callable[..., tuple[int, str, str]]
MACHINE = "a fast one, 64 cores"


def record(root: Path, folder: str, seconds: float, dataset: str, variant: str = "released", **changes: object) -> None:
    """A finished run as its record tells it, with 100 train instances."""
    path = root / dataset / "tiny" / folder
    path.mkdir(parents=True)
    settings = {
        "dataset": dataset, "detector": "tiny", "method": path.name.partition("-")[0], "variant": variant,
        "schedule": {"epochs": 12}, **changes,
    }  # fmt: skip
    times = {"train": seconds - 1, "evaluate": 1}
    content = {"settings": settings, "provenance": {"seconds": times, "machine": MACHINE}, "metrics": {}}
    (path / "record.json").write_text(json.dumps(content))
    pd.DataFrame({"instance_count": [90, 10, None]}).to_csv(path / "per_category.csv")


@pytest.fixture
def committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "committed"
    root.mkdir()
    monkeypatch.setattr(plan, "COMMITTED", root)
    return root


def rows(out: str) -> dict[str, list[str]]:
    """Of each run what it takes, and by what."""
    return {cells[0]: cells[6:] for line in out.splitlines() if (cells := line.split())[3:5:2] == ["0"]}


def test_the_nearest_record_tells(run: Run, data_root: Path, committed: Path, tmp_path: Path) -> None:
    arguments = ("run-all", "--table", 4, "--dataset", "emoji-lt-mini", "--data-dir", data_root,
                 "--work-dir", tmp_path / "work", "--dry-run")  # fmt: skip
    status, out, _ = run(*arguments)
    assert status == 0 and "7 runs of unknown length: no record of tiny, 'detectors check'" in out

    # Of another data set: by train instances and epochs (mini's schedules are stretched).
    mini = Benchmark(Setup.named("emoji-lt-mini", "tiny", data_root, draw=False), tmp_path)
    longer = mini.schedule_of(parse("bags")).epochs / 12 * mini.setup.categories.instance_counts.sum() / 100
    record(committed, "seed0/bags", 2.0, "emoji-lt-small")
    out = run(*arguments)[1]
    assert rows(out)["bags:groups=2"] == [f"{2 * longer:.1f}", "s", "committed,", "scaled"]
    assert f"committed: results/measured, on {MACHINE}" in out and "1 runs of unknown length" in out

    # Of the same data set: the same run's own, else the median of those that train the same.
    record(committed, "seed0/bags", 2.0, "emoji-lt-mini")
    record(committed, "seed1/bags", 4.0, "emoji-lt-mini")
    record(committed, "seed0/bags-groups=2", 9.0, "emoji-lt-mini", "groups=2")
    record(committed, "seed0/bags-gone", 99.0, "emoji-lt-mini", "a variant that is no more")
    record(committed, "seed0/broken", 99.0, "emoji-lt-mini", schedule=[])
    found = rows(run(*arguments)[1])
    assert (found["bags"], found["bags:groups=2"]) == (["3.0", "s", "committed"], ["9.0", "s", "committed"])
    assert found["bags:groups=8"] == ["4.0", "s", "committed"]

    # The user's own go before them.
    record(tmp_path / "work", "seed5/bags", 50.0, "emoji-lt-mini")
    out = run(*arguments)[1]
    assert rows(out)["bags:groups=2"] == ["50.0", "s", "yours"]
    assert "about 5 min 00 s, one after the other" in out and MACHINE not in out


def test_a_dry_run_draws_nothing(run: Run, tmp_path: Path) -> None:
    where = ("--data-dir", tmp_path / "data", "--work-dir", tmp_path / "work")
    status, out, _ = run("run-all", "--table", 4, "--dataset", "emoji-lt-full", *where, "--dry-run")
    assert status == 0 and "7 runs of unknown length: emoji-lt-full is not drawn yet" in out
    assert not list(tmp_path.iterdir())


def test_the_committed_records_tell(run: Run, data_root: Path, tmp_path: Path) -> None:
    where = ("--data-dir", data_root, "--work-dir", tmp_path / "work")
    out = run("run-all", "--table", 1, "--dataset", "emoji-lt-small", "--classifier-level", *where, "--dry-run")[1]
    assert "unknown" not in out and "committed: results/measured, on " in out


def test_a_random_start_is_said(
    mini: DataSet, tmp_path: Path, run: Run, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tiny detector on anything but drawn pictures; others without a checkpoint or weights of their backbone."""

    def said(detector: str, photographs: bool, pretrained: bool) -> str:
        checkpoint = tmp_path / "coco.pth" if pretrained else None
        data = replace(mini, name="my-set", photographs=photographs, pretraining=None)
        return Benchmark(Setup(data, catalogue.get(detector)), tmp_path, pretrained=checkpoint).random_start or ""

    monkeypatch.setattr(backbones, "find", lambda name: None)
    (tmp_path / "coco.pth").touch()
    assert said("tiny", False, False) == said("tiny", True, True) == said("faster-rcnn-r50", True, True) == ""
    assert "expect a low AP; better take --detector small" in said("tiny", True, False)
    assert "--pretrained FILE takes mmdet's checkpoint of htc/htc_x101" in said("htc-x101", False, False)
    for name in catalogue.DETECTORS:
        assert len(said(name, True, False)) < 260
    assert Benchmark(Setup(mini, catalogue.get("faster-rcnn-r50")), tmp_path).random_start is None
    arguments = (
        "--table",
        2,
        "--from-scratch",
        "--detector",
        "faster-rcnn-r50",
        "--dataset",
        "emoji-lt-mini",
        "--data-dir",
        data_root,
    )
    out = run("run-all", *arguments, "--data-dir", data_root, "--work-dir", tmp_path / "work", "--dry-run")[1]
    warnings = [line.split()[0] for line in out.splitlines() if "starts from random weights" in line]
    assert warnings == ["faster-rcnn-r50", "faster-rcnn-x101", "cascade-rcnn-x101"]
