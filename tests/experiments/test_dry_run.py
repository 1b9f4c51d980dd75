"""Detectors at full size on generated data: the data are valid, weights are loaded, every step runs."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imbalance_bench.classifiers import SoftmaxClassifier
from imbalance_bench.datasets import coco_format
from imbalance_bench.datasets.generated import OBJECTS, STUFF_CLASSES, generate
from imbalance_bench.detectors.mmdet import catalogue
from imbalance_bench.detectors.mmdet.building import build_detector, load_pretrained
from imbalance_bench.experiments.dry_run import shipped_checkpoint, try_detector


def test_generated_data_is_in_order(tmp_path: Path) -> None:
    data = generate(tmp_path, 1230, 3, 2, (96, 130))
    for path, images in ((data.train_annotations, 3), (data.val_annotations, 2)):
        content = json.loads(path.read_text())
        findings = coco_format.check(content, path.name)
        assert (findings.images, findings.annotations) == (images, images * OBJECTS)
        assert not findings.degenerate
        assert not findings.outside
        assert coco_format.is_federated(content)
        for image in content["images"]:
            present = {a["category_id"] for a in content["annotations"] if a["image_id"] == image["id"]}
            assert image["neg_category_ids"]
            assert not present & set(image["neg_category_ids"])
    assert data.categories().num_classes == 1230
    assert data.stuff_maps is not None
    for image in data.train_images.iterdir():
        stuff = np.asarray(Image.open(data.stuff_maps / f"{image.stem}.png"))
        assert stuff.shape == (96, 130)
        assert stuff.max() < STUFF_CLASSES
    again = generate(tmp_path / "again", 1230, 3, 2, (96, 130))
    assert again.train_annotations.read_bytes() == data.train_annotations.read_bytes()


@pytest.mark.parametrize("name", ["tiny", "tiny-htc"])
def test_a_trial(name: str, tmp_path: Path) -> None:
    trial = try_detector(catalogue.get(name), tmp_path, classes=20, size=(96, 128), iterations=2, batch_size=2)
    assert trial.iterations == 2
    stages = catalogue.get(name).num_stages
    assert trial.classifier_parameters * 1e6 == pytest.approx(stages * 257 * (20 + 1 + 4))  # BAGS of 4 groups
    assert trial.classifier_parameters < trial.parameters
    assert min(trial.seconds_per_iteration, trial.seconds_per_test_image, trial.memory) > 0


@pytest.mark.parametrize("name", ["faster-rcnn-r50", "mask-rcnn-r50"])
def test_a_detector_at_paper_scale_loads_one_of_cocos_classes_by_name(name: str, tmp_path: Path) -> None:
    detector = catalogue.get(name)
    model = build_detector(detector, [SoftmaxClassifier(1230, 1024)], pretrained=True)
    said = load_pretrained(model, shipped_checkpoint(detector, tmp_path / "coco.pth"))
    loaded, wanted = (int(word) for word in said.split(": ")[1].split(" tensors")[0].split(" of "))
    new = 6 if detector.has_masks else 4  # weight and bias of classifier, box regressor, last mask layer
    assert loaded == wanted == len(model.state_dict()) - new
    assert f"{new} new" in said
    assert "not found" not in said
    assert "not used" not in said
