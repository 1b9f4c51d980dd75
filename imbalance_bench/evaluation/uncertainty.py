"""Intervals of mean APs, and differences of two runs, over the random choice of validation images.

An interval covers the results that another draw of equally many validation images could give (bootstrap over images).
It covers neither training (other seeds give other weights; train several) nor the choice of categories (see
``bootstrap.interval_over_classes``): a run's interval holds for *this* detector on *these* categories.

A single category has too few boxes for the bootstrap: simulated, with two detectors that are equally good and 3 to 60
boxes a category, 95 % intervals left out zero in 5 to 12 % of cases. There the runs are swapped instead: if both are
equally good, it does not matter which of them gives the detections of an image.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from imbalance_bench.evaluation.bootstrap import LEVEL, ap_of_draws, bounds, mean_ap
from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.evaluation.ground_truth import GroundTruth
from imbalance_bench.evaluation.matching import CategoryMatches, Matches, average_precision, match

FEWEST_IMAGES = 10
"""Validation images with boxes of a category below which a difference in its AP is not judged."""


class Comparison(NamedTuple):
    """Differences of two detectors on the same images.

    Attributes:
        groups: of mean APs, result of ``paired``.
        classes: class by class, result of ``paired_classes``.
    """

    groups: pd.DataFrame
    classes: pd.DataFrame


def compare(a: Detections, b: Detections, truth: GroundTruth, *, resamples: int = 200, seed: int = 0) -> Comparison:
    """Compare the AP of two detectors on the same images, by group of classes and by class: which differences are real.

    Args:
        a: detections of the first.
        b: detections of the second.
        truth: annotations of the validation images.
        resamples: number of draws of the images.
        seed: seed of the draws.

    Returns:
        ``groups``: index ``measure`` (``mAP``, ``AP1``.., ``APr``, ``APc``, ``APf``); columns ``a``, ``b``,
        ``difference`` (b - a), ``images_low`` and ``images_high`` (its 95 % interval over images), ``real`` (the
        interval excludes 0). ``classes``: index ``label``; the same of each class, with ``p`` and ``q`` from swapping
        the two image by image, adjusted for the number of classes, and ``real`` (q is at most .05). Both cover the
        choice of images, not of training.

    Raises:
        InputError: detections of other images.

    Example:
        >>> from imbalance_bench.categories import CategoryTable
        >>> table = CategoryTable.from_arrays([900], names=["chair"])
        >>> boxes = [{"image_id": i, "category_id": 1, "bbox": [0, 0, 10, 10]} for i in range(20)]
        >>> truth = GroundTruth.read({"images": [{"id": i} for i in range(20)], "annotations": boxes}, table)
        >>> images, scores, labels = list(range(20)), [0.9] * 20, [0] * 20
        >>> old = Detections.from_arrays(images, [[0, 0, 10, 8]] * 20, scores, labels)
        >>> new = Detections.from_arrays(images, [[0, 0, 10, 10]] * 20, scores, labels)
        >>> compare(old, new, truth).groups.loc["mAP", ["a", "b", "difference"]].astype(float).round(2).tolist()
        [0.7, 1.0, 0.3]
    """
    return Comparison(
        paired(a, b, truth, resamples=resamples, seed=seed), paired_classes(a, b, truth, resamples=resamples, seed=seed)
    )


def intervals(
    found: Mapping[str, Detections], truth: GroundTruth, *, resamples: int = 200, seed: int = 0
) -> pd.DataFrame:
    """Compute mean APs of runs, each with its 95 % interval over the validation images.

    Overlapping intervals do not mean that two runs are equal, as both use the same images: see ``paired``.

    Args:
        found: detections of each run.
        truth: annotations of the validation images.
        resamples: number of draws of the images.
        seed: seed of the draws.

    Returns:
        Index (``run``, ``measure``), measures ``mAP``, ``AP1``.., ``APr``, ``APc``, ``APf``; columns ``value`` (on
        all images), ``images_low``, ``images_high``: fractions, NaN if no category of the group has ground truth.

    Raises:
        InputError: detections of other images.
    """
    frames = {}
    for run, detections in found.items():
        draws = mean_ap(ap_of_draws(match(detections, truth), resamples=resamples, seed=seed), truth.categories)
        frames[run] = pd.DataFrame({"value": draws.loc[0]}).join(_over_images(draws))
    return pd.concat(frames, names=["run", "measure"])


def paired(a: Detections, b: Detections, truth: GroundTruth, *, resamples: int = 200, seed: int = 0) -> pd.DataFrame:
    """Compute the difference of two runs with its 95 % interval, both measured on the same drawn images.

    Args:
        a: detections of the first run.
        b: detections of the second run.
        truth: as for ``intervals``.
        resamples: as for ``intervals``.
        seed: as for ``intervals``.

    Returns:
        Index ``measure``; columns ``a``, ``b``, ``difference`` (b - a), ``images_low``, ``images_high`` (of the
        difference), ``real`` (the interval excludes 0). ``real`` holds for these two detectors, not for their methods:
        with another training seed it may change.

    Raises:
        InputError: as ``intervals``.
    """
    means = [
        mean_ap(ap_of_draws(match(detections, truth), resamples=resamples, seed=seed), truth.categories)
        for detections in (a, b)
    ]
    difference = means[1] - means[0]
    columns = {"a": means[0].loc[0], "b": means[1].loc[0], "difference": difference.loc[0]}
    frame = pd.DataFrame(columns).join(_over_images(difference))
    return frame.assign(real=(frame["images_low"] > 0) | (frame["images_high"] < 0)).rename_axis("measure")


def paired_classes(
    a: Detections, b: Detections, truth: GroundTruth, *, resamples: int = 200, seed: int = 0
) -> pd.DataFrame:
    """Compare the AP of two runs category by category, by swapping their detections image by image.

    In each draw, each image's detections of the two runs are swapped or not, by chance. The deviation of the
    differences of all draws is what chance alone gives, and the difference of the runs is compared with it (normal
    approximation). Of two runs, only the order of a category's detections counts, as in AP: their scores may be on
    different scales. Simulated with equally good detectors, 60 sets of 40 categories of 3 to 60 boxes: p was at most
    .05 in 0 to 6 % of cases and at most .01 in 0 to 1 %, and no category was called real.

    Args:
        a: as for ``paired``.
        b: as for ``paired``.
        truth: as for ``paired``.
        resamples: number of draws.
        seed: seed of the draws.

    Returns:
        Index ``label``; columns of ``CategoryTable.frame``, ``val_images`` and ``val_instances``; ``a``, ``b`` and
        ``difference`` (b - a), NaN without ground truth; ``chance``, half the width of the 95 % interval of the
        difference; ``p``, and ``q``, adjusted for the number of categories (Benjamini and Hochberg), both NaN for
        categories that are not judged (fewer than ``FEWEST_IMAGES`` images); ``real``: q is at most .05, so that of
        the categories called real about 1 in 20 is not.

    Raises:
        InputError: as ``intervals``.
    """
    from scipy import stats

    matches = match(a, truth), match(b, truth)
    ap = [average_precision(one) for one in matches]
    swapped = np.random.default_rng(seed).integers(0, 2, (resamples, len(truth.image_ids)))
    weights = np.concatenate([np.hstack([1 - swapped, swapped]), np.hstack([swapped, 1 - swapped])])
    first, second = np.split(average_precision(_side_by_side(*matches), weights), 2)
    deviation = np.sqrt(np.mean((second - first) ** 2, axis=0))
    boxes = [category.truth_images for category in matches[0].categories]
    frame = truth.categories.frame().assign(
        val_images=[len(np.unique(images)) for images in boxes],
        val_instances=[len(images) for images in boxes],
        a=ap[0],
        b=ap[1],
        difference=ap[1] - ap[0],
        chance=stats.norm.ppf((1 + LEVEL) / 2) * deviation,
    )
    is_judged = (frame["val_images"] >= FEWEST_IMAGES).to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * stats.norm.sf(np.abs(frame["difference"]) / deviation)
    p = np.where(is_judged, np.where(frame["difference"] == 0, 1.0, p), np.nan)
    q = np.full(len(p), np.nan)
    if is_judged.any():
        q[is_judged] = stats.false_discovery_control(p[is_judged])
    return frame.assign(p=p, q=q, real=q <= 1 - LEVEL)


def _side_by_side(a: Matches, b: Matches) -> Matches:
    """Join two runs as one run on twice the images: those of ``a``, then those of ``b``.

    Detections of a category are ranked by their place among those of their own run, then by image.
    """
    count = len(a.image_ids)
    categories = []
    for one, other in zip(a.categories, b.categories, strict=True):
        places = np.concatenate([np.arange(len(one.scores)), np.arange(len(other.scores))])
        images = np.concatenate([one.images, other.images + count])
        order = np.lexsort((images % count, places))
        categories.append(
            CategoryMatches(
                images[order],
                np.concatenate([one.true, other.true], axis=1)[:, order],
                np.concatenate([one.ignored, other.ignored], axis=1)[:, order],
                np.concatenate([one.truth_images, other.truth_images + count]),
                -places[order].astype(np.float64),
            )
        )
    return Matches(np.arange(2 * count), tuple(categories))


def _over_images(draws: pd.DataFrame) -> pd.DataFrame:
    """Return the interval of the first row, which is the value, from the draws below it."""
    return bounds(draws.loc[0], draws.loc[1:]).add_prefix("images_")
