"""Sizes of annotated boxes, and how the anchors and the image size of a detector suit them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from imbalance_bench.datasets.coco_format import objects

SMALL_SIDE = 8
"""Pixels: a box with a shorter side below has less than two cells of the finest feature map (stride 4)."""
MOST = 0.1
"""A detector is said not to suit a data set if more than this share of the boxes does not fit."""


@dataclass(frozen=True)
class Fit:
    """How a detector suits the boxes of a data set.

    Attributes:
        side: median of the boxes' sides (square root of the area) in pixels of the detector's input.
        no_anchor: share of the boxes that no anchor overlaps with IoU .5 or more, even in the same place.
        small: share of the boxes whose shorter side is below ``SMALL_SIDE`` pixels of the detector's input.
    """

    side: float
    no_anchor: float
    small: float

    def warnings(self, detector: str) -> list[str]:
        """Say what does not suit, one line each."""
        found = []
        if self.no_anchor > MOST:
            found.append(
                f"{detector}: no anchor has the shape of {self.no_anchor:.0%} of the boxes (IoU .5): its RPN will miss "
                "many of them"
            )
        if self.small > MOST:
            found.append(
                f"{detector}: at its image size {self.small:.0%} of the boxes have a side below {SMALL_SIDE} pixels: "
                "take a detector of larger images, or cut the images"
            )
        return found


def sizes(annotations: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return the (N, 2) widths and heights of the boxes of an annotation file, and the same of their images."""
    images = {image["id"]: (image["width"], image["height"]) for image in annotations["images"]}
    kept = objects(annotations)
    boxes = np.array([annotation["bbox"][2:] for annotation in kept], dtype=np.float64).reshape(-1, 2)
    around = np.array([images[annotation["image_id"]] for annotation in kept], dtype=np.float64).reshape(-1, 2)
    return boxes, around


def fit(boxes: np.ndarray, anchors: np.ndarray) -> Fit:
    """Compare boxes with anchors.

    Args:
        boxes: (N, 2) widths and heights in pixels of the detector's input, N at least 1.
        anchors: (A, 2) widths and heights.
    """
    best = np.zeros(len(boxes))
    for anchor in anchors:
        common = np.minimum(boxes, anchor).prod(axis=1)
        best = np.maximum(best, common / (boxes.prod(axis=1) + anchor.prod() - common))
    return Fit(
        side=float(np.median(np.sqrt(boxes.prod(axis=1)))),
        no_anchor=float((best < 0.5).mean()),
        small=float((boxes.min(axis=1) < SMALL_SIDE).mean()),
    )
