"""Score thresholds that maximise F1 at IoU .5: one for all classes, one per bin, one per class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imbalance_bench.evaluation.score_fixes.outcomes import LEVELS, Counts
from imbalance_bench.evaluation.score_fixes.pooling import choose, own_share
from imbalance_bench.runtime.equality import ByValue

LOW, HALF = "at .05", "at .5"
ONE, PER_BIN, ALONE, PER_CLASS = "one for all classes", "one per bin", "per class, alone", "per class"
STRATEGIES = (LOW, HALF, ONE, PER_BIN, ALONE, PER_CLASS)
"""Fixed thresholds, and those that are fitted; ``per class`` borrows from bins and from all classes (``pooling``)."""


@dataclass(frozen=True, eq=False)
class Thresholds(ByValue):
    """Fitted thresholds.

    Attributes:
        levels: for each of ``STRATEGIES`` the (C,) index in ``LEVELS``; detections of this score or more are kept.
        strength: boxes that a class borrows with ``per class``.
        boxes: (C,) boxes of each class in the images of the fit.
    """

    levels: dict[str, np.ndarray]
    strength: float
    boxes: np.ndarray

    def shares(self, bins: np.ndarray) -> np.ndarray:
        """Return the (C, 3) shares of the class itself, its bin and all classes in the threshold ``per class``."""
        of_bin = np.array([self.boxes[bins == number].sum() for number in bins.tolist()])
        own, bin_share = own_share(self.boxes, self.strength), own_share(of_bin, self.strength)
        return np.stack([own, (1 - own) * bin_share, (1 - own) * (1 - bin_share)], axis=1)


def f1(right: np.ndarray, kept: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return F1 from counts: 2 TP / (kept detections + boxes); NaN without a box."""
    total = np.where(boxes > 0, kept + boxes, np.nan)
    return np.asarray(2 * right / total)


def fit(counts: Counts, boxes: np.ndarray, bins: np.ndarray) -> Thresholds:
    """Fit the thresholds of all strategies.

    What is maximised is the mean of the classes' F1, so that every class has equal weight, also in the threshold for
    all classes.

    Args:
        counts: of the target ``right``, in folds.
        boxes: (F, C) boxes of each fold.
        bins: (C,) bin of each class.
    """

    every = list(range(len(boxes)))

    def measured(out: list[int], strength: float) -> np.ndarray:
        levels = _best(counts, boxes, [fold for fold in every if fold not in out], bins, strength, strength)
        return np.stack([*at(counts.only(out), levels), boxes[out].sum(axis=0)])

    def mean_f1(sums: np.ndarray) -> float:
        values = f1(*sums)
        return float(values[sums[2] > 0].mean()) if (sums[2] > 0).any() else 0.0

    strength = choose([[fold] for fold in every], measured, mean_f1)
    pairs = {ONE: (np.inf, np.inf), PER_BIN: (0.0, np.inf), ALONE: (0.0, 0.0), PER_CLASS: (strength, strength)}
    levels = {
        name: np.full(len(bins), np.searchsorted(LEVELS, score)) for name, score in ((LOW, 0.05), (HALF, 0.5))
    } | {name: _best(counts, boxes, every, bins, *pair) for name, pair in pairs.items()}
    return Thresholds(levels, strength, boxes.sum(axis=0))


def at(counts: Counts, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the (C,) right and all detections of all folds, from a level of each class on."""
    above = counts.above(levels)
    return above.target.sum(axis=(0, 2)), above.seen.sum(axis=(0, 2))


def _best(
    counts: Counts, boxes: np.ndarray, folds: list[int], bins: np.ndarray, of_bin: float, of_class: float
) -> np.ndarray:
    """Return the (C,) level with the best mixed F1 of some folds; the middle one where neighbours are equal."""
    right, seen = (
        np.cumsum(column[folds].sum(axis=0)[:, ::-1], axis=1)[:, ::-1] for column in (counts.target, counts.seen)
    )
    number = boxes[folds].sum(axis=0)
    values = np.nan_to_num(f1(right, seen, number[:, None]))
    overall = values[number > 0].mean(axis=0) if (number > 0).any() else np.zeros(len(LEVELS))
    mixed = np.empty_like(values)
    for group in np.unique(bins):
        rows = bins == group
        own = values[rows & (number > 0)].mean(axis=0) if (rows & (number > 0)).any() else overall
        share = own_share(number[rows].sum(), of_bin)
        prior = share * own + (1 - share) * overall
        share = own_share(number[rows], of_class)[:, None]
        mixed[rows] = share * values[rows] + (1 - share) * prior
    best = mixed >= mixed.max(axis=1, keepdims=True) - 1e-12
    first = best.argmax(axis=1)
    after = ~best & (np.arange(len(LEVELS)) > first[:, None])
    last = np.where(after.any(axis=1), after.argmax(axis=1), len(LEVELS)) - 1
    return np.asarray((first + last) // 2)
