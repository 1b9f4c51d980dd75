"""What of a detector must suit the sizes of a data set's boxes: its anchors, and the size of its images."""

from __future__ import annotations

from typing import Any

import numpy as np

from imbalance_bench.detectors.mmdet.detector import Detector


def anchor_sizes(detector: Detector) -> np.ndarray:
    """Return the (A, 2) widths and heights of a detector's anchors on all levels, in pixels of its input."""
    from mmdet.models.task_modules import AnchorGenerator

    settings: dict[str, Any] = dict(detector.anchor_generator)
    settings.pop("type")
    levels = AnchorGenerator(**settings).base_anchors
    return np.concatenate([(level[:, 2:] - level[:, :2]).numpy() for level in levels])


def resize_factors(detector: Detector, images: np.ndarray) -> np.ndarray:
    """Return the (N,) factors by which a detector resizes validation images.

    Args:
        detector: its record.
        images: (N, 2) widths and heights of the images.
    """
    if "scale" not in detector.test_resize:
        return np.full(len(images), detector.test_resize["scale_factor"])
    longest, shortest = max(detector.test_resize["scale"]), min(detector.test_resize["scale"])
    return np.minimum(longest / images.max(axis=1), shortest / images.min(axis=1))
