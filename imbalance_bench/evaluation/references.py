"""AP by the packages of others: faster-coco-eval and the official lvis; ours is held equal to both."""

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
from imbalance_bench.runtime.files import write_json


def results(detections: Detections, truth: GroundTruth, max_detections: int) -> list[dict[str, Any]]:
    """Detections that count, as COCO results.

    Dropping the others here, a vast majority in federated evaluation, spares the packages from carrying them.
    """
    rows = truth.counted(detections, max_detections)
    if truth.crowd.all():
        rows = rows[:0]  # no box that counts
    corners = detections.boxes.astype(np.float64)
    bboxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    category_ids = truth.categories.ids[detections.labels]
    columns = (detections.image_ids, category_ids, bboxes, detections.scores.astype(np.float64))
    # An empty segmentation keeps the packages from making a polygon of each box.
    entries: list[dict[str, Any]] = [
        {"image_id": image, "category_id": category, "bbox": bbox, "score": score, "segmentation": []}
        for image, category, bbox, score in zip(*(column[rows].tolist() for column in columns), strict=True)
    ]
    if truth.iou_type == "segm" and detections.masks is not None:
        for entry, row in zip(entries, rows.tolist(), strict=True):
            entry["segmentation"] = detections.masks.rle(row)
    return entries


def faster(detections: Detections, truth: GroundTruth, max_detections: int) -> tuple[np.ndarray, np.ndarray]:
    """(10, C) AP and (10, C) recall at each IoU, by faster-coco-eval."""
    from faster_coco_eval import COCO, COCOeval_faster

    entries = results(detections, truth, max_detections)
    if not entries:
        return _nothing(truth)
    ground_truth = COCO(truth.content)
    found = ground_truth.loadRes(entries)
    run = COCOeval_faster(ground_truth, found, iouType=truth.iou_type, lvis_style=truth.lvis_style)
    run.params.maxDets = [max_detections]
    run.params.areaRng, run.params.areaRngLbl = [list(AREA_ALL)], ["all"]
    run.evaluate()
    run.accumulate()
    return run.eval["precision"][:, :, :, 0, 0].mean(axis=1), run.eval["recall"][:, :, 0, 0]


def official(detections: Detections, truth: GroundTruth, max_detections: int) -> tuple[np.ndarray, np.ndarray]:
    """(10, C) AP and (10, C) recall at each IoU, by the official lvis package; federated only."""
    entries = results(detections, truth, max_detections)
    if not entries:
        return _nothing(truth)
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


def _nothing(truth: GroundTruth) -> tuple[np.ndarray, np.ndarray]:
    """Where nothing that counts was found; neither package takes an empty list in all its versions."""
    return np.zeros((10, truth.categories.num_classes)), np.zeros((10, truth.categories.num_classes))


@contextmanager
def lvis_package() -> Iterator[Any]:
    """The lvis package, quiet and with the ``np.float`` that its 0.5.3 still uses, for the time of the block.

    Importing it configures the root logger, which is undone too.
    """
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    import lvis

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
