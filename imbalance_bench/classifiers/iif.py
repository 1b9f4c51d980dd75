"""Inverse image frequency, IIF: logits multiplied by the log of how rarely a class is in an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from imbalance_bench.categories import CategoryTable
from imbalance_bench.classifiers.base import LinearClassifier, Reduction
from imbalance_bench.classifiers.softmax import SoftmaxClassifier


def inverse_image_frequency(
    counts: Sequence[int] | np.ndarray, images: int, smooth: bool = False, base: float = np.e
) -> list[float]:
    """Return the C + 1 factors of the logits: ``log(I / m_c)`` in a base, 1 for background (arXiv 2209.04861).

    Smooth: ``log((I + 1) / (m_c + 1)) + 1``, which is at least 1. A class in no image is counted as in one. In the
    authors' file for LVIS v1, a class in 64 of 100,170 images has 7.3557, and 8.3402 smooth.

    Args:
        counts: m_c, train images of each class.
        images: I, all train images.
        smooth: as the authors' commands for image classification.
        base: of the logarithm.
    """
    numbers = np.maximum(np.asarray(counts, dtype=np.float64), 1)
    factors = np.log((images + 1) / (numbers + 1)) + 1 if smooth else np.log(images / numbers) / np.log(base)
    return [*factors.tolist(), 1.0]


def iif_scaled(base: LinearClassifier, factors: Sequence[float]) -> SoftmaxClassifier:
    """Multiply the C + 1 logits of a trained softmax classifier by IIF's factors; W and b change, nothing is trained.

    The authors publish this for image classification, on cosine classifiers. There is no background there; its logit is
    not changed here, as in their training of detectors.

    Args:
        base: the trained softmax classifier.
        factors: C + 1, background last.
    """
    classifier = SoftmaxClassifier(base.num_classes, base.feature_dim)
    scale = torch.as_tensor(factors, dtype=base.weight.dtype)
    with torch.no_grad():
        classifier.weight.copy_(scale[:, None] * base.class_weights())
        classifier.bias.copy_(scale * base.class_biases())
    return classifier


class IIFClassifier(LinearClassifier):
    """IIF (arXiv 2209.04861): softmax of logits times fixed factors, larger for rarer classes, in loss and scores.

    The factor of a class is ``log(I / m_c)``, of its share of the training images; that of background is 1. As in the
    authors' configurations for detectors, all weights start at .001 and all biases at 0. They train the whole detector,
    and their best numbers come with RFS, a cosine classifier and a normed mask head.

    Args:
        num_classes: C.
        feature_dim: d.
        factors: C + 1, background last.
        cosine: of LinearClassifier, whose weights start at random.

    Example:
        >>> factors = inverse_image_frequency([10, 100], images=1000)
        >>> classifier = IIFClassifier(num_classes=2, feature_dim=2, factors=factors)
        >>> logits = classifier(torch.tensor([[500.0, 500.0]])).detach()
        >>> logits
        tensor([[4.6052, 2.3026, 1.0000]])
        >>> classifier.loss(logits, torch.tensor([1]))
        {'loss_cls': tensor(2.4223)}
    """

    factor_vector: Tensor

    def __init__(
        self, num_classes: int, feature_dim: int, factors: Sequence[float], cosine: float | None = None
    ) -> None:
        super().__init__(num_classes, feature_dim, num_classes + 1, cosine)
        if len(factors) != num_classes + 1:
            raise ValueError(f"expected {num_classes + 1} factors (background last), got {len(factors)}")
        self.factors = [float(factor) for factor in factors]
        self.register_buffer("factor_vector", torch.tensor(self.factors), persistent=False)
        if cosine is None:
            torch.nn.init.constant_(self.weight, 0.001)

    @classmethod
    def arguments_from(cls, categories: CategoryTable, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return ``factors``, of the share of training images that hold the class."""
        return {"factors": inverse_image_frequency(categories.image_counts, categories.total_images)}

    def forward(self, features: Tensor) -> Tensor:
        """Compute (N, C + 1) logits, times the factors, from (N, d) features."""
        return self.factor_vector.to(features) * super().forward(features)

    def loss(self, logits: Tensor, labels: Tensor, reduction: Reduction = "mean") -> dict[str, Tensor]:
        """Compute ``loss_cls``, the cross entropy of (N, C + 1) logits."""
        return {"loss_cls": functional.cross_entropy(logits, labels, reduction=reduction)}

    def scores(self, logits: Tensor) -> Tensor:
        """Compute (N, C + 1) softmax probabilities."""
        return logits.softmax(dim=1)

    def class_weights(self) -> Tensor:
        """Return the (C + 1, d) weight rows times the factors."""
        return self.factor_vector[:, None] * super().class_weights()

    def class_biases(self) -> Tensor:
        """Return the (C + 1,) biases times the factors."""
        return self.factor_vector * super().class_biases()
