"""Softmax classifiers trained with another loss; scored, but for Seesaw, by the plain softmax.

Balanced softmax's authors have a sigmoid of it for detection, which stands here, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from imbalance_bench.categories import CategoryTable
from imbalance_bench.classifiers.base import LinearClassifier, Reduction, reduced
from imbalance_bench.classifiers.logit_transforms import log_counts
from imbalance_bench.classifiers.sigmoid import SigmoidClassifier, Weights
from imbalance_bench.classifiers.softmax import SoftmaxClassifier, class_balanced_weights
from imbalance_bench.runtime.processes import sum_over_processes


class ShiftedSoftmaxClassifier(SoftmaxClassifier):
    """Cross entropy of ``z + shift``, scored without it: what a class lacks in the prior its logits must make up.

    - Logit-adjusted loss (arXiv 2007.07314), balanced softmax (2007.10740): ``shift = tau log N``. Both know no
      background; here it stands as a class of mean size. For detection the latter's authors have
      ``BalancedSigmoidClassifier``.
    - LDAM (1906.07413), with ``margin``: the shift is taken from the target's logit alone, and there is no bias. With
      ``deferred_weights`` its loss is a weighted mean late in training (DRW): divided by the sum of the weights. As
      released for CIFAR, from the first step of the learning rate on (epoch 160 of 200 there, 8 of 12 here); background
      has margin 0 and weight 1. Published for classification alone. W starts as mmdet's, not at rows of norm 1.

    Args:
        num_classes: C.
        feature_dim: d.
        shift: C + 1, background last.
        margin: only the target's logit is shifted, and the bias stays 0.
        deferred_weights: C + 1 loss weights, background last, that hold from ``DEFERRED`` of the training on.
        cosine: of LinearClassifier.

    Example:
        >>> shift = ldam_margins([4, 120], scale=30.0)
        >>> [round(value, 2) for value in shift]
        [-15.0, -6.41, 0.0]
        >>> classifier = ShiftedSoftmaxClassifier(2, 4, shift, margin=True, cosine=30.0)
        >>> logits, labels = torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([0])
        >>> classifier.scores(logits)
        tensor([[0.7870, 0.1065, 0.1065]])
        >>> classifier.loss(logits, labels)
        {'loss_cls': tensor(13.6931)}
    """

    shift_vector: Tensor

    DEFERRED = 2 / 3

    def __init__(
        self,
        num_classes: int,
        feature_dim: int,
        shift: Sequence[float],
        margin: bool = False,
        cosine: float | None = None,
        deferred_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__(num_classes, feature_dim, deferred_weights, cosine)
        self.deferred_weights, self._weighted = self.loss_weights, False
        if len(shift) != num_classes + 1:
            raise ValueError(f"expected {num_classes + 1} shifts (background last), got {len(shift)}")
        self.shift, self.margin = [float(value) for value in shift], margin
        self.register_buffer("shift_vector", torch.tensor(self.shift), persistent=False)
        self.bias.requires_grad_(not margin)

    @classmethod
    def arguments_from(cls, categories: CategoryTable, given: Mapping[str, Any]) -> dict[str, Any]:
        """``shift``: LDAM's with ``margin``, of a cosine classifier's scale, else balanced softmax's; DRW's weights."""
        counts = categories.instance_counts
        margins = ldam_margins(counts, scale=given.get("cosine") or 1.0)
        return {
            "shift": margins if given.get("margin") else log_counts(counts, unit=None),
            "deferred_weights": class_balanced_weights(counts, 0.9999, clip=None),
        }

    def loss(self, logits: Tensor, labels: Tensor, reduction: Reduction = "mean") -> dict[str, Tensor]:
        """``loss_cls`` over (N, C + 1) logits."""
        if self.margin:
            shifted = logits.scatter_add(1, labels[:, None], self.shift_vector[labels][:, None].to(logits))
        else:
            shifted = logits + self.shift_vector
        weight = self.loss_weight_vector.to(logits) if self._weighted else None
        losses = functional.cross_entropy(shifted, labels, weight, reduction=reduction)
        if reduction == "none" and weight is not None:
            losses = losses * (len(labels) / weight[labels].sum())
        return {"loss_cls": losses}

    @property
    def changes_over_epochs(self) -> bool:
        """Where there are deferred weights."""
        return self.loss_weights is not None

    def begin_epoch(self, done: float) -> None:
        """Weights hold from ``DEFERRED`` on."""
        self._weighted = self.loss_weights is not None and done >= self.DEFERRED


class BalancedSigmoidClassifier(SigmoidClassifier):
    """Balanced softmax (arXiv 2007.10740) as its authors train detectors: sigmoids, ``z_c - log((1 - pi_c) / pi_c)``.

    Foreground RoIs alone are shifted, by the share pi_c of the train images that hold the class. Scored
    without the shift. Compared with the authors' code, which starts from a detector trained with sigmoids and RFS, and
    samples so; its meta-learnt weights (BALMS) are not here. LVIS v0.5 box AP 26.4, with them.

    Args:
        num_classes: C.
        feature_dim: d.
        shift: C.
        cosine: of LinearClassifier.

    Example:
        >>> classifier = BalancedSigmoidClassifier(2, 4, log_odds([4, 120], images=200))
        >>> logits, labels = torch.tensor([[2.0, 0.0]]), torch.tensor([0])
        >>> classifier.scores(logits)
        tensor([[0.8808, 0.5000, 0.1192]])
        >>> classifier.loss(logits, labels)
        {'loss_cls': tensor(2.9486)}
    """

    shift_vector: Tensor

    def __init__(self, num_classes: int, feature_dim: int, shift: Sequence[float], cosine: float | None = None) -> None:
        super().__init__(num_classes, feature_dim, "none", cosine)
        if len(shift) != num_classes:
            raise ValueError(f"expected {num_classes} shifts, got {len(shift)}")
        self.shift = [float(value) for value in shift]
        self.register_buffer("shift_vector", torch.tensor(self.shift), persistent=False)

    @classmethod
    def arguments_from(cls, categories: CategoryTable, given: Mapping[str, Any]) -> dict[str, Any]:
        """``shift``: log odds that a train image holds the class."""
        return {"shift": log_odds(categories.image_counts, categories.total_images)}

    def weights(self, logits: Tensor, labels: Tensor, target: Tensor) -> Weights:
        """All terms weigh 1; foreground is shifted."""
        return Weights(shift=(labels < self.num_classes)[:, None] * self.shift_vector)


def log_odds(counts: Sequence[int] | np.ndarray, images: int, strength: float = 1.0) -> list[float]:
    """C log odds ``strength * log(pi_c / (1 - pi_c))`` that an image holds a class; of none or all, as but for one.

    Args:
        counts: train images of each class.
        images: of which.
        strength: they are multiplied by this.
    """
    numbers = np.asarray(counts, dtype=np.float64)
    shift: list[float] = (strength * (np.log(numbers.clip(min=1)) - np.log((images - numbers).clip(min=1)))).tolist()
    return shift


def ldam_margins(counts: Sequence[int] | np.ndarray, greatest: float = 0.5, scale: float = 30.0) -> list[float]:
    """LDAM's margins as shifts: ``-scale * greatest * (N_c / min N)^-1/4``, background's 0 (1906.07413)."""
    numbers = np.maximum(np.asarray(counts, dtype=np.float64), 1)
    margins = numbers**-0.25
    return [*(-scale * greatest * margins / margins.max()).tolist(), 0.0]


class EquilibriumClassifier(SoftmaxClassifier):
    """Equilibrium loss of LOCE (arXiv 2108.07507): CE of ``z + log mean score``, mean over a class's own RoIs.

    A class that is scored low on its own RoIs gets a negative shift, and so a greater loss, whatever its count. Means
    are moving averages, background's held at .01: n boxes of a class in a batch take them to ``momentum^n`` of what
    they were and ``1 - momentum^n`` of the boxes' mean. The authors average the RoIs of a ground-truth box first; which
    box a RoI belongs to is not known here, so each RoI is a box of its own, and means follow the batches faster. LOCE,
    with its feature memory: LVIS v0.5 box AP 28.2.

    Args:
        num_classes: C.
        feature_dim: d.
        momentum: of the averages, a box.
        background_score: stands for background's mean score.
        cosine: of LinearClassifier.

    Example:
        >>> classifier = EquilibriumClassifier(num_classes=2, feature_dim=4)
        >>> logits, labels = torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([0])
        >>> classifier.loss(logits, labels)
        {'loss_cls': tensor(0.0304)}
        >>> classifier.mean_scores
        tensor([0.0877, 0.0100, 0.0100])
    """

    mean_scores: Tensor

    def __init__(
        self,
        num_classes: int,
        feature_dim: int,
        momentum: float = 0.9,
        background_score: float = 0.01,
        cosine: float | None = None,
    ) -> None:
        super().__init__(num_classes, feature_dim, cosine=cosine)
        self.momentum, self.background_score = momentum, background_score
        self.register_buffer("mean_scores", torch.full((num_classes + 1,), background_score))

    def loss(self, logits: Tensor, labels: Tensor, reduction: Reduction = "mean") -> dict[str, Tensor]:
        """``loss_cls`` over (N, C + 1) logits; the averages take this batch in first, where training."""
        if self.training:
            self._update(logits.detach(), labels)
        shifted = logits + self.mean_scores.log().to(logits)
        return {"loss_cls": functional.cross_entropy(shifted, labels, reduction=reduction)}

    def counts_as(self, labels: Tensor) -> Tensor:
        """(N,) boxes that each RoI counts as in the averages: one."""
        return torch.ones_like(labels, dtype=torch.float)

    def _update(self, logits: Tensor, labels: Tensor) -> None:
        own = logits.float().softmax(dim=1).gather(1, labels[:, None])[:, 0]
        boxes = self.counts_as(labels)
        sums = torch.zeros_like(self.mean_scores).index_add_(0, labels, boxes * own)
        numbers = torch.zeros_like(sums).index_add_(0, labels, boxes)
        sums, numbers = sum_over_processes(torch.stack([sums, numbers]))
        mean = torch.lerp(sums / numbers.clamp(min=1), self.mean_scores, self.momentum**numbers)
        mean[-1] = self.background_score
        self.mean_scores.copy_(mean.clamp(min=1e-6))


class SeesawClassifier(LinearClassifier):
    """Seesaw loss (arXiv 2008.10032) with objectness: C class logits, then background against foreground.

    On foreground RoIs the gradient that a class j gets from another class i is weakened where j was seen less
    (``(N_j / N_i)^p``), and strengthened where j is scored higher than the target (``(s_j / s_i)^q``). Counts grow as
    training goes. A class's score is its softmax among classes times the RoI's foreground. LVIS v1 mask AP 26.4 to
    26.8 with a cosine classifier and RFS. As mmdet's SeesawLoss, whose logits (object, background) it keeps; mmdet's
    counts those of its own process only.

    Args:
        num_classes: C.
        feature_dim: d.
        p: strength of mitigation.
        q: strength of compensation.
        cosine: of LinearClassifier.
        least: scores below it do not count in the ratio.

    Example:
        >>> classifier = SeesawClassifier(num_classes=2, feature_dim=4)
        >>> logits, labels = torch.tensor([[2.0, 0.0, 1.0, 0.0]]), torch.tensor([0])
        >>> classifier.scores(logits)
        tensor([[0.6439, 0.0871, 0.2689]])
        >>> classifier.loss(logits, labels)
        {'loss_cls': tensor(0.1269), 'loss_objectness': tensor(0.3133)}
        >>> classifier.counts
        tensor([1., 0., 0.])
    """

    counts: Tensor

    def __init__(
        self,
        num_classes: int,
        feature_dim: int,
        p: float = 0.8,
        q: float = 2.0,
        cosine: float | None = 20.0,
        least: float = 0.01,
    ) -> None:
        super().__init__(num_classes, feature_dim, num_classes + 2, cosine)
        self.p, self.q, self.least = p, q, least
        self.register_buffer("counts", torch.zeros(num_classes + 1))

    def loss(self, logits: Tensor, labels: Tensor, reduction: Reduction = "mean") -> dict[str, Tensor]:
        """``loss_cls`` among classes over the RoIs of the batch, and ``loss_objectness``."""
        if self.training:
            seen = torch.zeros_like(self.counts).scatter_add_(0, labels, torch.ones_like(labels, dtype=torch.float))
            self.counts += sum_over_processes(seen)
        classes, objectness = logits[:, : self.num_classes], logits[:, self.num_classes :]
        is_background = labels == self.num_classes
        target = labels.clamp(max=self.num_classes - 1)
        losses = functional.cross_entropy(classes + self._log_factors(classes, target), target, reduction="none")
        return {
            "loss_cls": reduced(losses.masked_fill(is_background, 0), reduction),
            "loss_objectness": functional.cross_entropy(objectness, is_background.long(), reduction=reduction),
        }

    def _log_factors(self, classes: Tensor, target: Tensor) -> Tensor:
        """(N, C) log of what weighs exp(z_j) in the denominator; 0 for the target."""
        counts = self.counts[: self.num_classes].clamp(min=1)
        mitigation = (counts[None, :] / counts[target][:, None]).clamp(max=1).log() * self.p
        scores = classes.detach().float().softmax(dim=1)
        own = scores.gather(1, target[:, None]).clamp(min=self.least)
        compensation = (scores / own).clamp(min=1).log() * self.q
        return (mitigation + compensation).scatter(1, target[:, None], 0.0).to(classes)

    def scores(self, logits: Tensor) -> Tensor:
        """(N, C + 1): class softmax times foreground, background."""
        objectness = logits[:, self.num_classes :].softmax(dim=1)
        return torch.cat([logits[:, : self.num_classes].softmax(dim=1) * objectness[:, :1], objectness[:, 1:]], dim=1)

    def rows(self) -> Tensor:
        """(C + 1,): the classes' rows, and that of background."""
        every = torch.arange(self.num_classes + 2, device=self.weight.device)
        return torch.cat([every[: self.num_classes], every[-1:]])
