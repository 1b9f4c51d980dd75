"""The diagnosis of mmdet's dense and query detectors; their exports are loaded by plain mmdet."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from their_detector import NAMES, ON_SIGMOIDS

sys.path.insert(0, str(Path(__file__).parents[1] / "detectors" / "mmdet"))
from little_mmdet import config, make, save
from mmdet.apis import inference_detector, init_detector

from imbalance_bench import diagnose
from imbalance_bench.datasets.generated import generate
from imbalance_bench.detectors.mmdet.opening import open_config
from imbalance_bench.diagnosis.page import render
from imbalance_bench.diagnosis.result import Diagnosis
from imbalance_bench.diagnosis.trials import fitting
from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.experiments.benchmark import Benchmark
from imbalance_bench.experiments.setup import Setup
from imbalance_bench.methods import candidates
from imbalance_bench.runtime.errors import InputError


@pytest.fixture(scope="module", params=("atss", "dino"))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def files(kind: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return save(make(kind), config(kind), tmp_path_factory.mktemp("user") / kind, tuple(NAMES[::-1]))


@pytest.fixture(scope="module")
def found(files: tuple[Path, Path], their_data: Path) -> Diagnosis:
    out = files[0].parent / "out"
    diagnose(
        str(files[0]), files[1], their_data / "train.json", their_data / "val.json", their_data / "train",
        val_images=their_data / "val", out=out, skip_missing=True, methods=("bce",), tune=False, max_images=8,
        export="bce",
    )  # fmt: skip
    return Diagnosis.read(out)


def test_it_holds_everything(found: Diagnosis, kind: str) -> None:
    assert set(found.fixes.index) == {"bce", "baseline"} and found.fixes["mAP"].notna().all()
    assert found.per_category["name"].tolist()[:-1] == NAMES[::-1], "labels are in the order of the checkpoint's names"
    what = {"atss": "scores of the anchors", "dino": "scores of 20 queries"}[kind]
    assert any(what in note for note in found.summary["notes"])
    assert ("chosen_recall" in found.per_category) == ("chosen_recall" in found.bins) == (kind == "dino")
    assert ("covered by chosen queries" in render(found)) == (kind == "dino")


def test_an_export_detects_what_was_measured(found: Diagnosis, their_data: Path) -> None:
    listed = json.loads((found.folder / "val.json").read_text())["images"]
    image = max(listed, key=lambda image: image["id"])
    folder = found.folder / "export-bce"
    model = init_detector(folder / "config.py", str(folder / "checkpoint.pth"), device="cpu")
    assert list(model.dataset_meta["classes"]) == NAMES[::-1]
    theirs = inference_detector(model, str(their_data / "val" / image["file_name"])).pred_instances
    ours = Detections.load(found.folder / found.summary["runs"]["bce"] / "detections.npz")
    own = ours.image_ids == image["id"]
    assert own.sum() > 100
    for box, score, label in list(zip(theirs.bboxes, theirs.scores, theirs.labels, strict=True))[:15]:
        near = (np.abs(ours.boxes[own] - box.numpy()).max(axis=1) < 1e-2) & (ours.labels[own] == int(label))
        assert (np.abs(ours.scores[own][near] - float(score)) < 1e-4).any()


def test_methods_that_need_background_are_refused(files: tuple[Path, Path], tmp_path: Path) -> None:
    data = generate(tmp_path / "data", len(NAMES), 6, 2, (64, 64))
    detector = open_config(files[0])
    bench = Benchmark(Setup(data, detector), tmp_path)
    fit, notes = fitting(bench, detector, candidates(None), asked=False)
    assert [method.name for method in fit] == ON_SIGMOIDS
    assert any("seesaw" in note and "it scores background by a row of its own" in note for note in notes)
    with pytest.raises(InputError, match=r"'seesaw' cannot be tried on .*: it scores background"):
        fitting(bench, detector, candidates(("eql", "seesaw")), asked=True)
