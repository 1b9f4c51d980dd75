"""AP without a limit of detections an image (arXiv 2102.01066): AP_fixed of each category, AP_pool of all together.

With at most 300 detections per image, classes compete for places: higher scores of one class remove detections of
others, and AP changes although the ranking within each class is the same. AP_fixed keeps the best 10,000 detections of
each class over the whole set, so only the ranking within a class counts. AP_pool ranks all classes together, so scores
must mean the same in every class. A class without ground truth has no AP_fixed, but its false positives count in
AP_pool: in federated data those in images where the class is known to be absent, otherwise those in every image.
"""

from __future__ import annotations

import numpy as np

from imbalance_bench.evaluation.average_precision import evaluate
from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.evaluation.ground_truth import GroundTruth
from imbalance_bench.evaluation.matching import CategoryMatches, Matches, average_precision, match

NO_LIMIT = 1 << 31


def fixed_ap(detections: Detections, truth: GroundTruth) -> tuple[np.ndarray, float]:
    """Return AP_fixed of each category and AP_pool of all together (arXiv 2102.01066).

    AP_pool ranks the detections of all classes after matching them class by class. No evaluator does this, so
    ``matching`` computes it.

    Args:
        detections: detections in the ground truth's images, without a limit per image, but at most the best 10,000
            of each class.
        truth: ground truth of boxes or masks.

    Returns:
        (C,) AP_fixed, a fraction, NaN for a class without ground truth; and AP_pool.

    Raises:
        InputError: as ``GroundTruth.check``.

    Example:
        >>> from imbalance_bench.categories import CategoryTable
        >>> table = CategoryTable.from_arrays([4, 120], names=["ladle", "kite"])
        >>> box = {"image_id": 7, "category_id": 1, "bbox": [0, 0, 10, 10]}
        >>> truth = GroundTruth.read({"images": [{"id": 7}], "annotations": [box]}, table)
        >>> found = Detections.from_arrays([7, 7], [[0, 0, 10, 10], [0, 0, 10, 8]], [0.9, 0.4], [1, 0])
        >>> of_each, pooled = fixed_ap(found, truth)
        >>> of_each.round(2).tolist(), round(pooled, 2)
        ([0.7, nan], 0.35)
    """
    ap = evaluate(detections, truth, max_detections=NO_LIMIT)["ap"].to_numpy()
    return ap, float(average_precision(pooled(match(detections, truth, NO_LIMIT)))[0])


def pooled(matches: Matches) -> Matches:
    """Merge the matches of all categories into one ranking; equal scores are ordered by image, then by category."""
    every = matches.categories
    scores = np.concatenate([category.scores for category in every])
    images = np.concatenate([category.images for category in every])
    order = np.lexsort((images, -scores))
    return Matches(
        matches.image_ids,
        (
            CategoryMatches(
                images[order],
                np.concatenate([category.true for category in every], axis=1)[:, order],
                np.concatenate([category.ignored for category in every], axis=1)[:, order],
                np.concatenate([category.truth_images for category in every]),
                scores[order],
            ),
        ),
    )
