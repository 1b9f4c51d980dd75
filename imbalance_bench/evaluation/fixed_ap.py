"""AP without a limit of detections an image (arXiv 2102.01066): AP_fixed of each category, AP_pool of all together.

With 300 detections an image, classes compete for places: what lifts the scores of one drops detections of others,
and AP moves though the ranking within each class is as it was. AP_fixed keeps the best 10,000 of each class over the
whole set, so only the ranking within a class counts; AP_pool ranks all classes together, so it asks for scores that
mean the same in every class. A class without ground truth has no AP_fixed, but its false positives stand in the pool:
those in images where it is known to be absent, the negatives of federated data, else every image.
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

    AP_pool ranks what was matched class by class, which no evaluator does: it is from ``matching``.

    Args:
        detections: of the ground truth's images, without a limit an image, but of each class no more than its best
            10,000.
        truth: boxes or masks.

    Returns:
        (C,) AP_fixed, a fraction, NaN of a class without ground truth; and AP_pool.

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
    """The matches of all categories as those of one; of equal scores the first image comes first, then the category."""
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
