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
    """SimCal (arXiv 2007.11978): the calibrated softmax scores tail classes, the original softmax all others.

    Each softmax is normalised separately, the original one scores background, and only the calibrated one is trained.
    Here W and b are trained. The authors' code trains two or three fully connected layers, draws background from all
    images of a batch, and has no momentum. Mask R-CNN on LVIS v0.5: box AP by bins 0/15.9/24.6/30.5 ->
    8.2/21.3/23.0/29.5.

    Args:
        num_classes: C.
        feature_dim: d.
        tail: C flags, whether the calibrated softmax scores the class.

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
        """Return ``tail``: the classes with fewer than ``BELOW`` train instances."""
        return {"tail": (categories.instance_counts < cls.BELOW).tolist()}

    @classmethod
    def from_base(cls, base: LinearClassifier, tail: Sequence[bool]) -> DualHeadClassifier:
        """Build a dual head from a trained classifier, which scores the other classes; the calibrated rows are new."""
        classifier = cls(base.num_classes, base.feature_dim, tail)
        classifier.original_weight.copy_(base.weight.detach())
        classifier.original_bias.copy_(base.bias.detach())
        return classifier

    def forward(self, features: Tensor) -> Tensor:
        """Compute (N, 2 (C + 1)) logits from (N, d) features: the calibrated softmax first, then the original one."""
        return torch.cat(
            [super().forward(features), functional.linear(features, self.original_weight, self.original_bias)], dim=1
        )

    def loss(self, logits: Tensor, labels: Tensor, reduction: Reduction = "mean") -> dict[str, Tensor]:
        """Compute ``loss_cls`` of the calibrated softmax."""
        return super().loss(logits[:, : self.num_classes + 1], labels, reduction)

    def scores(self, logits: Tensor) -> Tensor:
        """Compute (N, C + 1) scores; their sum may differ from 1."""
        calibrated, original = (part.softmax(dim=1) for part in logits.chunk(2, dim=1))
        return torch.where(self.tail_mask, calibrated, original)

    def category_logits(self, logits: Tensor) -> Tensor:
        """Return (N, C + 1) logits from (N, 2 (C + 1)): for each class the logit that scores it."""
        calibrated, original = logits.chunk(2, dim=1)
        return torch.where(self.tail_mask, calibrated, original)

    def class_weights(self) -> Tensor:
        """Return the (C + 1, d) weight rows: for each class the row that scores it."""
        return torch.where(self.tail_mask[:, None], self.weight.detach(), self.original_weight)

    def class_biases(self) -> Tensor:
        """Return the (C + 1,) biases: for each class the bias that scores it."""
        return torch.where(self.tail_mask, self.bias.detach(), self.original_bias)
