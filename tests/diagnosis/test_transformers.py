"""The diagnosis of DETRs of transformers; plain exports are loaded by transformers alone."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

hf = pytest.importorskip("transformers")
sys.path.insert(0, str(Path(__file__).parents[1] / "detectors" / "transformers"))
from little_transformers import CLASSES, make, save  # noqa: E402
from PIL import Image  # noqa: E402
from their_detector import NAMES  # noqa: E402

from imbalance_bench import diagnose  # noqa: E402
from imbalance_bench.detectors.transformers.hosting import load_hosted, post_process  # noqa: E402
from imbalance_bench.diagnosis.page import render  # noqa: E402
from imbalance_bench.diagnosis.result import Diagnosis  # noqa: E402
from imbalance_bench.evaluation.detections import Detections  # noqa: E402

EXPORTS = {
    "detr": {"x2-cls": True, "bags": False},
    "two_stage": {"bce": True, "gumbel": False},
    "d_fine": {"bce": True},
}
"""Of a kind of model, fixes and whether transformers alone runs them."""


@pytest.fixture(scope="module", params=EXPORTS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def found(kind: str, their_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Diagnosis:
    folder = tmp_path_factory.mktemp("user") / kind
    model: Any = make(kind)
    model.config.id2label = dict(enumerate(NAMES[::-1]))
    model.config.label2id = {name: label for label, name in enumerate(NAMES[::-1])}
    weights = save(model, folder, kind)
    for method in EXPORTS[kind]:
        diagnose(
            str(folder), weights, their_data / "train.json", their_data / "val.json", their_data / "train",
            val_images=their_data / "val", out=folder / "out", skip_missing=True, methods=tuple(EXPORTS[kind]),
            tune=False, max_images=8, export=method, framework="transformers",
        )  # fmt: skip
    return Diagnosis.read(folder / "out")


def test_it_holds_everything(found: Diagnosis, kind: str) -> None:
    assert set(found.fixes.index) == {*EXPORTS[kind], "baseline"} and found.fixes["mAP"].notna().all()
    assert found.per_category["name"].tolist()[:-1] == NAMES[::-1], "labels are by the names of id2label"
    assert any("queries" in note for note in found.summary["notes"])
    chosen = kind != "detr"
    assert ("chosen_recall" in found.per_category) == ("chosen_recall" in found.bins) == chosen
    if chosen:
        rows = found.per_category.iloc[:-1].groupby("bin")
        for name in ("chosen_recall", "proposal_recall"):
            shares = rows.apply(lambda part, name=name: np.average(part[name].fillna(0), weights=part["val_instances"]))
            assert np.allclose(found.bins.loc[shares.index.astype(str), name], shares)
    assert (
        ("encoder chose" in " ".join(found.summary["verdict"]))
        == ("covered by chosen queries" in render(found))
        == chosen
    )


def test_an_export_detects_what_was_measured(found: Diagnosis, kind: str, their_data: Path) -> None:
    listed = json.loads((found.folder / "val.json").read_text())["images"]
    image = max(listed, key=lambda image: image["id"])
    path, size = their_data / "val" / image["file_name"], (image["height"], image["width"])
    for method, plain in EXPORTS[kind].items():
        folder = found.folder / f"export-{method}"
        model = (
            load_hosted(folder, folder / "checkpoint.pth")
            if not plain
            else (hf.AutoModelForObjectDetection.from_pretrained(folder).eval())
        )
        processor = hf.AutoImageProcessor.from_pretrained(folder)
        with torch.no_grad():
            outputs = model(**processor(images=Image.open(path).convert("RGB"), return_tensors="pt"))
        ours = Detections.load(found.folder / found.summary["runs"][method] / "detections.npz")
        own = ours.image_ids == image["id"]
        assert own.sum() > 10
        if plain or kind != "detr":
            theirs = processor.post_process_object_detection(outputs, 0.0, [size])[0]
        else:  # the scores of BAGS are no softmax
            theirs = post_process(model, outputs, 0.0, [size])[0]
        for box, score, label in list(zip(theirs["boxes"], theirs["scores"], theirs["labels"], strict=True))[:15]:
            near = (np.abs(ours.boxes[own] - box.numpy()).max(axis=1) < 1e-2) & (ours.labels[own] == int(label))
            assert (np.abs(ours.scores[own][near] - float(score)) < 1e-4).any()
        config = json.loads((folder / "config.json").read_text())
        assert list(config["id2label"].values()) == NAMES[::-1] and len(NAMES) == CLASSES
        assert (folder / "preprocessor_config.json").is_file()
        assert (folder / "model.safetensors").is_file() == plain == (not (folder / "load.py").exists())


def test_a_plain_export_changes_the_classifier_alone(found: Diagnosis, kind: str) -> None:
    method = next(iter(EXPORTS[kind]))
    before, after = (
        hf.AutoModelForObjectDetection.from_pretrained(folder).state_dict()
        for folder in (found.folder.parent, found.folder / f"export-{method}")
    )
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert before.keys() == after.keys() and changed
    assert all("class_embed.1." in name or "class_labels_classifier" in name for name in changed)
