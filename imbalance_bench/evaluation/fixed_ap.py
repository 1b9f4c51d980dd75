"""AP without a limit of detections an image (arXiv 2102.01066): AP_fixed of each category, AP_pool of all together.

With at most 300 detections per image, classes compete for places: higher scores of one class remove detections of
others, and AP changes although the ranking within each class is the same. AP_fixed keeps the best 10,000 detections of
each class over the whole set, so only the ranking within a class counts. AP_pool ranks all classes together, so scores
must mean the same in every class. A class without ground truth has no AP_fixed, but its false positives count in
AP_pool: in federated data those in images where the class is known to be absent, otherwise those in every image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from imbalance_bench.evaluation.average_precision import evaluate
from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.evaluation.ground_truth import GroundTruth
from imbalance_bench.evaluation.matching import CategoryMatches, Matches, ap_of_curve, average_precision, match
from imbalance_bench.runtime.equality import ByValue

NO_LIMIT = 1 << 31
PER_CLASS = 10_000
"""Detections of each class that count over the whole set."""
POINTS = 1000
"""Points of the curve that AP_pool of draws is read off at."""


def fixed_ap(detections: Detections, truth: GroundTruth) -> tuple[np.ndarray, float]:
    """Return AP_fixed of each category and AP_pool of all together (arXiv 2102.01066).

    AP_pool ranks the detections of all classes after matching them class by class. No evaluator does this, so
    ``matching`` computes it.

    Args:
        detections: detections in the ground truth's images, without a limit per image; the best ``PER_CLASS`` of each
            class count.
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
    detections = detections.take(np.flatnonzero(best_of_each_class(detections)))
    ap = evaluate(detections, truth, max_detections=NO_LIMIT)["ap"].to_numpy()
    return ap, pooled_ap(match(detections, truth, NO_LIMIT))


def best_of_each_class(detections: Detections) -> np.ndarray:
    """Tell which detections are among the best ``PER_CLASS`` of their class, (D,) bool."""
    best = np.ones(len(detections), dtype=bool)
    counts = np.bincount(detections.labels)
    for label in np.flatnonzero(counts > PER_CLASS):
        own = np.flatnonzero(detections.labels == label)
        best[own[np.argsort(-detections.scores[own], kind="stable")[PER_CLASS:]]] = False
    return best


def pooled_ap(matches: Matches) -> float:
    """Compute AP_pool, the AP of the detections of all categories in one ranking; NaN without a box."""
    return float(average_precision(pooled(matches))[0])


@dataclass(frozen=True, eq=False)
class Ranking(ByValue):
    """Detections of some categories in one ranking, best first.

    Attributes:
        images: (D,) index of each detection's image.
        true: for each IoU, the places of the detections that are matched to a box, ascending.
        ignored: for each IoU, the places of those that count neither as true nor as false, ascending.
        truth_images: (G,) index of the image of each box that should be found.
    """

    images: np.ndarray
    true: list[np.ndarray]
    ignored: list[np.ndarray]
    truth_images: np.ndarray


def pooled_ap_of_draws(ranking: Ranking, draws: np.ndarray) -> np.ndarray:
    """Compute the AP of a ranking for draws of images, read off the curve at some of its points.

    With ``POINTS`` true detections or fewer it is exact. Otherwise the precision at a recall is that of the next point;
    what this changes with each image once is added to the draws, too (1,000 points, 45,000 true detections: .0002, and
    the rest is a hundredth of the deviation of the draws).

    Args:
        ranking: detections and boxes.
        draws: (I, R) whole numbers, how often each image counts.

    Returns:
        (R,) fractions, NaN without a box.
    """
    number = len(draws)
    draws = np.hstack([np.ones((number, 1), np.int32), draws.astype(np.int32)])
    truths = np.bincount(ranking.truth_images, minlength=number).astype(np.int32) @ draws
    hits = np.unique(np.concatenate(ranking.true))
    if len(hits) == 0:
        return np.where(truths > 0, 0.0, np.nan)[1:]
    # More densely at the start, where the precision at recall 0 is decided.
    spaced = np.concatenate([space(1, len(hits), POINTS) for space in (np.linspace, np.geomspace)])
    points = hits[np.unique(spaced.round().astype(np.int64)) - 1]

    def up_to_points(places: np.ndarray) -> np.ndarray:
        ends = np.searchsorted(places, points, side="right")
        images = ranking.images[places[: ends[-1]]]
        ones, starts = np.ones(len(images), np.int32), np.append(0, ends)
        return np.cumsum(sparse.csr_array((ones, images, starts), shape=(len(points), number)) @ draws, axis=0)

    seen = up_to_points(np.arange(len(ranking.images)))
    at_points, exact = [], []
    for true, ignored in zip(ranking.true, ranking.ignored, strict=True):
        at_points.append(ap_of_curve(up_to_points(true), seen - up_to_points(ignored), truths))
        counted = true + 1 - np.searchsorted(ignored, true)
        exact.append(ap_of_curve(np.arange(1, len(true) + 1)[:, None], counted[:, None], truths[:1]))
    ap = np.mean(at_points, axis=0)
    ap += np.mean(exact) - ap[0]
    return np.where(truths > 0, ap, np.nan)[1:]


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
