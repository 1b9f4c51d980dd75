"""Sigmoid classifiers with a weighted binary cross entropy; the published losses are in ``sigmoid_losses``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from imbalance_bench.categories import CategoryTable
from imbalance_bench.classifiers.base import LinearClassifier, Reduction

BACKGROUNDS = ("none", "objectness", "own")


class Weights(NamedTuple):
    """The weights of a batch's loss terms, and a shift of the logits; each broadcasts to (N, K).

    Attributes:
        positive: weight of the term of a RoI's own class.
        negative: weights of the terms of the other classes.
        shift: added to the logits before the loss; None for no shift.
    """

    positive: Tensor | float = 1.0
    negative: Tensor | float = 1.0
    shift: Tensor | None = None


class SigmoidClassifier(LinearClassifier):
    """Independent sigmoids: binary cross entropy of each class, summed over classes, mean over RoIs.

    Args:
        num_classes: C.
        feature_dim: d.
        background: how background is scored. ``none``: 1 - max_j p_j, K = C (the released code has 0, so that no RoI is
            predicted as background; detections are the same). ``objectness``: one more sigmoid scores background, and
            the score of a class is p_c (1 - p_bg). ``own``: one more sigmoid scores background as one more class.
        cosine: of LinearClassifier.

    Example:
        >>> classifier = SigmoidClassifier(num_classes=2, feature_dim=4, background="objectness")
        >>> logits, labels = torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([0])
        >>> classifier.scores(logits)
        tensor([[0.4404, 0.2500, 0.5000]])
        >>> classifier.loss(logits, labels)
        {'loss_cls': tensor(1.5132)}
    """

    def __init__(
        self, num_classes: int, feature_dim: int, background: str = "none", cosine: float | None = None
    ) -> None:
        if background not in BACKGROUNDS:
            raise ValueError(f"background is {background!r}, expected one of {', '.join(BACKGROUNDS)}")
        super().__init__(num_classes, feature_dim, num_classes + (background != "none"), cosine)
        self.background = background
        torch.nn.init.constant_(self.bias, -math.log(99))  # a prior of .01, as the focal loss paper starts

    @property
    def has_background_row(self) -> bool:  # type: ignore[override]
        """Whether one of the sigmoids scores background."""
        return self.background != "none"

    def weights(self, logits: Tensor, labels: Tensor, target: Tensor) -> Weights:
        """Return the weights of the loss terms; all are 1 here.

        Args:
            logits: (N, K), detached.
            labels: (N,), background C.
            target: (N, K) bool, whether the column is the RoI's own class; all False for background without a column.
        """
        return Weights()

    def loss(self, logits: Tensor, labels: Tensor, reduction: Reduction = "mean") -> dict[str, Tensor]:
        """Compute ``loss_cls`` from (N, K) logits."""
        if logits.dtype in (torch.float16, torch.bfloat16):
            logits = logits.float()  # the sum over a batch's classes is beyond half precision
        target = labels[:, None] == torch.arange(logits.shape[1], device=labels.device)
        weights = self.weights(logits.detach(), labels, target)
        weight = torch.where(target, weights.positive, weights.negative)
        if self.training:
            self.observe(logits.detach(), labels, target, weight)
        terms = self.terms(logits if weights.shift is None else logits + weights.shift, target)
        weighted = weight * terms
        return {"loss_cls": weighted.sum(dim=1) if reduction == "none" else weighted.sum() / max(len(logits), 1)}

    def observe(self, logits: Tensor, labels: Tensor, target: Tensor, weight: Tensor) -> None:
        """Update the statistics that the weights of the next batch depend on; nothing here."""

    def terms(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the (N, K) binary cross entropies."""
        return functional.softplus(torch.where(target, -logits, logits))

    def probabilities(self, logits: Tensor) -> Tensor:
        """Compute (N, K) probabilities, each from its own logit."""
        return logits.sigmoid()

    def scores(self, logits: Tensor) -> Tensor:
        """Compute (N, C + 1) scores, background last."""
        probabilities = self.probabilities(logits)
        if self.background == "own":
            return probabilities
        if self.background == "none":
            return torch.cat([probabilities, 1 - probabilities.amax(dim=1, keepdim=True)], dim=1)
        background = probabilities[:, -1:]
        return torch.cat([probabilities[:, :-1] * (1 - background), background], dim=1)

    def category_logits(self, logits: Tensor) -> Tensor:
        """Return (N, C + 1) logits from (N, K); NaN for background if it has no sigmoid."""
        return logits if self.has_background_row else functional.pad(logits, (0, 1), value=math.nan)

    def class_weights(self) -> Tensor:
        """Return the (C + 1, d) weight rows; NaN for background if it has no sigmoid."""
        rows = self.effective_weight().detach()
        return rows if self.has_background_row else functional.pad(rows, (0, 0, 0, 1), value=math.nan)

    def class_biases(self) -> Tensor:
        """Return the (C + 1,) biases; NaN for background if it has no sigmoid."""
        bias = self.bias.detach()
        return bias if self.has_background_row else functional.pad(bias, (0, 1), value=math.nan)


