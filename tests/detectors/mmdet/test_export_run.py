"""The detector of a run as mmdet has it: its own heads where they compute the scores, and the same detections."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.apis import inference_detector, init_detector

from imbalance_bench.categories import CategoryTable
from imbalance_bench.checkpoints import own as checkpoints
from imbalance_bench.classifiers import Classifier, GroupSoftmaxClassifier, SoftmaxClassifier
from imbalance_bench.detectors.mmdet import catalogue
from imbalance_bench.detectors.mmdet.building import build_detector
from imbalance_bench.detectors.mmdet.export import export_run
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.progress import logged_to

NAMES = ("ladle", "chair", "cup")
COUNTS = (3, 40, 900)


def made(name: str, kind: type[Classifier], folder: Path) -> tuple[Any, Path]:
    """A detector with random weights and such a classifier, and its checkpoint."""
    detector = catalogue.get(name)
    own = {"groups": [1, 2, 3]} if kind is GroupSoftmaxClassifier else {}
    torch.manual_seed(0)
    classifiers = [kind(len(NAMES), detector.tap_dims["fc"], **own) for _ in range(detector.num_stages)]
    for classifier in classifiers:
        torch.nn.init.normal_(classifier.weight, std=0.3)
    with logged_to(None):
        model = build_detector(detector, classifiers).eval()
    categories = CategoryTable.from_arrays(COUNTS, names=NAMES)
    checkpoints.save(folder / "checkpoint.pth", model.state_dict(), classifiers[0], categories)
    return model, folder / "checkpoint.pth"


@pytest.mark.parametrize(
    ("name", "kind", "plain"),
    [
        ("tiny", SoftmaxClassifier, True),
        ("tiny", GroupSoftmaxClassifier, False),
        ("tiny-boxes=own", SoftmaxClassifier, True),
        ("tiny-cascade", SoftmaxClassifier, True),
        ("tiny-mask", GroupSoftmaxClassifier, False),
        ("small", SoftmaxClassifier, True),
    ],
)
def test_it_detects_what_the_run_detects(name: str, kind: type[Classifier], plain: bool, tmp_path: Path) -> None:
    ours, checkpoint = made(name, kind, tmp_path)
    done = export_run(catalogue.get(name), checkpoint, tmp_path / "out")
    assert done.plain == plain and done.files == ("config.py", "checkpoint.pth")
    assert ("imbalance_bench" not in (tmp_path / "out" / "config.py").read_text()) == plain
    theirs = init_detector(tmp_path / "out" / "config.py", str(tmp_path / "out" / "checkpoint.pth"), device="cpu")
    assert tuple(theirs.dataset_meta["classes"]) == NAMES
    head = theirs.roi_head.bbox_head
    assert (type(head[0] if name == "tiny-cascade" else head).__name__ == "ClassifierBBoxHead") != plain
    image = np.random.default_rng(0).integers(0, 255, (96, 128, 3), dtype=np.uint8)
    expected, ours.cfg = inference_detector(theirs, image).pred_instances, theirs.cfg
    ours.dataset_meta = theirs.dataset_meta
    found = inference_detector(ours, image).pred_instances
    assert len(found) > 20 and len(found) == len(expected)
    torch.testing.assert_close(found.scores, expected.scores, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.bboxes, expected.bboxes, atol=1e-3, rtol=1e-4)
    assert torch.equal(found.labels, expected.labels)


def test_a_checkpoint_without_categories_is_refused(tmp_path: Path) -> None:
    _, path = made("tiny", SoftmaxClassifier, tmp_path)
    content = checkpoints.load(path)
    checkpoints.write(path, {"state_dict": content["state_dict"], "meta": {}})
    with pytest.raises(InputError, match=r"field 'meta\.categories' is missing"):
        export_run(catalogue.get("tiny"), path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
