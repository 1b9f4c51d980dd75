"""Ground truth and detections of single images, to be shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from imbalance_bench.categories import CategoryTable, read_json
from imbalance_bench.datasets.coco_format import image_path
from imbalance_bench.evaluation.detections import Detections

BOX = ["x1", "y1", "x2", "y2"]


def ground_truth(annotations: Path, categories: CategoryTable) -> pd.DataFrame:
    """Return all boxes of an annotation file: columns ``image_id file_name x1 y1 x2 y2 label name bin``."""
    content = read_json(annotations)
    frame = pd.DataFrame(content["annotations"])
    corners = np.array(frame["bbox"].tolist(), dtype=np.float64)
    corners[:, 2:] += corners[:, :2]
    labels = categories.labels_of(frame["category_id"].to_numpy())
    files = {image["id"]: image_path(image, str(annotations)) for image in content["images"]}
    return pd.DataFrame(corners, columns=BOX).assign(
        image_id=frame["image_id"].to_numpy(),
        file_name=frame["image_id"].map(files).to_numpy(),
        label=labels,
        name=np.array(categories.names)[labels],
        bin=categories.bins[labels],
    )


def images_with_most_tail(truth: pd.DataFrame, count: int, tail_bins: Sequence[int]) -> list[int]:
    """Return the ids of the ``count`` images with the most objects of the tail bins, ties by id."""
    tail = truth["bin"].isin(tail_bins).groupby(truth["image_id"]).sum()
    images: list[int] = tail.sort_index().sort_values(ascending=False, kind="stable").index[:count].tolist()
    return images


def best(detections: Detections, image_id: int, truth: pd.DataFrame, categories: CategoryTable) -> pd.DataFrame:
    """Return the best detections of an image, as many as it has objects, each marked as correct or not.

    The number of detections follows from the objects, not from a score threshold, because the scores of different
    classifiers are not on one scale. A detection is correct if it has IoU >= .5 with a box of its class that is not
    matched to a better detection.

    Returns:
        Columns ``x1 y1 x2 y2 label name score correct``.
    """
    inside = np.flatnonzero(detections.image_ids == image_id)
    inside = inside[np.argsort(-detections.scores[inside], kind="stable")][: len(truth)]
    labels = detections.labels[inside]
    frame = pd.DataFrame(detections.boxes[inside], columns=BOX).assign(
        label=labels, name=np.array(categories.names)[labels], score=detections.scores[inside]
    )
    overlaps = _iou(frame[BOX].to_numpy(dtype=np.float64), truth[BOX].to_numpy(dtype=np.float64))
    overlaps[labels[:, None] != truth["label"].to_numpy()[None, :]] = 0
    correct = []
    for row in overlaps:
        hit = int(row.argmax())
        correct.append(row[hit] >= 0.5)
        if correct[-1]:
            overlaps[:, hit] = 0
    return frame.assign(correct=correct)


def _iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compute the (N, M) IoU of (N, 4) and (M, 4) corners; 0 for boxes without area."""
    sides = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    shared = sides.clip(0).prod(axis=2)
    areas = [(corners[:, 2:] - corners[:, :2]).prod(axis=1) for corners in (a, b)]
    union = areas[0][:, None] + areas[1][None] - shared
    overlaps: np.ndarray = np.divide(shared, union, out=np.zeros_like(shared), where=shared > 0)
    return overlaps
