"""Sizes of boxes against anchors: the formula against intersections of boxes, and what is said."""

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from imbalance_bench.datasets.box_sizes import Fit, fit, sizes
from imbalance_bench.detectors.mmdet import catalogue
from imbalance_bench.detectors.mmdet.anchors import anchor_sizes, resize_factors


def test_fit_is_the_best_overlap_in_the_same_place() -> None:
    rng = np.random.default_rng(0)
    boxes, anchors = rng.uniform(4, 200, (60, 2)), rng.uniform(8, 150, (7, 2))
    there = [torch.tensor(np.concatenate([-sizes / 2, sizes / 2], axis=1)) for sizes in (boxes, anchors)]
    found = fit(boxes, anchors)
    assert found.no_anchor == pytest.approx(float((box_iou(*there).max(dim=1).values < 0.5).double().mean()))
    assert 0 < found.no_anchor < 1
    assert found.small == pytest.approx((boxes.min(axis=1) < 8).mean())
    assert found.side == pytest.approx(np.median(np.sqrt(boxes[:, 0] * boxes[:, 1])))


def test_sizes_are_those_of_objects_alone() -> None:
    images = [{"id": 3, "width": 64, "height": 48}, {"id": 5, "width": 20, "height": 30}]
    annotations = [
        {"image_id": 5, "bbox": [0, 0, 4, 6]},
        {"image_id": 3, "bbox": [1, 1, 9, 8]},
        {"image_id": 3, "bbox": [1, 1, 9, 8], "iscrowd": 1},
        {"image_id": 3, "bbox": [1, 1, 9, 0]},
    ]
    boxes, around = sizes({"images": images, "annotations": annotations})
    assert boxes.tolist() == [[4, 6], [9, 8]] and around.tolist() == [[20, 30], [64, 48]]


def test_what_does_not_suit_is_said() -> None:
    assert Fit(side=40, no_anchor=0.1, small=0.1).warnings("tiny") == []
    shape, small = Fit(side=9, no_anchor=0.234, small=0.5).warnings("tiny")
    assert shape.startswith("tiny: no anchor has the shape of 23% of the boxes") and "50% of the boxes" in small


def test_anchors_and_sizes_of_detectors() -> None:
    tiny, small, paper = (catalogue.get(name) for name in ("tiny", "small", "faster-rcnn-r50"))
    assert sorted(np.sqrt(anchor_sizes(tiny).prod(axis=1)).round(3)) == [16, 24, 32, 48, 64, 96, 128, 192]
    assert np.sqrt(anchor_sizes(small).prod(axis=1)).round(3).tolist() == [
        s for s in (16, 32, 64, 128, 256) for _ in "123"
    ]
    assert anchor_sizes(paper).max() > 512
    images = np.array([[640.0, 480.0], [100.0, 300.0]])
    assert resize_factors(tiny, images).tolist() == [1, 1]
    assert resize_factors(small, images) == pytest.approx([320 / 640, 320 / 300])
    assert resize_factors(paper, images) == pytest.approx([800 / 480, min(800 / 100, 1333 / 300)])
