"""The study of what makes the embedded set like LVIS: gains beside the paper's, and each set's correlation with it."""

import json
from pathlib import Path

import pandas as pd
import pytest

from analyses import outputs, published, worlds
from analyses.studies import STUDIES
from imbalance_bench.datasets.emoji_profile import WORLDS
from imbalance_bench.runtime.errors import InputError

MEASURES = ("mAP", "AP1", "AP2", "AP3", "AP4")


def write(work_dir: Path, world: str, seed: int, sign: int, rows: slice = slice(None)) -> None:
    """Write records whose differences to the baseline are the paper's, or their opposite."""
    printed = published.table(1).set_index("ID")
    study = STUDIES["table 1"]
    for row in [study.rows[0], *study.representatives[rows]]:
        number = int(row.labels["row"].strip("()"))
        of = {m: 0.5 + sign * (printed[m][number] - printed[m][1]) / 100 for m in MEASURES}
        settings = {"seed": seed, "dataset": world, "bin_edges": [10, 100, 400], "detector": "tiny", "schedule": None}
        provenance = {"seconds": {}, "machine": "", "date": "2026-01-01", "versions": {}, "command": ""}
        folder = work_dir / world / "tiny" / f"seed{seed}" / row.run.folder
        folder.mkdir(parents=True)
        record = {"settings": settings, "provenance": provenance, "metrics": of}
        (folder / "record.json").write_text(json.dumps(record))


def test_gains_and_correlations(tmp_path: Path) -> None:
    write(tmp_path, WORLDS[0], 10, 1)
    write(tmp_path, WORLDS[0], 0, -1)  # a seed that is reported, by which nothing was chosen
    write(tmp_path, WORLDS[1], 11, -1, slice(1, None))
    runs = worlds.read(tmp_path, "tiny")
    assert set(runs["seed"]) == {10, 11}
    gains = worlds.gains(runs)
    assert list(gains.columns) == ["paper", *WORLDS[:2]]
    assert "x2" not in gains.index and len(gains) == 12, "rows that every set has"
    pd.testing.assert_series_equal(gains[WORLDS[0]], gains["paper"], check_names=False)
    pd.testing.assert_series_equal(gains[WORLDS[1]], -gains["paper"], check_names=False)
    assert gains.loc["bags (released)", "paper"] == pytest.approx(4.98)
    found = worlds.fidelities(runs)
    assert found.loc[WORLDS[0], list(MEASURES)].tolist() == pytest.approx([1.0] * 5)
    assert found.loc[WORLDS[1], list(MEASURES)].tolist() == pytest.approx([-1.0] * 5)
    for path in outputs.draw_worlds(tmp_path, "tiny", tmp_path / "worlds.png"):
        assert path.stat().st_size > 1000


def test_one_set_is_no_study(tmp_path: Path) -> None:
    write(tmp_path, WORLDS[0], 10, 1)
    with pytest.raises(InputError, match=r"1 of the sets .* have runs of seed 10, expected two; 'run-all"):
        worlds.read(tmp_path, "tiny")
