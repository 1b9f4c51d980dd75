"""Softmax cross entropy, plain (Table 1 row 1) and re-weighted by class (rows 6 and 7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from imbalance_bench.categories import CategoryTable
from imbalance_bench.classifiers.base import Classifier, LinearClassifier, Reduction, reduced


class SoftmaxClassifier(LinearClassifier):
    """Softmax over C + 1 logits (Eq. 1 and 2), optionally with a loss weight for each class.

    The loss is the mean over RoIs of ``w_y * CE``: the divisor is the number of RoIs, not the sum of weights.

    Args:
        num_classes: C.
        feature_dim: d.
        loss_weights: C + 1 weights, background last; None for the plain loss.
        cosine: of LinearClassifier.

    Example:
        >>> classifier = SoftmaxClassifier(num_classes=2, feature_dim=4, loss_weights=[0.1, 2.0, 1.0])
        >>> logits, labels = torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([0])
        >>> classifier.scores(logits)
        tensor([[0.7870, 0.1065, 0.1065]])
        >>> classifier.loss(logits, labels)
        {'loss_cls': tensor(0.0240)}
    """

    loss_weight_vector: Tensor

    def __init__(
        self,
        num_classes: int,
        feature_dim: int,
        loss_weights: Sequence[float] | None = None,
        cosine: float | None = None,
    ) -> None:
        super().__init__(num_classes, feature_dim, num_classes + 1, cosine)
        if loss_weights is not None and len(loss_weights) != num_classes + 1:
            raise ValueError(f"expected {num_classes + 1} loss weights (background last), got {len(loss_weights)}")
        self.loss_weights = None if loss_weights is None else [float(w) for w in loss_weights]
        vector = torch.ones(num_classes + 1) if loss_weights is None else torch.tensor(self.loss_weights)
        # Rebuilt from the configuration, so not part of the state: the state dict stays mmdet's own.
        self.register_buffer("loss_weight_vector", vector, persistent=False)

    @classmethod
    def arguments_from(cls, categories: CategoryTable, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the ``loss_weights`` of Re-weight (Table 1 rows 6 and 7)."""
        return {"loss_weights": class_balanced_weights(categories.instance_counts)}

    def loss(self, logits: Tensor, labels: Tensor, reduction: Reduction = "mean") -> dict[str, Tensor]:
        """Compute ``loss_cls``, the weighted cross entropy of (N, C + 1) logits."""
        if self.loss_weights is None:
            return {"loss_cls": functional.cross_entropy(logits, labels, reduction=reduction)}
        losses = functional.cross_entropy(logits, labels, reduction="none")
        return {"loss_cls": reduced(losses * self.loss_weight_vector[labels], reduction)}

    def scores(self, logits: Tensor) -> Tensor:
        """Compute (N, C + 1) softmax probabilities."""
        return logits.softmax(dim=1)


def is_linear_softmax(classifier: Classifier) -> TypeGuard[SoftmaxClassifier]:
    """Return whether a detector's own head computes the same scores from W and b: a linear layer and a softmax."""
    plain = isinstance(classifier, SoftmaxClassifier) and type(classifier).scores is SoftmaxClassifier.scores
    return plain and classifier.cosine is None


def class_balanced_weights(
    counts: Sequence[int] | np.ndarray, beta: float = 1.0, clip: tuple[float, float] | None = (0.01, 5.0)
) -> list[float]:
    """Return C + 1 loss weights: foreground weights divided by their mean and clipped, background 1 (section 7.1.2).

    A class without training instances never occurs as a label; it is counted as one instance.

    Args:
        counts: n_j, train instances of each class.
        beta: weights are (1 - beta) / (1 - beta^n_j) (class-balanced loss); at 1, the limit, 1 / n_j (re-weight).
        clip: least and greatest weight after the division by the mean; None for no clipping.
    """
    counts = np.maximum(np.asarray(counts, dtype=np.float64), 1)
    weights = 1 / counts if beta == 1 else (1 - beta) / (1 - beta**counts)
    weights = weights / weights.mean()
    return [*(weights if clip is None else np.clip(weights, *clip)).tolist(), 1.0]
