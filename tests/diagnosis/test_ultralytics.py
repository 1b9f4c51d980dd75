"""The diagnosis of a YOLO; its exports are loaded by ultralytics alone."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("imbalance_bench.detectors.ultralytics.library", exc_type=ImportError)
sys.path.insert(0, str(Path(__file__).parents[1] / "detectors" / "yolo"))
from little_ultralytics import HEADS, make, save
from PIL import Image
from their_detector import NAMES
from ultralytics import YOLO

from imbalance_bench import diagnose
from imbalance_bench.diagnosis.result import Diagnosis
from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.runtime.errors import InputError

TRIED = ("bce", "cls-pw", "gumbel")


@pytest.fixture(scope="module", params=("yolo11", "yolo26 one2one"))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def run(folder: Path, kind: str, data: Path, export: str) -> Diagnosis:
    return diagnose(
        HEADS[kind], folder / "best.pt", data / "train.json", data / "val.json", data / "train",
        val_images=data / "val", out=folder / "out", skip_missing=True, methods=TRIED, tune=False, max_images=8,
        export=export, framework="ultralytics",
    )  # fmt: skip


@pytest.fixture(scope="module")
def found(kind: str, their_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Diagnosis:
    folder = tmp_path_factory.mktemp("user")
    save(make(kind, classes=len(NAMES)), folder / "best.pt", names=tuple(NAMES[::-1]))
    with pytest.raises(InputError, match="'--export': the scores of GumbelClassifier are not sigmoids of a linear"):
        run(folder, kind, their_data, "gumbel")
    run(folder, kind, their_data, "cls-pw")
    return Diagnosis.read(folder / "out")


def test_it_holds_everything(found: Diagnosis, kind: str) -> None:
    assert set(found.fixes.index) == {*TRIED, "baseline"} and found.fixes["mAP"].notna().all()
    assert found.per_category["name"].tolist()[:-1] == NAMES[::-1], "labels are by the names of the checkpoint"
    assert any(f"all scores of the head {HEADS[kind]}" in note for note in found.summary["notes"])
    assert found.summary["exported"]["files"] == ["best.pt"] and found.summary["exported"]["plain"]


def test_an_export_detects_what_was_measured(found: Diagnosis, kind: str, their_data: Path) -> None:
    listed = json.loads((found.folder / "val.json").read_text())["images"]
    image = max(listed, key=lambda image: image["id"])
    pixels = np.asarray(Image.open(their_data / "val" / image["file_name"]).convert("RGB"))[..., ::-1]
    model = YOLO(found.folder / "export-cls-pw" / "best.pt")
    assert list(model.names.values()) == NAMES[::-1]
    more: dict[str, Any] = {"nms": False} if HEADS[kind] == "one2one" else {}
    (theirs,) = model.predict(np.ascontiguousarray(pixels), conf=0.001, verbose=False, **more)
    ours = Detections.load(found.folder / found.summary["runs"]["cls-pw"] / "detections.npz")
    own = ours.image_ids == image["id"]
    assert own.sum() > 10 and len(theirs.boxes) > 10
    for box in theirs.boxes.data.numpy()[:15]:
        near = (np.abs(ours.boxes[own] - box[:4]).max(axis=1) < 1e-2) & (ours.labels[own] == int(box[5]))
        assert (np.abs(ours.scores[own][near] - box[4]) < 1e-4).any()


def test_an_export_changes_the_classifier_alone(found: Diagnosis, kind: str) -> None:
    before, after = (
        YOLO(path).model.state_dict()
        for path in (found.folder.parent / "best.pt", found.folder / "export-cls-pw" / "best.pt")
    )
    changed = {name for name in before if not before[name].equal(after[name])}
    head = "one2one_cv3" if HEADS[kind] == "one2one" else "cv3"
    assert before.keys() == after.keys() and len(changed) == 6
    assert all(f".{head}." in name and ".2." in name for name in changed)
