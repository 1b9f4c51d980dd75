"""Which ground-truth boxes proposals cover, against a loop over pairs."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from imbalance_bench.categories import CategoryTable
from imbalance_bench.evaluation.coverage import best_overlaps, proposal_recall
from imbalance_bench.evaluation.ground_truth import GroundTruth

CATEGORIES = CategoryTable(np.array([3, 5, 9]), tuple("abc"), np.ones(3, int), np.ones(3, int), ("r", "c", "f"))


def scene(rng: np.random.Generator) -> GroundTruth:
    """Image 11 has no box; a crowd region among those of image 10; category 9 has none."""
    boxes = [
        {
            "image_id": image,
            "category_id": int(rng.choice([3, 5])),
            "bbox": [*rng.uniform(0, 50, 2).tolist(), *rng.uniform(5, 40, 2).tolist()],
            "iscrowd": int(number == 0),
        }
        for image in (10, 12)
        for number in range(8)
    ]
    content = {"images": [{"id": i, "height": 90, "width": 90} for i in (12, 11, 10)], "annotations": boxes}
    return GroundTruth.read(content | {"categories": []}, CATEGORIES, lvis_style=False)


def proposals(rng: np.random.Generator, class_specific: bool) -> SimpleNamespace:
    """Of images 12, 10 and 11 (30, 0 and 20 of them), as a cache has them."""
    corner = rng.uniform(0, 50, (50, 2))
    boxes = torch.from_numpy(np.hstack([corner, corner + rng.uniform(5, 40, (50, 2))])).float()
    offsets = np.array([0, 30, 30, 50])

    def boxes_of(position: int) -> Any:
        own = boxes[offsets[position] : offsets[position + 1]]
        return (lambda proposal, label: own[proposal] + 3 * label[:, None]) if class_specific else own

    return SimpleNamespace(
        image_ids=np.array([12, 10, 11]),
        offsets=offsets,
        rows=lambda position: slice(offsets[position], offsets[position + 1]),
        boxes=boxes,
        boxes_of=boxes_of,
    )


def iou(a: list[float], b: list[float]) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


@pytest.mark.parametrize("class_specific", [False, True])
def test_best_overlaps_and_recall(class_specific: bool) -> None:
    rng = np.random.default_rng(0)
    truth, val = scene(rng), proposals(rng, class_specific)
    best = best_overlaps(val, truth)
    for box, image, label, found in zip(truth.boxes, truth.images, truth.labels, best, strict=True):
        rows = {12: slice(0, 30), 10: slice(0, 0), 11: slice(30, 50)}[int(truth.image_ids[image])]
        moved = val.boxes[rows] + (3 * int(label) if class_specific else 0)
        exact = [box[0], box[1], box[0] + box[2], box[1] + box[3]]
        assert found == pytest.approx(max([iou(exact, other) for other in moved.tolist()], default=0), rel=1e-4)
    recall = proposal_recall(best, truth)
    for label in range(2):
        own = (truth.labels == label) & ~truth.crowd
        assert recall[label] == pytest.approx(np.mean(best[own] >= 0.5))
    assert np.isnan(recall[2])
    assert 0 < np.nanmax(recall) < 1
