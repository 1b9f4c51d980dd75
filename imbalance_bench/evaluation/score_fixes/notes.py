"""What to know about fits and their measurement, in plain sentences."""

from __future__ import annotations

import numpy as np

from imbalance_bench.evaluation.ground_truth import GroundTruth
from imbalance_bench.evaluation.score_fixes.fits import Fits
from imbalance_bench.evaluation.score_fixes.tables import RESTS_ON
from imbalance_bench.evaluation.score_fixes.thresholds import PER_CLASS

_NAMED = 10
"""Most classes that a sentence names."""


def notes(fits: Fits, truth: GroundTruth, rests_on: np.ndarray) -> tuple[str, ...]:
    """Say how thresholds and calibrators were fitted and measured, and which classes' rest on few boxes.

    Args:
        fits: the fits.
        truth: the annotations of the images that are measured.
        rests_on: (C,) of ``tables.RESTS_ON``, what the threshold of each class mostly rests on.
    """
    return (_protocol(fits), _strength(fits), *_few(fits, truth, rests_on), _calibration(fits), *_federated(truth))


def _protocol(fits: Fits) -> str:
    measured, fitted = fits.found.num_images, fits.source.num_images
    if fits.source is not fits.found:
        return f"fitted to {fitted:,} held-out images, measured on all {measured:,} validation images"
    parts = len(fits.used)
    return (
        f"cross-fitted: the {measured:,} validation images are cut into {parts} folds by chance, and each is measured "
        f"with a fit to the other {parts - 1}; the thresholds to use are fitted to all of them"
    )


def _strength(fits: Fits) -> str:
    strength = fits.final.strength
    if np.isinf(strength):
        return "thresholds of their own did not help classes on images that they were not fitted to: all get the same"
    if strength == 0:
        return "thresholds of their own helped classes on images that they were not fitted to, so none borrows"
    return (
        f"the threshold of a class is best for its own boxes and its bin, which counts as {strength:.0f} boxes, the "
        "weight that was best on images that were not fitted to"
    )


def _few(fits: Fits, truth: GroundTruth, rests_on: np.ndarray) -> list[str]:
    boxes, names = fits.final.boxes, truth.categories.names
    groups = {
        "have no box in the images of the fit": boxes == 0,
        "have few boxes beside that, so their thresholds rest more on all classes of their bin": (
            (boxes > 0) & (rests_on == RESTS_ON[1])
        ),
        "have few boxes beside that, as has their bin, so their thresholds rest more on all classes": (
            (boxes > 0) & (rests_on == RESTS_ON[2]) & np.isfinite(fits.final.strength)
        ),
    }
    return [
        f"{chosen.sum():,} of {len(names):,} classes {what}: {_named([names[c] for c in np.flatnonzero(chosen)])}"
        for what, chosen in groups.items()
        if chosen.any()
    ]


def _named(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def _calibration(fits: Fits) -> str:
    kept = fits.kept(PER_CLASS) & ~np.isnan(fits.found.targets["right"])
    return (
        f"calibration is measured on the {kept.sum():,} detections that reach the threshold of their class; that of a "
        "class with few of them errs by chance alone"
    )


def _federated(truth: GroundTruth) -> list[str]:
    if truth.judged is None:
        return []
    share = truth.judged.mean() if truth.judged.size else 0.0
    return [
        f"federated annotations: on average a class is judged in {share:.1%} of the images, and more often where it is "
        "present; on images as they come it is rarer, so it has more false detections, and needs a higher threshold"
    ]
