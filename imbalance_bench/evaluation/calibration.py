"""Calibration: is a prediction of confidence p right in a share p of the cases?

The expected calibration error is that of Guo et al. (arXiv 1706.04599), except for the intervals of confidence. Here
there are 10, closed at the lower end: [0, .1), ..., [.9, 1]; there 15, closed at the upper end: (a, b]. A score of
exactly .5 is therefore counted with those above it. Predictions are grouped by predicted class, so every bin of classes
has its own error.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

STEPS = 10
"""Equal intervals of confidence; fewer than 15 leave more predictions in each."""
INTERVALS = f"{STEPS} intervals [a, b) of confidence (Guo et al.: 15, (a, b])"
"""Description of the intervals, shown with tables of the calibration error."""


def step_of(confidence: np.ndarray, steps: int) -> np.ndarray:
    """Return the (n,) index of the interval of each confidence."""
    return np.clip((confidence * steps).astype(np.int64), 0, steps - 1)


class Calibration:
    """Counts of predictions by *predicted* label and interval of confidence, from which any group's curve follows.

    Args:
        num_classes: C; label C is background.
        steps: number of equal intervals of confidence from 0 to 1.
    """

    def __init__(self, num_classes: int, steps: int = STEPS) -> None:
        self.steps = steps
        self._sums = np.zeros((3, num_classes + 1, steps))  # predictions, their confidence, those that are right

    def add(self, predicted: np.ndarray, confidence: np.ndarray, correct: np.ndarray) -> None:
        """Add predictions: (n,) labels 0..C, (n,) scores, (n,) bool (whether each is correct)."""
        cells, shape = predicted * self.steps + step_of(confidence, self.steps), self._sums.shape[1:]
        for sums, weights in zip(self._sums, (None, confidence, correct), strict=True):
            sums += np.bincount(cells, weights, minlength=sums.size).reshape(shape)

    def curve(self, groups: Mapping[str, np.ndarray]) -> pd.DataFrame:
        """Return the reliability curve of groups of predicted labels.

        Returns:
            One row per group and interval that has a prediction; columns ``group``, ``low``, ``high``, ``proposals``
            (their number), ``confidence`` and ``accuracy`` (means).
        """
        parts = []
        for name, labels in groups.items():
            count, confidence, correct = self._sums[:, labels].sum(axis=1)
            step = np.flatnonzero(count)
            parts.append(
                pd.DataFrame(
                    {
                        "group": name,
                        "low": step / self.steps,
                        "high": (step + 1) / self.steps,
                        "proposals": count[step].astype(np.int64),
                        "confidence": confidence[step] / count[step],
                        "accuracy": correct[step] / count[step],
                    }
                )
            )
        return pd.concat(parts, ignore_index=True)

    def error_by_label(self) -> np.ndarray:
        """Return the (C + 1,) expected calibration error of each predicted label, NaN without predictions."""
        count, confidence, correct = self._sums
        with np.errstate(invalid="ignore"):
            return np.asarray(np.abs(confidence - correct).sum(axis=1) / count.sum(axis=1))


def calibration_error(curve: pd.DataFrame) -> pd.Series:
    """Compute the expected calibration error of each group: the mean distance between confidence and accuracy.

    Intervals are those of the curve; the docstring of this module describes them.
    """
    gap = (curve["confidence"] - curve["accuracy"]).abs() * curve["proposals"]
    weights = curve.groupby("group", sort=False)["proposals"].sum()
    return (gap.groupby(curve["group"], sort=False).sum() / weights).rename("calibration_error")
