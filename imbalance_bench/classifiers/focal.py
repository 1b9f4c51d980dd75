"""Focal loss at proposal level (Table 1 rows 8 and 9): as its authors defined it, and as in BAGS's released code."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from imbalance_bench.classifiers.base import LinearClassifier, Reduction
from imbalance_bench.classifiers.sigmoid import SigmoidClassifier


class SigmoidFocalClassifier(SigmoidClassifier):
    """Sigmoid focal loss over C classes with one-hot targets, divided by the number of foreground RoIs.

    Background has no logit: its score is 1 - max_j p_j, so that a RoI is predicted as background exactly when
    no class reaches one half.

    Args:
        num_classes: C.
        feature_dim: d.
        gamma: exponent of the modulating factor.
        alpha: weight of positives; negatives weigh 1 - alpha.
        cosine: of LinearClassifier.

    Example:
        >>> classifier = SigmoidFocalClassifier(num_classes=2, feature_dim=4)
        >>> logits, labels = torch.tensor([[2.0, 0.0]]), torch.tensor([0])
        >>> classifier.scores(logits)
        tensor([[0.8808, 0.5000, 0.1192]])
        >>> classifier.loss(logits, labels)
        {'loss_cls': tensor(0.1304)}
    """

    def __init__(
        self,
        num_classes: int,
        feature_dim: int,
        gamma: float = 2.0,
        alpha: float = 0.25,
        cosine: float | None = None,
    ) -> None:
        super().__init__(num_classes, feature_dim, cosine=cosine)
        self.gamma, self.alpha = gamma, alpha

    def loss(self, logits: Tensor, labels: Tensor, reduction: Reduction = "mean") -> dict[str, Tensor]:
        """Compute ``loss_cls`` from (N, C) logits."""
        target = functional.one_hot(labels, self.num_classes + 1)[:, :-1].to(logits.dtype)
        positives = target.sum().clamp(min=1)
        terms = focal_terms(logits, target, self.gamma, self.alpha)
        if reduction == "none":
            return {"loss_cls": terms.sum(dim=1) * (len(labels) / positives)}
        return {"loss_cls": terms.sum() / positives}


class ReleasedFocalClassifier(LinearClassifier):
    """The focal loss that the released head computes: C + 1 terms with misread targets, and softmax scores.

    The head passes a one-hot (N, C + 1) matrix, background first, to an operator that expects N class ids. The operator
    reads the first N entries of the flattened matrix: an id of 0 makes all C + 1 logits of the RoI negatives, an id of
    1 makes its background logit the positive. Only N / (C + 1) of the N RoIs get a positive at all; which ones depends
    on their order in the batch. The sum is divided by N (C + 1).

    Args:
        num_classes: C.
        feature_dim: d.
        gamma: exponent of the modulating factor.
        alpha: weight of positives; negatives weigh 1 - alpha.

    Example:
        >>> classifier = ReleasedFocalClassifier(num_classes=2, feature_dim=4)
        >>> logits, labels = torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([0])
        >>> classifier.scores(logits)
        tensor([[0.7870, 0.1065, 0.1065]])
        >>> classifier.loss(logits, labels)
        {'loss_cls': tensor(0.4992)}
    """

    def __init__(self, num_classes: int, feature_dim: int, gamma: float = 2.0, alpha: float = 0.25) -> None:
        super().__init__(num_classes, feature_dim, num_classes + 1)
        self.gamma, self.alpha = gamma, alpha

    def loss(self, logits: Tensor, labels: Tensor, reduction: Reduction = "mean") -> dict[str, Tensor]:
        """Compute ``loss_cls`` from (N, C + 1) logits."""
        width = self.num_classes + 1
        one_hot = functional.one_hot((labels + 1) % width, width)  # background first
        misread_ids = one_hot.flatten()[: len(labels)]
        target = torch.zeros_like(logits)
        target[:, -1] = misread_ids.to(logits.dtype)
        terms = focal_terms(logits, target, self.gamma, self.alpha)
        return {"loss_cls": terms.mean(dim=1) if reduction == "none" else terms.mean()}

    def scores(self, logits: Tensor) -> Tensor:
        """Compute (N, C + 1) softmax probabilities, as the released test code does."""
        return logits.softmax(dim=1)


def focal_terms(logits: Tensor, target: Tensor, gamma: float, alpha: float) -> Tensor:
    """Compute the elementwise focal loss ``-alpha_t (1 - p_t)^gamma log p_t`` from logits and 0/1 targets."""
    positive = target > 0
    opposed = torch.where(positive, -logits, logits)  # 1 - p_t is its sigmoid, -log p_t its softplus
    alpha_t = torch.where(positive, alpha, 1 - alpha).to(logits.dtype)
    return alpha_t * opposed.sigmoid() ** gamma * functional.softplus(opposed, threshold=50)
