"""Softmax cross entropy, plain (Table 1 row 1) and re-weighted by class (rows 6 and 7)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from imbalance_bench.classifiers.base import LinearClassifier


class SoftmaxClassifier(LinearClassifier):
    """Softmax over C + 1 logits (Eq. 1 and 2), optionally with a loss weight for each class.

    The loss is the mean over RoIs of ``w_y * CE``: the divisor is the number of RoIs, not the sum of weights.

    Args:
        num_classes: C.
        feature_dim: d.
        loss_weights: C + 1 weights, background last; None for the plain loss.
    """

    loss_weight_vector: Tensor

    def __init__(self, num_classes: int, feature_dim: int, loss_weights: Sequence[float] | None = None) -> None:
        super().__init__(num_classes, feature_dim, num_classes + 1)
        if loss_weights is not None and len(loss_weights) != num_classes + 1:
            raise ValueError(f"expected {num_classes + 1} loss weights (background last), got {len(loss_weights)}")
        self.loss_weights = None if loss_weights is None else [float(w) for w in loss_weights]
        vector = torch.ones(num_classes + 1) if loss_weights is None else torch.tensor(self.loss_weights)
        # Rebuilt from the configuration, so not part of the state: the state dict stays mmdet's own.
        self.register_buffer("loss_weight_vector", vector, persistent=False)

    def loss(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """``loss_cls``: weighted cross entropy over (N, C + 1) logits."""
        if self.loss_weights is None:
            return {"loss_cls": functional.cross_entropy(logits, labels)}
        losses = functional.cross_entropy(logits, labels, reduction="none")
        return {"loss_cls": (losses * self.loss_weight_vector[labels]).mean()}

    def scores(self, logits: Tensor) -> Tensor:
        """(N, C + 1) softmax probabilities."""
        return logits.softmax(dim=1)


def inverse_count_weights(counts: Sequence[int] | np.ndarray, clip: tuple[float, float] = (0.01, 5.0)) -> list[float]:
    """C + 1 loss weights 1/n_j over their mean, clipped; background 1 (section 7.1.2, re-weight).

    A class without training instances never occurs as a label; it is counted as one instance.
    """
    return _normalised(1.0 / np.maximum(np.asarray(counts, dtype=np.float64), 1), clip)


def effective_number_weights(
    counts: Sequence[int] | np.ndarray, beta: float = 0.999, clip: tuple[float, float] = (0.01, 5.0)
) -> list[float]:
    """C + 1 loss weights (1 - beta)/(1 - beta^n_j) over their mean, clipped; background 1 (class-balanced loss)."""
    counts = np.maximum(np.asarray(counts, dtype=np.float64), 1)
    return _normalised((1 - beta) / (1 - beta**counts), clip)


def _normalised(weights: np.ndarray, clip: tuple[float, float]) -> list[float]:
    return [*np.clip(weights / weights.mean(), *clip).tolist(), 1.0]
