"""Annotated boxes that detections stand on, whatever their classes: what tells how images and classes are numbered."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.evaluation.ground_truth import GroundTruth
from imbalance_bench.evaluation.matching import IOU_THRESHOLDS, box_iou

LEAST = 3
"""Least number of boxes that must be met before they decide."""
IMAGES = 200
"""Number of images that are looked at."""
PAIRS = 1 << 20
"""Number of pairs of a detection and a box that are looked at, those of the best scores."""


class Met(NamedTuple):
    """Annotated boxes that a detection overlaps by half or more.

    Attributes:
        labels: (B,) label of each box.
        rows: (B,) the detection of the highest score on it.
    """

    labels: np.ndarray
    rows: np.ndarray


def boxes_met(boxes: np.ndarray, scores: np.ndarray, places: np.ndarray, truth: GroundTruth) -> Met:
    """Find the annotated boxes that detections stand on, on a sample of the images.

    Args:
        boxes: (D, 4) xyxy.
        scores: (D,).
        places: (D,) place of each detection's image in ``truth.image_ids``.
        truth: the annotations; crowd regions are left out.
    """
    annotated = np.flatnonzero(~truth.crowd)
    annotated = annotated[np.argsort(truth.images[annotated], kind="stable")]
    images = truth.images[annotated]
    looked_at = np.intersect1d(places, images)[:IMAGES]
    rows = np.flatnonzero(np.isin(places, looked_at))
    rows = rows[np.argsort(-scores[rows], kind="stable")]
    begin, end = (np.searchsorted(images, places[rows], side=side) for side in ("left", "right"))
    rows = rows[np.cumsum(end - begin) <= PAIRS]
    count = (end - begin)[: len(rows)]
    pair_row = np.repeat(rows, count)
    within = np.arange(len(pair_row)) - np.repeat(np.cumsum(count) - count, count)
    box = annotated[np.repeat(begin[: len(rows)], count) + within]
    found = Detections(truth.image_ids[places[rows]], np.zeros(len(rows), np.int64), boxes[rows], scores[rows])
    hit = box_iou(found, np.repeat(np.arange(len(rows)), count), truth, box) >= IOU_THRESHOLDS[0]
    # Pairs stand by descending score, so the first of each box is its best.
    met, best = np.unique(box[hit], return_index=True)
    return Met(truth.labels[met], pair_row[hit][best])
