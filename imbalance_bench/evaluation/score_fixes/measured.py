"""F1 and calibration errors with fitted thresholds and scores, by bin, with intervals over images.

All are computed for draws of images; in the first, each image counts once. Intervals are those of ``bootstrap``. They
do not cover the fit: thresholds and calibrators are not fitted again for each draw.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse

from imbalance_bench.evaluation.bootstrap import bounds
from imbalance_bench.evaluation.calibration import STEPS, step_of
from imbalance_bench.evaluation.score_fixes.outcomes import Outcomes, drawn_sums
from imbalance_bench.evaluation.score_fixes.thresholds import f1
from imbalance_bench.runtime.equality import ByValue

LOCALISATION_STEPS = 25
"""Intervals of confidence of LaECE (arXiv 2405.20459)."""
Groups = Mapping[str, np.ndarray]
"""Labels of each group of classes."""


def operating_point(found: Outcomes, kept: np.ndarray, draws: np.ndarray) -> dict[str, np.ndarray]:
    """Compute (C, R) ``precision`` (NaN if nothing is kept), ``recall`` and ``f1``; NaN without a box.

    Args:
        found: result of ``outcomes``.
        kept: (D,) bool, whether a detection's score reaches the threshold.
        draws: (I, R) how often each image counts.
    """
    right = found.targets["right"]
    kept = kept & ~np.isnan(right)
    parts = (kept, kept & (right > 0))
    seen, true = (drawn_sums(draws, found.images[rows], found.labels[rows], found.num_classes) for rows in parts)
    boxes = drawn_sums(draws, found.truth_images, found.truth_labels, found.num_classes)
    known = np.where(boxes > 0, boxes, np.nan)
    return {
        "precision": np.where(boxes > 0, true / np.where(seen > 0, seen, np.nan), np.nan),
        "recall": true / known,
        "f1": f1(true, seen, boxes),
    }


def by_group(values: np.ndarray, groups: Groups) -> pd.DataFrame:
    """Compute the mean of (C, R) values over the classes of each group that have one; R rows, a column a group."""
    frame = pd.DataFrame(values.T)
    return pd.DataFrame({name: frame[labels].mean(axis=1) for name, labels in groups.items()})


def with_interval(values: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the first row of values, and its intervals by the others: ``name``, ``name_low``, ``name_high``."""
    limits = bounds(values.iloc[0], values.iloc[1:])
    return pd.DataFrame({name: values.iloc[0], f"{name}_low": limits["low"], f"{name}_high": limits["high"]})


def share_with_interval(values: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the same as ``with_interval`` for values that are 0 to 1, as their intervals then are."""
    return with_interval(values, name).clip(0, 1)


@dataclass(frozen=True, eq=False)
class Rated(ByValue):
    """Detections with the scores that are measured.

    Attributes:
        found: result of ``outcomes``.
        rows: (n,) the detections, none of which is ignored.
        confidence: (n,) their scores.
        draws: (I, R) how often each image counts.
    """

    found: Outcomes
    rows: np.ndarray
    confidence: np.ndarray
    draws: np.ndarray

    def gaps(self, target: str, steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Sum confidence less target in the intervals of each class that have detections.

        Returns:
            (W,) label and (W,) interval of these cells, and (W, R) sums.
        """
        step = step_of(self.confidence, steps)
        some, cells = np.unique(self.found.labels[self.rows] * steps + step, return_inverse=True)
        gap = self.confidence - self.found.targets[target][self.rows]
        sums = drawn_sums(self.draws, self.found.images[self.rows], cells, len(some), gap)
        return some // steps, some % steps, sums

    def numbers(self) -> np.ndarray:
        """Count the detections of each class, (C, R)."""
        labels = self.found.labels[self.rows]
        return drawn_sums(self.draws, self.found.images[self.rows], labels, self.found.num_classes)


def ece_of_classes(rated: Rated, target: str, steps: int) -> np.ndarray:
    """Compute the distance between confidence and target in each class, weighted by detections, (C, R).

    LaECE_0 (arXiv 2405.20459) is the mean over classes with the target ``iou`` and ``LOCALISATION_STEPS`` intervals.
    NaN for a class without detections.
    """
    labels, _, gaps = rated.gaps(target, steps)
    shape = (rated.found.num_classes, len(labels))
    of_class = sparse.csr_array((np.ones(len(labels)), (labels, np.arange(len(labels)))), shape=shape)
    return np.asarray(of_class @ np.abs(gaps) / _some(rated.numbers()))


def detection_ece(rated: Rated, groups: Groups) -> pd.DataFrame:
    """Compute the D-ECE of the detections of each group of classes: the distance of confidence and precision at IoU .5.

    The detections of all classes of the group are pooled, in 10 intervals (arXiv 2405.20459).

    Returns:
        R rows, a column a group; NaN without detections.
    """
    labels, step, gaps = rated.gaps("right", STEPS)
    numbers = rated.numbers()
    errors = {}
    for name, own in groups.items():
        cells = np.flatnonzero(np.isin(labels, own))
        by_step = sparse.csr_array((np.ones(len(cells)), (step[cells], cells)), shape=(STEPS, len(labels)))
        errors[name] = np.abs(by_step @ gaps).sum(axis=0) / _some(numbers[own].sum(axis=0))
    return pd.DataFrame(errors)


def localisation_ace(rated: Rated) -> np.ndarray:
    """Compute the mean distance of confidence and IoU in each class, (C, R); LaACE_0 is the mean over classes.

    It is LaECE_0 with an interval for each detection (arXiv 2405.20459). NaN for a class without detections.
    """
    found, rows = rated.found, rated.rows
    gap = np.abs(rated.confidence - found.targets["iou"][rows])
    total = drawn_sums(rated.draws, found.images[rows], found.labels[rows], found.num_classes, gap)
    return np.asarray(total / _some(rated.numbers()))


def _some(count: np.ndarray) -> np.ndarray:
    return np.where(count > 0, count, np.nan)
