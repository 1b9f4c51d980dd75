"""Ambiguous cases of the protocols: ours equals pycocotools and the official lvis, category by category.

Scores, boxes and overlaps that tie; crowd regions; areas of 0, below it and beyond all images; detections without area
or with negative sides; images without negatives; categories that are not exhaustive, listed without a box, or without
ground truth; few detections that count.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from packages import MEASURES, official, pycocotools
from pycocotools import mask as coco_mask

from imbalance_bench.categories import CategoryTable
from imbalance_bench.evaluation.average_precision import evaluate
from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.evaluation.fixed_ap import fixed_ap
from imbalance_bench.evaluation.ground_truth import GroundTruth
from imbalance_bench.evaluation.matching import average_precision, match
from imbalance_bench.evaluation.rle import Masks

IDS = np.array([3, 5, 8, 13])
CATEGORIES = CategoryTable(IDS, tuple("abcd"), np.arange(4), np.arange(4), tuple("rccf"), (2, 4))
SIDE = 100
LIMITS = pytest.mark.parametrize("max_detections", [3, 10, 300])
SEEDS = pytest.mark.parametrize("seed", range(12))


def rectangle(box):
    """Mask of an xywh box."""
    x, y, w, h = (int(side) for side in box)
    mask = np.zeros((SIDE, SIDE), np.uint8, order="F")
    mask[y : y + h, x : x + w] = 1
    return coco_mask.encode(mask)


def scene(seed, odd_areas=True):
    """Annotations of all categories but the last, and detections; corners are whole numbers, so that overlaps tie."""
    rng = np.random.default_rng(seed)
    content, rows = {"images": [], "annotations": []}, []
    flat, odd = (0.05, 0.1) if odd_areas else (0, 0)
    for image_id in (rng.permutation(8) * 7 + 1).tolist():
        present = rng.choice(IDS[:3], 2, replace=False)
        image = {"id": image_id, "height": SIDE, "width": SIDE}
        if rng.random() < 0.7:
            image["neg_category_ids"] = np.setdiff1d(IDS, present)[: rng.integers(3)].tolist()
        if rng.random() < 0.7:
            image["not_exhaustive_category_ids"] = rng.choice(IDS, rng.integers(3), replace=False).tolist()
        content["images"].append(image)
        for category in rng.choice(present, rng.integers(7)).tolist():
            x, y = rng.integers(5, 50, 2).tolist()
            w, h = rng.choice([0, 8, 20, 30], 2, p=[flat, 0.3, 0.4 - flat, 0.3]).tolist()
            entry = {"image_id": image_id, "category_id": category, "bbox": [x, y, w, h]}
            entry |= {"iscrowd": int(rng.random() < 0.2), "segmentation": decoded(rectangle([x, y, w, h]))}
            if rng.random() < odd:
                entry["area"] = float(rng.choice([0, -1, 1e11, 1e10]))
            content["annotations"] += [entry] * (1 + (rng.random() < 0.3))
            for _ in range(rng.integers(4)):
                label = np.searchsorted(IDS, category) if rng.random() < 0.8 else rng.integers(4)
                shift = rng.integers(-3, 4, 4).clip(None, [3, 3, 2, 2])
                rows.append((image_id, label, *(np.array([x, y, w, h]) + shift)))
        for _ in range(rng.integers(5)):
            sides = rng.choice([-3, 0, 8, 20, 1e6], 2, p=[odd, odd, 0.5 - odd, 0.5 - 2 * odd, odd])
            rows.append((image_id, rng.integers(4), *rng.integers(5, 50, 2), *sides))
    table = np.array(rows, dtype=np.float64)[rng.permutation(len(rows))]
    boxes = table[:, 2:].copy()
    if not odd_areas:
        boxes[:, 2:] = boxes[:, 2:].clip(1)
    masks = None if odd_areas else Masks.join([rectangle(box) for box in boxes])
    boxes[:, 2:] += boxes[:, :2]
    scores = np.round(rng.random(len(table)), 1)
    return content, Detections(table[:, 0].astype(int), table[:, 1].astype(int), boxes, scores, masks)


def decoded(rle):
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def assert_equal(ours, theirs):
    pd.testing.assert_frame_equal(ours[MEASURES], theirs, rtol=0, atol=1e-9)


@SEEDS
@LIMITS
def test_coco(seed, max_detections):
    content, found = scene(seed)
    truth = GroundTruth.read(content, CATEGORIES, lvis_style=False)
    ours = evaluate(found, truth, max_detections=max_detections)
    assert_equal(ours, pycocotools(content, found, CATEGORIES, max_detections))
    matched = average_precision(match(found, truth, max_detections))
    np.testing.assert_allclose(matched, ours["ap"], rtol=0, atol=1e-9)


@SEEDS
@LIMITS
def test_federated(seed, max_detections, tmp_path):
    content, found = scene(seed)
    truth = GroundTruth.read(content, CATEGORIES, lvis_style=True)
    ours = evaluate(found, truth, max_detections=max_detections)
    assert_equal(ours, official(content, found, CATEGORIES, tmp_path, max_detections))
    matched = average_precision(match(found, truth, max_detections))
    np.testing.assert_allclose(matched, ours["ap"], rtol=0, atol=1e-9)


@SEEDS
@LIMITS
def test_masks(seed, max_detections, tmp_path):
    content, found = scene(seed, odd_areas=False)
    for lvis_style in (False, True):
        truth = GroundTruth.read(content, CATEGORIES, lvis_style=lvis_style, iou_type="segm")
        ours = evaluate(found, truth, max_detections=max_detections)
        if lvis_style:
            theirs = official(content, found, CATEGORIES, tmp_path, max_detections, "segm")
        else:
            theirs = pycocotools(content, found, CATEGORIES, max_detections, "segm")
        assert_equal(ours, theirs)


@SEEDS
def test_without_a_limit(seed, tmp_path):
    content, found = scene(seed)
    ap, _ = fixed_ap(found, GroundTruth.read(content, CATEGORIES, lvis_style=True))
    theirs = official(content, found, CATEGORIES, tmp_path, -1)
    np.testing.assert_allclose(ap, theirs["ap"], rtol=0, atol=1e-9)


@pytest.mark.parametrize("lvis_style", [False, True])
def test_no_images(lvis_style):
    truth = GroundTruth.read({"images": [], "annotations": []}, CATEGORIES, lvis_style=lvis_style)
    frame = evaluate(Detections.from_images([], []), truth)
    assert frame[MEASURES].isna().all(axis=None) and frame["val_images"].tolist() == [0] * 4


@pytest.mark.parametrize("lvis_style", [False, True])
def test_ids_of_any_sign_and_size(lvis_style):
    """hotcoco takes none below 0, and a column of numbers in double precision holds none beyond 2**53."""
    content, found = scene(0)
    expected = evaluate(found, GroundTruth.read(content, CATEGORIES, lvis_style=lvis_style))
    lists = "neg_category_ids", "not_exhaustive_category_ids"

    def other(image_id):
        return 2**60 + image_id if image_id > 25 else image_id - 100

    images = [
        image | {"id": other(image["id"])} | {key: [c - 9 for c in image[key]] for key in lists if key in image}
        for image in content["images"]
    ]
    boxes = [
        entry | {"image_id": other(entry["image_id"]), "category_id": entry["category_id"] - 9}
        for entry in content["annotations"]
    ]
    truth = GroundTruth.read(
        {"images": images, "annotations": boxes}, replace(CATEGORIES, ids=IDS - 9), lvis_style=lvis_style
    )
    image_ids = np.array([other(image_id) for image_id in found.image_ids.tolist()])
    pd.testing.assert_frame_equal(evaluate(replace(found, image_ids=image_ids), truth), expected)


def test_the_scenes_are_odd_and_something_is_found():
    """Else the tests above could hold of nothing."""
    drawn = [scene(seed) for seed in range(12)]
    boxes = [entry for content, _ in drawn for entry in content["annotations"]]
    assert any(entry["iscrowd"] for entry in boxes) and {0, -1, 1e10, 1e11} <= {entry.get("area") for entry in boxes}
    sides = np.concatenate([found.boxes[:, 2:] - found.boxes[:, :2] for _, found in drawn])
    assert (sides == 0).any() and (sides < 0).any() and (sides == 1e6).any()
    assert any("neg_category_ids" not in image for content, _ in drawn for image in content["images"])
    for lvis_style in (False, True):
        aps = np.array(
            [evaluate(found, GroundTruth.read(c, CATEGORIES, lvis_style=lvis_style))["ap"] for c, found in drawn]
        )
        assert np.isnan(aps[:, 3]).all() and 0.1 < np.nanmean(aps) < 0.9
