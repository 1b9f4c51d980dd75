"""AP by the official lvis package; tests check that ours is equal."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.evaluation.ground_truth import AREA_ALL, GroundTruth
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.files import write_json


def results(detections: Detections, truth: GroundTruth, max_detections: int) -> list[dict[str, Any]]:
    """Return the detections that count as COCO results.

    In federated evaluation most detections do not count; leaving them out here saves the package time and memory.
    """
    rows = truth.counted(detections, max_detections)
    if truth.crowd.all():
        rows = rows[:0]  # no box that counts
    corners = detections.boxes.astype(np.float64)
    bboxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    category_ids = truth.categories.ids[detections.labels]
    columns = (detections.image_ids, category_ids, bboxes, detections.scores.astype(np.float64))
    # An empty segmentation keeps the package from making a polygon of each box.
    entries: list[dict[str, Any]] = [
        {"image_id": image, "category_id": category, "bbox": bbox, "score": score, "segmentation": []}
        for image, category, bbox, score in zip(*(column[rows].tolist() for column in columns), strict=True)
    ]
    if truth.iou_type == "segm" and detections.masks is not None:
        for entry, row in zip(entries, rows.tolist(), strict=True):
            entry["segmentation"] = detections.masks.rle(row)
    return entries


def official(detections: Detections, truth: GroundTruth, max_detections: int) -> tuple[np.ndarray, np.ndarray]:
    """Compute (10, C) AP and (10, C) recall at each IoU with the official lvis package; federated data only."""
    entries = results(detections, truth, max_detections)
    if not entries:
        # The package does not accept an empty list.
        return np.zeros((10, truth.categories.num_classes)), np.zeros((10, truth.categories.num_classes))
    with lvis_package() as lvis, tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "annotations.json"
        write_json(path, truth.content, compact=True)
        ground_truth = lvis.LVIS(str(path))
        found = lvis.LVISResults(ground_truth, entries, max_detections)
        run = lvis.LVISEval(ground_truth, found, truth.iou_type)
        run.params.area_rng, run.params.area_rng_lbl = [list(AREA_ALL)], ["all"]
        run.evaluate()
        run.accumulate()
    return run.eval["precision"][:, :, :, 0].mean(axis=1), run.eval["recall"][:, :, 0]


@contextmanager
def lvis_package() -> Iterator[Any]:
    """Provide the lvis package inside a ``with`` block, without its log and with ``np.float``, which 0.5.3 still uses.

    Importing the package configures the root logger; this is undone too.

    Raises:
        InputError: the package is not installed.
    """
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        import lvis
    except ImportError as error:
        raise InputError(
            "evaluator 'lvis' needs the official package, which is not installed: pip install lvis"
        ) from error

    root.handlers[:] = handlers
    root.setLevel(level)
    logger = logging.getLogger("lvis")
    verbosity = logger.level
    logger.setLevel(logging.ERROR)
    absent = "float" not in vars(np)
    if absent:
        vars(np)["float"] = float
    try:
        yield lvis
    finally:
        logger.setLevel(verbosity)
        if absent:
            del vars(np)["float"]
