"""Average precision of each category, from detections and COCO- or LVIS-format annotations."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from imbalance_bench.evaluation import matching, references
from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.evaluation.ground_truth import GroundTruth

Evaluator = Literal["arrays", "faster", "lvis"]


def evaluate(
    detections: Detections, truth: GroundTruth, *, evaluator: Evaluator = "arrays", max_detections: int = 300
) -> pd.DataFrame:
    """AP of each category: 10 IoUs from .5 to .95, 101 recall levels, boxes of any area (section 5.1).

    Federated (``truth.lvis_style``): an image counts for the categories annotated in it and in its
    ``neg_category_ids`` only, unmatched detections of its ``not_exhaustive_category_ids`` are ignored, ``iscrowd`` has
    no meaning, boxes without area are left out, and the best ``max_detections`` of an image count. Otherwise as COCO:
    crowd regions are ignored, and the best ``max_detections`` of an image *and category* count.

    Args:
        detections: of the ground truth's images.
        truth: boxes or masks.
        evaluator: ``arrays`` is ours; ``faster`` is faster-coco-eval and ``lvis``, only for federated annotations, the
            official package. All agree.
        max_detections: 300 on LVIS.

    Returns:
        Index ``label`` 0..C-1; columns ``val_instances``, ``val_images`` (ignored ones left out), ``ap``, ``ap50``,
        ``ap75``, ``recall`` (at the last detection, mean over IoUs): fractions, NaN without validation ground truth.

    Raises:
        InputError: a detection of an image or label that the ground truth lacks, or no masks for ``segm``.
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
    run = {"arrays": matching.average_precision_by_iou, "faster": references.faster, "lvis": references.official}
    if evaluator not in run or (evaluator == "lvis" and not truth.lvis_style):
        raise ValueError(f"evaluator {evaluator!r}: expected 'arrays', 'faster', or 'lvis' on federated annotations")
    truth.check(detections)
    counted = ~truth.ignored
    pairs = pd.DataFrame({"label": truth.labels[counted], "image": truth.images[counted]})
    by_label = pairs.groupby("label")["image"].agg(["size", "nunique"])
    by_label = by_label.reindex(range(truth.categories.num_classes), fill_value=0)
    ap, recall = run[evaluator](detections, truth, max_detections)
    frame = pd.DataFrame(
        {
            "val_instances": by_label["size"].to_numpy(),
            "val_images": by_label["nunique"].to_numpy(),
            "ap": ap.mean(axis=0),
            "ap50": ap[0],
            "ap75": ap[5],
            "recall": recall.mean(axis=0),
        },
        index=pd.RangeIndex(truth.categories.num_classes, name="label"),
    )
    frame.loc[frame["val_instances"] == 0, ["ap", "ap50", "ap75", "recall"]] = np.nan
    return frame