class GumbelClassifier(SigmoidClassifier):
    """Gumbel activation (GOL, arXiv 2207.10936): ``p = exp(-exp(-z))`` in the place of the sigmoid.

    It falls faster than the sigmoid where a class is unlikely, as rare classes nearly always are. LVIS v1 mask AP 27.7
    with DropLoss and RFS, which are not here. The loss clamps logits to [-4, 10], beyond which there is no gradient;
    so it starts as GOL's configurations do, at weights .001 and bias -2. Scores are of the logits as they are.

    Args:
        num_classes: C.
        feature_dim: d.
        cosine: of LinearClassifier, whose weights start at random.

    Example:
        >>> classifier = GumbelClassifier(num_classes=2, feature_dim=4)
        >>> logits, labels = torch.tensor([[2.0, 0.0]]), torch.tensor([0])
        >>> classifier.scores(logits)
        tensor([[0.8734, 0.3679, 0.1266]])
        >>> classifier.loss(logits, labels)
        {'loss_cls': tensor(0.5940)}
    """

    def __init__(self, num_classes: int, feature_dim: int, cosine: float | None = None) -> None:
        super().__init__(num_classes, feature_dim, cosine=cosine)
        torch.nn.init.constant_(self.bias, -2.0)
        if cosine is None:
            torch.nn.init.constant_(self.weight, 0.001)

    def terms(self, logits: Tensor, target: Tensor) -> Tensor:
        """Binary cross entropies of the Gumbel distribution."""
        rate = torch.exp(-logits.float().clamp(-4, 10))
        return torch.where(target, rate, -torch.log(-torch.expm1(-rate)))

    def probabilities(self, logits: Tensor) -> Tensor:
        """(N, K), in single precision: in half, all above 8.4 would be 1."""
        return torch.exp(-torch.exp(-logits.float()))


def inverse_power_weights(counts: Sequence[int] | np.ndarray, power: float = 1.0) -> list[float]:
    """Return C weights ``(1 / n_c)^power``, divided by their mean; a count of 0 is taken as 1.

    Args:
        counts: n_c, train instances of each class.
        power: 0 gives equal weights, 1 those of inverse frequency.
    """
    weights = np.maximum(np.asarray(counts, dtype=np.float64), 1) ** -power
    of_mean_one: list[float] = (weights / weights.mean()).tolist()
    return of_mean_one


class ClassWeightedSigmoidClassifier(SigmoidClassifier):
    """Sigmoids whose loss terms have a weight for each class: the setting ``cls_pw`` of Ultralytics' YOLO.

    The weight of a class multiplies its terms in all RoIs, those that raise its logit and those that lower it. So a
    rare class is trained with a higher learning rate, as it were, and the balance of its positives and negatives stays.
    Ultralytics divides by the sum of its soft targets; here the loss is a mean over RoIs, as of the other sigmoids.

    Args:
        num_classes: C.
        feature_dim: d.
        term_weights: C.
        cosine: of LinearClassifier.

    Example:
        >>> weights = inverse_power_weights([4, 100], power=0.5)
        >>> classifier = ClassWeightedSigmoidClassifier(num_classes=2, feature_dim=4, term_weights=weights)
        >>> [round(value, 4) for value in weights]
        [1.6667, 0.3333]
        >>> classifier.loss(torch.tensor([[2.0, 0.0]]), torch.tensor([0]))
        {'loss_cls': tensor(0.4426)}
    """

    term_weight_vector: Tensor

    def __init__(
        self, num_classes: int, feature_dim: int, term_weights: Sequence[float], cosine: float | None = None
    ) -> None:
        super().__init__(num_classes, feature_dim, cosine=cosine)
        if len(term_weights) != num_classes:
            raise ValueError(f"expected {num_classes} term weights, got {len(term_weights)}")
        self.term_weights = [float(weight) for weight in term_weights]
        self.register_buffer("term_weight_vector", torch.tensor(self.term_weights), persistent=False)

    @classmethod
    def arguments_from(cls, categories: CategoryTable, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return ``term_weights``: of inverse frequency."""
        return {"term_weights": inverse_power_weights(categories.instance_counts)}

    def terms(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the (N, C) binary cross entropies times the weights of their classes."""
        return self.term_weight_vector.to(logits) * super().terms(logits, target)
