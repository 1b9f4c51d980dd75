"""Detections of single images, as they are shown: the best of an image, each right or wrong."""

import numpy as np
import pandas as pd
import torch
from torchvision.ops import box_iou

from imbalance_bench.categories import CategoryTable
from imbalance_bench.evaluation import examples
from imbalance_bench.evaluation.detections import Detections

TABLE = CategoryTable.from_arrays([4, 120], names=["ladle", "kite"])


def test_iou_is_torchvisions() -> None:
    rng = np.random.default_rng(0)
    a, b = (np.sort(rng.integers(0, 9, (n, 2, 2)), axis=1).reshape(n, 4).astype(float) for n in (60, 40))
    expected = box_iou(torch.tensor(a), torch.tensor(b)).numpy()
    np.testing.assert_allclose(examples._iou(a, b), np.nan_to_num(expected), atol=1e-12)
    assert (np.isnan(expected)).any(), "boxes without area are among them"


def test_as_many_as_there_are_objects_each_object_once() -> None:
    truth = pd.DataFrame(
        {"x1": [0.0, 50.0], "y1": [0.0, 50.0], "x2": [10.0, 60.0], "y2": [10.0, 60.0], "label": [0, 1]}
    )
    box, other = [0, 0, 10, 10], [50, 50, 60, 60]
    boxes = np.array([box, box, other, other, box], np.float32)
    found = Detections(
        np.array([7, 7, 7, 7, 8]), np.array([0, 0, 0, 1, 0]), boxes, np.array([0.6, 0.9, 0.8, 0.1, 1.0], np.float32)
    )
    best = examples.best(found, 7, truth, TABLE)
    assert best["score"].tolist() == found.scores[[1, 2]].tolist() and best["name"].tolist() == ["ladle", "ladle"]
    assert best["correct"].tolist() == [True, False], "the second is on the box of another class"
    twice = examples.best(found, 7, truth.assign(label=0), TABLE)
    assert twice["correct"].tolist() == [True, True]
    again = Detections(found.image_ids, np.zeros(5, int), boxes[[0, 1, 0, 0, 0]], found.scores)
    assert examples.best(again, 7, truth, TABLE)["correct"].tolist() == [True, False], "a box is found once"
