"""Average precision of each category, by hotcoco, from detections and COCO- or LVIS-format annotations."""

from __future__ import annotations

from typing import Any, Literal

import hotcoco
import numpy as np
import pandas as pd

from imbalance_bench.evaluation import references
from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.evaluation.ground_truth import AREA_ALL, LISTS, GroundTruth
from imbalance_bench.evaluation.matching import Matches

Evaluator = Literal["hotcoco", "lvis"]


def evaluate(
    detections: Detections, truth: GroundTruth, *, evaluator: Evaluator = "hotcoco", max_detections: int = 300
) -> pd.DataFrame:
    """Compute the AP of each category: 10 IoUs from .5 to .95, 101 recall levels, boxes of any area (section 5.1).

    Federated (``truth.lvis_style``): an image counts for the categories annotated in it and in its
    ``neg_category_ids`` only, unmatched detections of its ``not_exhaustive_category_ids`` are ignored, ``iscrowd`` has
    no meaning, boxes without area are left out, and the best ``max_detections`` of an image count. Otherwise as COCO:
    crowd regions are ignored, and the best ``max_detections`` of an image *and category* count.

    Args:
        detections: detections in the ground truth's images.
        truth: ground truth of boxes or masks.
        evaluator: ``hotcoco``, or ``lvis``, the official package, only for federated annotations. Both agree.
        max_detections: 300 on LVIS.

    Returns:
        Index ``label`` 0..C-1; columns ``val_instances``, ``val_images`` (ignored ones left out), ``ap``, ``ap50``,
        ``ap75``, ``recall`` (at the last detection, mean over IoUs): fractions, NaN without validation ground truth.

    Raises:
        InputError: a detection of an image or label that the ground truth lacks, no masks for ``segm``, or the
            official package is not installed.
        ValueError: an unknown evaluator, or ``lvis`` on other annotations.

    Example:
        >>> from imbalance_bench.categories import CategoryTable
        >>> table = CategoryTable.from_arrays([4, 120], names=["ladle", "kite"])
        >>> box = {"image_id": 7, "category_id": 1, "bbox": [0, 0, 10, 10]}
        >>> truth = GroundTruth.read({"images": [{"id": 7}], "annotations": [box]}, table)
        >>> found = Detections.from_arrays([7, 7], [[0, 0, 10, 10], [0, 0, 10, 8]], [0.9, 0.4], [1, 0])
        >>> evaluate(found, truth)[["val_instances", "ap", "ap50"]].round(2)
               val_instances   ap  ap50
        label
        0                  1  0.7   1.0
        1                  0  NaN   NaN
    """
    run = {"hotcoco": average_precision_by_iou, "lvis": references.official}
    if evaluator not in run or (evaluator == "lvis" and not truth.lvis_style):
        raise ValueError(f"evaluator {evaluator!r}: expected 'hotcoco', or 'lvis' on federated annotations")
    truth.check(detections)
    ap, recall = run[evaluator](detections, truth, max_detections)
    return by_class(ap, recall, truth)


def of_matches(matches: Matches, ap: np.ndarray, truth: GroundTruth) -> pd.DataFrame:
    """Return the result of ``evaluate`` from detections that are matched already, and their (10, C) AP at each IoU."""
    hits = np.stack([category.true.sum(axis=1) for category in matches.categories], axis=1)
    boxes = np.array([len(category.truth_images) for category in matches.categories])
    return by_class(ap, np.divide(hits, boxes, out=np.zeros(hits.shape), where=boxes > 0), truth)


def by_class(ap: np.ndarray, recall: np.ndarray, truth: GroundTruth) -> pd.DataFrame:
    """Return the result of ``evaluate`` from (10, C) AP and (10, C) recall at each IoU."""
    width = truth.categories.num_classes
    labels, images = truth.labels[~truth.ignored], truth.images[~truth.ignored]
    # Boxes are sorted by label, then image.
    first_of_image = np.diff(labels * len(truth.image_ids) + images, prepend=-1) > 0
    frame = pd.DataFrame(
        {
            "val_instances": np.bincount(labels, minlength=width),
            "val_images": np.bincount(labels[first_of_image], minlength=width),
            "ap": ap.mean(axis=0),
            "ap50": ap[0],
            "ap75": ap[5],
            "recall": recall.mean(axis=0),
        },
        index=pd.RangeIndex(width, name="label"),
    )
    frame.loc[frame["val_instances"] == 0, ["ap", "ap50", "ap75", "recall"]] = np.nan
    return frame


def average_precision_by_iou(
    detections: Detections, truth: GroundTruth, max_detections: int
) -> tuple[np.ndarray, np.ndarray]:
    """Compute (10, C) AP and (10, C) recall at each IoU with hotcoco; -1 for a category without a box that counts."""
    ground_truth = _ground_truth(truth)
    found = _results(ground_truth, detections, truth, truth.counted(detections, max_detections))
    run = hotcoco.COCOeval(ground_truth, found, truth.iou_type, lvis_style=truth.lvis_style)
    run.params.max_dets = [max_detections]
    run.params.area_rng, run.params.area_rng_lbl = [list(AREA_ALL)], ["all"]
    run.evaluate()
    run.accumulate()
    curves: Any = run.eval
    return curves["precision"][:, :, :, 0, 0].mean(axis=1), curves["recall"][:, :, 0, 0]


def _ground_truth(truth: GroundTruth) -> hotcoco.COCO:
    """Convert the ground truth; images and categories are numbered from 0, as hotcoco accepts no negative id."""
    tables: dict[str, Any] = {} if truth.judged is None else dict(zip(LISTS, (truth.judged, truth.open), strict=True))
    images: list[dict[str, Any]] = [
        {"id": place, **{field: [] for field in tables}} for place in range(len(truth.image_ids))
    ]
    for field, table in tables.items():
        for place, label in np.argwhere(table).tolist():
            images[place][field].append(label)
    masks: list[Any] = truth.masks
    return hotcoco.COCO.from_arrays(
        images,
        [{"id": label, "name": name} for label, name in enumerate(truth.categories.names)],
        truth.images,
        truth.labels,
        truth.boxes,
        # hotcoco uses the area only to decide whether the box counts.
        area=np.where(truth.ignored, -1.0, 1.0),
        iscrowd=truth.crowd,
        segmentation=masks if truth.iou_type == "segm" else None,
    )


def _results(ground_truth: hotcoco.COCO, detections: Detections, truth: GroundTruth, rows: np.ndarray) -> hotcoco.COCO:
    """Convert some rows of the detections to hotcoco's columns: image, x, y, width, height, score, category."""
    columns = np.empty((len(rows), 7))
    columns[:, 0] = np.searchsorted(truth.image_ids, detections.image_ids[rows])
    columns[:, 1:5] = detections.boxes[rows]
    columns[:, 3:5] -= columns[:, 1:3]
    columns[:, 5] = detections.scores[rows]
    columns[:, 6] = detections.labels[rows]
    if truth.iou_type == "bbox" or detections.masks is None:
        return ground_truth.load_res(columns)
    # For masks the box has no meaning; a box whose area does not count would change what is ignored.
    columns[:, 1:5] = 0
    return ground_truth.load_res(columns, segmentation=[detections.masks.rle(row) for row in rows.tolist()])
