"""Fixtures: users' own detectors with unusual data."""

import json
from pathlib import Path
from typing import Any

import pytest
from their_detector import IDS, MISSING, NAMES, Theirs, plain_config, save

from imbalance_bench.datasets.generated import generate


@pytest.fixture(scope="session")
def their_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """COCO format: ids with gaps and out of order, images that are missing, classes without boxes, hostile names."""
    root = tmp_path_factory.mktemp("theirs")
    generate(root, classes=len(NAMES), train_images=24, val_images=6, size=(96, 128))
    for split, without in (("train", "no train"), ("val", "no val")):
        path = root / f"{split}.json"
        content = json.loads(path.read_text())
        content["categories"] = [{"id": i, "name": n} for i, n in zip(IDS, NAMES, strict=True)]
        for number, annotation in enumerate(content["annotations"]):
            # Every class often enough, but the one.
            spread = [new for new, name in zip(IDS, NAMES, strict=True) if name != without]
            annotation["category_id"] = spread[number % 12 if number % 12 < len(spread) else 0]
        for image in content["images"]:
            del image["neg_category_ids"], image["not_exhaustive_category_ids"]
            image["id"] = 1000 - 3 * image["id"]
        for annotation in content["annotations"]:
            annotation["image_id"] = 1000 - 3 * annotation["image_id"]
        path.write_text(json.dumps(content))
    for number in range(MISSING):
        (root / "train" / f"{number}.jpg").unlink()
    return root


@pytest.fixture(scope="session")
def theirs(their_data: Path) -> Theirs:
    """Faster R-CNN with a box regressor for each class, as mmdet ships it."""

    def class_specific(model: Any) -> None:
        model.roi_head.bbox_head.reg_class_agnostic = False
        model.test_cfg.rcnn.update(score_thr=0.05, max_per_img=100)

    return save(their_data, "faster", plain_config("faster_rcnn/faster-rcnn_r50_fpn_1x_coco", class_specific))


@pytest.fixture(scope="session")
def cascade(their_data: Path) -> Theirs:
    """Cascade R-CNN."""
    return save(their_data, "cascade", plain_config("cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco"))
