"""What can be improved with the scores of a detector alone, honestly measured: thresholds, calibration, AP_pool.

Thresholds and calibrators are fitted on some folds of the images and measured on the others in turn, or fitted on
held-out training images and measured on all validation images. Counts of all folds are added before F1 is computed
(Forman and Scholz, SIGKDD Explorations 2010). ``thresholds``, ``calibrators`` and ``pooling`` say what is fitted.

Example:
    >>> from imbalance_bench.categories import CategoryTable
    >>> from imbalance_bench.evaluation import score_fixes
    >>> from imbalance_bench.evaluation.detections import Detections
    >>> from imbalance_bench.evaluation.ground_truth import GroundTruth
    >>> table = CategoryTable.from_arrays([4, 120], names=["ladle", "kite"])
    >>> images = [{"id": number} for number in range(10)]
    >>> boxes = [{"image_id": number, "category_id": 1 + number % 2, "bbox": [0, 0, 10, 10]} for number in range(10)]
    >>> truth = GroundTruth.read({"images": images, "annotations": boxes}, table)
    >>> ids, labels = [*range(10)] * 2, [0, 1] * 10
    >>> places = [[0, 0, 10, 10]] * 10 + [[50, 50, 60, 60]] * 10
    >>> scores = [0.3, 0.9] * 5 + [0.1, 0.6] * 5
    >>> found = Detections.from_arrays(ids, places, scores, labels)
    >>> fixes = score_fixes.fit_and_measure(found, truth, resamples=20)
    >>> fixes.operating_points["f1"].xs("all", level="bin").round(2)[["at .5", "per class"]].to_dict()
    {'at .5': 0.33, 'per class': 1.0}
    >>> print(fixes.to_yaml(), end="")
    score_thresholds:
      ladle: 0.2
      kite: 0.75
"""

from __future__ import annotations

import numpy as np

from imbalance_bench.evaluation.bootstrap import draw_images
from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.evaluation.ground_truth import GroundTruth
from imbalance_bench.evaluation.grouping import bin_groups
from imbalance_bench.evaluation.matching import Assignment
from imbalance_bench.evaluation.score_fixes import fits, measured, tables, thresholds
from imbalance_bench.evaluation.score_fixes.notes import notes
from imbalance_bench.evaluation.score_fixes.outcomes import LEVELS, outcomes
from imbalance_bench.evaluation.score_fixes.result import ScoreFixes
from imbalance_bench.runtime.errors import InputError

__all__ = ["ScoreFixes", "fit_and_measure"]


def fit_and_measure(
    detections: Detections,
    truth: GroundTruth,
    *,
    held_out: tuple[Detections, GroundTruth] | None = None,
    matched: Assignment | None = None,
    folds: int = 5,
    seed: int = 0,
    resamples: int = 200,
) -> ScoreFixes:
    """Fit score thresholds and calibrators, and measure what they change on images that the fit has not seen.

    Args:
        detections: detections in the validation images, with scores of 0 to 1; all of them count, without a limit an
            image.
        truth: the validation annotations of boxes.
        held_out: detections and annotations of other images, such as training images that the detector was not trained
            on, to fit to. All validation images are then measured. None: the validation images are cut into folds, and
            each is measured with a fit to the others.
        matched: the detections as ``outcomes.outcomes`` takes them, where they are matched already.
        folds: number of folds.
        seed: seed of the folds and of the draws of images.
        resamples: number of draws, for 95 % intervals over images.

    Raises:
        InputError: detections of other images or classes, scores outside 0 to 1, fewer than two images or folds,
            held-out annotations of other classes, without images or of the validation images themselves.
        ValueError: ground truth of masks.
    """
    categories = truth.categories
    if folds < 2:
        raise InputError(f"folds is {folds}, expected 2 or more")
    least = 2 if held_out is None else 1
    if len(truth.image_ids) < least:
        raise InputError(f"annotations: {len(truth.image_ids)} images, expected at least {least}")
    if held_out is not None:
        _check_held_out(held_out[1], truth)
    found = outcomes(detections, truth, matched)
    other = None if held_out is None else outcomes(*held_out)
    fitted = fits.fit(found, other, categories.bins, folds=folds, seed=seed)
    images = len(truth.image_ids)
    drawn = draw_images(images, resamples, seed)
    draws = np.ascontiguousarray(np.vstack([np.ones((1, images)), drawn]).T)
    groups = {"all": categories.binned_labels, **bin_groups(categories)}
    points = {name: measured.operating_point(found, fitted.kept(name), draws) for name in thresholds.STRATEGIES}
    calibration, by_class = tables.calibration(fitted, draws, groups, categories)
    of_class = tables.by_class(fitted, points, categories)
    return ScoreFixes(
        categories=categories,
        thresholds=of_class,
        one_threshold=float(LEVELS[fitted.final.levels[thresholds.ONE][0]]),
        operating_points=tables.operating_points(points, groups, found),
        calibration=calibration,
        calibration_by_class=by_class,
        pooled=tables.pooled(fitted, draws, groups),
        notes=notes(fitted, truth, of_class["rests_on"].to_numpy()),
    )


def _check_held_out(other: GroundTruth, truth: GroundTruth) -> None:
    """Check that held-out annotations have the same classes and are not the validation annotations.

    Raises:
        InputError: they do not, or are.
    """
    mine, theirs = truth.categories, other.categories
    if mine.names != theirs.names or not np.array_equal(mine.ids, theirs.ids):
        raise InputError("held-out annotations: field 'categories' differs from that of the validation annotations")
    if not len(other.image_ids):
        raise InputError("held-out annotations: field 'images' is empty, expected images to fit to")
    pairs = ((other.image_ids, truth.image_ids), (other.images, truth.images), (other.boxes, truth.boxes))
    if len(truth.boxes) and all(np.array_equal(one, two) for one, two in pairs):
        raise InputError("held-out annotations: they are the validation annotations, expected other images")
