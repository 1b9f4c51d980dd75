"""Commands that measure and compare finished runs, checkpoints and detections."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from imbalance_bench.datasets.registry import DataSet

Run = Callable[..., tuple[int, str, str]]
MINI = ("--dataset", "emoji-lt-mini")
RULES = "rules: COCO's"


def test_evaluate_and_accuracy(
    run: Run, folders: tuple[str, ...], finished: Path, mini: DataSet, tmp_path: Path
) -> None:
    baseline = finished / "baseline"
    metrics = json.loads((baseline / "record.json").read_text())["metrics"]
    data = folders[2:]
    expected = f"{100 * metrics['mAP']:.2f}"
    for path in (baseline, baseline / "detections.npz", baseline / "checkpoint.pth"):
        status, out, err = run("evaluate", path, *MINI, *data, "-o", tmp_path / "ap.csv")
        assert status == 0, err
        assert any(line.split()[:1] == ["mAP"] and line.split()[3] == expected for line in out.splitlines())
        assert len(pd.read_csv(tmp_path / "ap.csv")) == 12
        assert RULES in out and "95 % over classes" in out
    results = [{"image_id": 1, "category_id": 3, "bbox": [1, 2, 30, 40], "score": 0.5}]
    (tmp_path / "results.json").write_text(json.dumps(results))
    paths = ("--val-annotations", mini.val_annotations, "--train-annotations", mini.train_annotations)
    status, out, err = run("evaluate", tmp_path / "results.json", *paths, "--evaluator", "lvis")
    assert status == 0, err
    assert "mAP" in out
    for path in (baseline, baseline / "checkpoint.pth"):
        status, out, _ = run("proposal-accuracy", path, *MINI, *data)
        assert status == 0
        assert any(
            line.split()[:1] == ["ACCbg"] and line.split()[4] == f"{100 * metrics['ACCbg']:.2f}"
            for line in out.splitlines()
        )


def test_errors(run: Run, folders: tuple[str, ...], finished: Path, mini: DataSet, tmp_path: Path) -> None:
    bags = finished / "bags"
    status, out, err = run("errors", bags, *folders[2:], "-o", tmp_path)
    assert status == 0, err
    assert "no proposal" in out and "gains in AP50" in out and RULES in out
    frame = pd.read_csv(tmp_path / "errors_per_category.csv")
    measured = pd.read_csv(bags / "per_category.csv").iloc[:-1]
    assert np.allclose(frame["ap50"], measured["ap50"], equal_nan=True)
    assert frame["boxes"].tolist() == measured["val_instances"].tolist()
    # What no proposal covers is what proposal recall lacks, but for boxes that other detections stand on.
    lacking = (1 - measured["proposal_recall"]) * measured["val_instances"]
    assert (frame["box no proposal"] <= lacking + 1e-6).all()
    assert {p.name for p in tmp_path.iterdir()} == {
        "errors.png", "errors_best_detections.csv", "errors_boxes.csv", "errors_gains_in_AP50.csv",
        "errors_per_category.csv",
    }  # fmt: skip
    paths = ("--val-annotations", mini.val_annotations, "--train-annotations", mini.train_annotations)
    status, out, err = run("errors", bags / "detections.npz", *paths)
    assert status == 0, err
    assert "no detection" in out and "no proposal" not in out


@pytest.mark.parametrize("command", ["evaluate", "errors"])
def test_files_of_two_data_sets_are_refused(
    run: Run, finished: Path, mini: DataSet, tmp_path: Path, command: str
) -> None:
    other = json.loads(mini.val_annotations.read_text())
    other["categories"][3]["name"] = "somebody else's"
    (tmp_path / "val.json").write_text(json.dumps(other))
    paths = ("--val-annotations", tmp_path / "val.json", "--train-annotations", mini.train_annotations)
    status, out, err = run(command, finished / "baseline" / "detections.npz", *paths)
    assert status == 2 and not out
    assert f"{tmp_path / 'val.json'}: field 'categories': id 4 is \"somebody else's\"" in err


def test_a_file_is_looked_at_before_a_data_set_is_drawn(run: Run, mini: DataSet, tmp_path: Path) -> None:
    torch.save({"image_id": 1, "instances": []}, tmp_path / "neither.pth")
    (tmp_path / "cut.json").write_text('[{"image_id": 1')
    (tmp_path / "results.pkl").write_bytes(pickle.dumps([1]))
    empty = tmp_path / "data"
    for name in ("neither.pth", "cut.json", "results.pkl", "absent.json"):
        for command in (("evaluate",), ("errors",), ("compare", tmp_path / name)):
            status, out, err = run(*command, tmp_path / name, "--data-dir", empty)
            assert (status, out, err.count("\n")) == (2, "", 1)
            assert f"{tmp_path / name}: " in err and "expected" in err
    status, _, err = run("proposal-accuracy", tmp_path / "neither.pth", "--data-dir", empty)
    assert status == 2 and "must be a checkpoint" in err
    assert not empty.exists()
    stranger = [{"image_id": 10**9, "category_id": 3, "bbox": [1, 2, 30, 40], "score": 0.5}]
    (tmp_path / "stranger.json").write_text(json.dumps(stranger))
    paths = ("--val-annotations", mini.val_annotations, "--train-annotations", mini.train_annotations)
    status, _, err = run("evaluate", tmp_path / "stranger.json", *paths)
    assert status == 2 and "none of the images (1) is found in the annotations" in err and "found 1000000000" in err


def test_per_category(run: Run, finished: Path, tmp_path: Path) -> None:
    runs = [finished / name for name in ("baseline", "bags")]
    metrics = json.loads((runs[1] / "record.json").read_text())["metrics"]
    options = ("--measure", "accuracy", "--weights", "proposals", "-o", tmp_path / "joined.parquet")
    status, out, err = run("per-category", *runs, *options)
    assert status == 0, err
    (line,) = [line.split() for line in out.splitlines() if line.split()[:1] == ["bags"]]
    assert line[-1] == f"{metrics['ACCbg']:.4f}"
    joined, own = pd.read_parquet(tmp_path / "joined.parquet"), pd.read_csv(runs[1] / "per_category.csv")
    assert joined["bags.calibration_error"].to_numpy() == pytest.approx(own["calibration_error"], nan_ok=True)
    status, _, err = run("per-category", *runs, "--measure", "name")
    assert status == 2 and "no numeric field 'name'" in err
    status, _, err = run("per-category", *runs, "-o", tmp_path / "joined.txt")
    assert status == 2 and ".csv or .parquet" in err


def test_a_damaged_run_is_refused(run: Run, folders: tuple[str, ...], finished: Path, tmp_path: Path) -> None:
    bags = tmp_path / "bags"
    shutil.copytree(finished / "bags", bags)
    for name in ("detections.npz", "per_category.csv"):
        (bags / name).write_bytes((bags / name).read_bytes()[:-1])
    for command, name in (
        ("evaluate", "detections.npz"),
        ("errors", "detections.npz"),
        ("proposal-accuracy", "per_category.csv"),
    ):
        status, _, err = run(command, bags, *folders[2:])
        assert status == 2
        assert f"{bags / name}: was changed or damaged" in err and err.count("\n") == 1
    status, _, err = run("compare", bags, bags, *folders[2:])
    assert status == 2 and "detections.npz: was changed or damaged" in err


def test_compare(run: Run, folders: tuple[str, ...], finished: Path, tmp_path: Path) -> None:
    bags = finished / "bags"
    status, out, err = run("compare", bags, bags, "--resamples", 10, *folders[2:])
    assert status == 0, err
    line = next(line.split() for line in out.splitlines() if line.split()[:1] == ["mAP"])
    assert line[1] == line[2] and line[3:] == ["0.00", "0.00", "to", "0.00", "no"], "a run does not differ from itself"
    assert "95 % over images" in out and RULES in out
    status, _, err = run("compare", bags, tmp_path, *folders[2:])
    assert status == 2 and "record.json" in err
