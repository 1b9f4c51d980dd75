"""Measures of each label from the scores of proposals, before NMS: accuracy (section 5.2), mean score, calibration."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from imbalance_bench.evaluation.calibration import Calibration


class ProposalAccuracy:
    """Sums over all test-time proposals, added in parts; background competes with the classes.

    The prediction is the best final score; on equal scores the lower label counts as predicted.

    Args:
        num_classes: C.

    Attributes:
        calibration: counts for the calibration of the predictions.
    """

    def __init__(self, num_classes: int) -> None:
        self.calibration = Calibration(num_classes)
        self._width = num_classes + 1
        self._proposals, self._correct = np.zeros((2, self._width), dtype=np.int64)
        self._scores = np.zeros(self._width)

    def add(self, scores: Tensor, labels: Tensor) -> None:
        """Add some proposals: (n, C + 1) scores with background last, (n,) labels 0..C, on any device.

        Raises:
            ValueError: a width other than C + 1, lengths that differ, a label out of range, or NaN among the scores.
        """
        if scores.ndim != 2 or scores.shape[1] != self._width or len(labels) != len(scores):
            raise ValueError(
                f"scores {tuple(scores.shape)}, labels {tuple(labels.shape)}: expected (n, {self._width}) and (n,)"
            )
        if len(labels) == 0:
            return
        if labels.min() < 0 or labels.max() >= self._width:
            raise ValueError(f"labels reach from {labels.min()} to {labels.max()}, expected 0 to {self._width - 1}")
        if scores.isnan().any():
            raise ValueError("scores hold NaN")
        best, predicted = scores.max(dim=1)
        own = scores.gather(1, labels[:, None])[:, 0]
        columns = torch.stack([labels.double(), predicted.double(), best.double(), own.double()]).cpu().numpy()
        label, guess = columns[:2].astype(np.int64)
        self.calibration.add(guess, columns[2], guess == label)
        self._proposals += np.bincount(label, minlength=self._width)
        self._correct += np.bincount(label[guess == label], minlength=self._width)
        self._scores += np.bincount(label, columns[3], minlength=self._width)

    def frame(self) -> pd.DataFrame:
        """Return the measures of each label.

        Returns:
            Index ``label`` 0..C (background last); columns ``proposals``, ``correct`` (counts), ``accuracy``,
            ``mean_score`` (of the label, over its own proposals; both NaN where there is no proposal) and
            ``calibration_error`` (expected, of the proposals *predicted* as this label; NaN where there is none).
        """
        frame = pd.DataFrame(
            {"proposals": self._proposals, "correct": self._correct}, index=pd.RangeIndex(self._width, name="label")
        )
        return frame.assign(
            accuracy=frame["correct"] / frame["proposals"],
            mean_score=self._scores / frame["proposals"],
            calibration_error=self.calibration.error_by_label(),
        )
