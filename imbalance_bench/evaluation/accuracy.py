"""Proposal classification accuracy, per label (section 5.2): how well the classifier alone does, before NMS."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd
import torch
from torch import Tensor


def proposal_accuracy(chunks: Iterable[tuple[Tensor, Tensor]], num_classes: int) -> pd.DataFrame:
    """Correctly classified proposals of each label; the prediction is the best final score, background included.

    On equal scores the lower label counts as predicted.

    Args:
        chunks: ((n, C + 1) scores with background last, (n,) labels 0..C) of all test-time proposals, in parts.
        num_classes: C.

    Returns:
        Index ``label`` 0..C (background last); columns ``proposals``, ``correct`` (counts) and ``accuracy``
        (a fraction, NaN where there is no proposal).

    Raises:
        ValueError: a width other than C + 1, lengths that differ, a label out of range, or NaN among the scores.
    """
    proposals = torch.zeros(num_classes + 1, dtype=torch.int64)
    correct = torch.zeros_like(proposals)
    for scores, labels in chunks:
        if scores.ndim != 2 or scores.shape[1] != num_classes + 1 or len(labels) != len(scores):
            raise ValueError(
                f"scores {tuple(scores.shape)}, labels {tuple(labels.shape)}: expected (n, {num_classes + 1}) and (n,)"
            )
        if len(labels) == 0:
            continue
        if labels.min() < 0 or labels.max() > num_classes:
            raise ValueError(f"labels reach from {labels.min()} to {labels.max()}, expected 0 to {num_classes}")
        if scores.isnan().any():
            raise ValueError("scores hold NaN")
        hits = labels[scores.argmax(dim=1) == labels]
        proposals += torch.bincount(labels, minlength=num_classes + 1).cpu()
        correct += torch.bincount(hits, minlength=num_classes + 1).cpu()
    frame = pd.DataFrame(
        {"proposals": proposals.numpy(), "correct": correct.numpy()},
        index=pd.RangeIndex(num_classes + 1, name="label"),
    )
    return frame.assign(accuracy=frame["correct"] / frame["proposals"])
