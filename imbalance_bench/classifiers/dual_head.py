"""SimCal's dual head: the trained classifier for the head, one calibrated by balanced sampling for the tail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from imbalance_bench.categories import CategoryTable
from imbalance_bench.classifiers.base import LinearClassifier, Reduction
from imbalance_bench.classifiers.softmax import SoftmaxClassifier


class DualHeadClassifier(SoftmaxClassifier):
    """SimCal (arXiv 2007.11978): tail classes are scored by the calibrated softmax, the rest by the one before.

    Each softmax is normalised by itself, background comes from the one before, and only the calibrated one is trained:
    W and b here, two or three fully connected layers in the authors' code, which draws background from all images of a
    batch, and trains without momentum. Mask R-CNN on LVIS v0.5: box AP by bins 0/15.9/24.6/30.5 -> 8.2/21.3/23.0/29.5.

    Args:
        num_classes: C.
        feature_dim: d.
        tail: C, whether a class is scored by the calibrated one.

    Example:
        >>> classifier = DualHeadClassifier(num_classes=2, feature_dim=4, tail=[True, False])
        >>> classifier.scores(torch.tensor([[2.0, 0.0, 0.0, 0.0, 0.0, 0.0]]))  # calibrated logits, then those before
        tensor([[0.7870, 0.3333, 0.3333]])
    """

    original_weight: Tensor
    original_bias: Tensor
    tail_mask: Tensor
    base_buffers: ClassVar[tuple[str, ...]] = ("original_weight", "original_bias")

    BELOW = 100

    def __init__(self, num_classes: int, feature_dim: int, tail: Sequence[bool]) -> None:
        super().__init__(num_classes, feature_dim)
        if len(tail) != num_classes:
            raise ValueError(f"expected {num_classes} entries of 'tail', got {len(tail)}")
        self.tail = [bool(value) for value in tail]
        self.register_buffer("original_weight", torch.zeros_like(self.weight.detach()))
        self.register_buffer("original_bias", torch.zeros_like(self.bias.detach()))
        self.register_buffer("tail_mask", torch.tensor([*self.tail, False]), persistent=False)

    @classmethod
    def arguments_from(cls, categories: CategoryTable, given: Mapping[str, Any]) -> dict[str, Any]:
        """``tail``: classes of fewer than ``BELOW`` train instances."""
        return {"tail": (categories.instance_counts < cls.BELOW).tolist()}

    @classmethod
    def from_base(cls, base: LinearClassifier, tail: Sequence[bool]) -> DualHeadClassifier:
        """Build one beside a trained classifier, whose rows score the other classes; its own are new."""
        classifier = cls(base.num_classes, base.feature_dim, tail)
        classifier.original_weight.copy_(base.weight.detach())
        classifier.original_bias.copy_(base.bias.detach())
        return classifier

    def forward(self, features: Tensor) -> Tensor:
        """(N, d) -> (N, 2 (C + 1)): logits of the calibrated softmax, then of the one before."""
        return torch.cat(
            [super().forward(features), functional.linear(features, self.original_weight, self.original_bias)], dim=1
        )

    def loss(self, logits: Tensor, labels: Tensor, reduction: Reduction = "mean") -> dict[str, Tensor]:
        """``loss_cls`` of the calibrated one."""
        return super().loss(logits[:, : self.num_classes + 1], labels, reduction)

    def scores(self, logits: Tensor) -> Tensor:
        """(N, C + 1); need not sum to 1."""
        calibrated, original = (part.softmax(dim=1) for part in logits.chunk(2, dim=1))
        return torch.where(self.tail_mask, calibrated, original)

    def category_logits(self, logits: Tensor) -> Tensor:
        """(N, 2 (C + 1)) -> (N, C + 1), of each class the one that scores it."""
        calibrated, original = logits.chunk(2, dim=1)
        return torch.where(self.tail_mask, calibrated, original)

    def class_weights(self) -> Tensor:
        """(C + 1, d), of each class the row that scores it."""
        return torch.where(self.tail_mask[:, None], self.weight.detach(), self.original_weight)

    def class_biases(self) -> Tensor:
        """(C + 1,)."""
        return torch.where(self.tail_mask, self.bias.detach(), self.original_bias)
