"""Softmax classifiers that are trained with other losses; all but Seesaw are scored with the plain softmax.

The sigmoid variant of balanced softmax, which its authors use for detection, is here too.
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
    """A softmax trained with cross entropy of ``z + shift``, and scored without the shift.

    A class with a low prior gets a low shift in training, so its logits must become higher to make up for it.

    - Logit-adjusted loss (arXiv 2007.07314), balanced softmax (2007.10740): ``shift = tau log N``. Neither paper has a
      background; here it is treated as a class of mean size. For detection, the authors of balanced softmax use
      ``BalancedSigmoidClassifier``.
    - LDAM (1906.07413), with ``margin``: only the target's logit is shifted, and there is no bias. With
      ``deferred_weights`` the loss is a weighted mean late in training (DRW), divided by the sum of the weights. As in
      the released code for CIFAR, the weights start at the first step of the learning rate (epoch 160 of 200 there, 8
      of 12 here). Background has margin 0 and weight 1. Published for classification only. W is initialised as in
      mmdet, not with rows of norm 1.

    Args:
        num_classes: C.
        feature_dim: d.
        shift: C + 1 values, background last.
        margin: only the target's logit is shifted, and the bias stays 0.
        deferred_weights: C + 1 loss weights, background last, used after the share ``DEFERRED`` of the training.
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
        """Return ``shift`` (LDAM's with ``margin``, else that of balanced softmax) and DRW's ``deferred_weights``."""
        counts = categories.instance_counts
        margins = ldam_margins(counts, scale=given.get("cosine") or 1.0)
        return {
            "shift": margins if given.get("margin") else log_counts(counts, unit=None),
            "deferred_weights": class_balanced_weights(counts, 0.9999, clip=None),
        }

    def loss(self, logits: Tensor, labels: Tensor, reduction: Reduction = "mean") -> dict[str, Tensor]:
        """Compute ``loss_cls`` from (N, C + 1) logits."""
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
        """Whether there are deferred weights."""
        return self.loss_weights is not None

    def begin_epoch(self, done: float) -> None:
        """Switch the deferred weights on when the share ``DEFERRED`` of the training is done."""
        self._weighted = self.loss_weights is not None and done >= self.DEFERRED


class BalancedSigmoidClassifier(SigmoidClassifier):
    """Balanced softmax for detection (arXiv 2007.10740): sigmoids of ``z_c - log((1 - pi_c) / pi_c)``.

    The shift applies only to foreground RoIs; pi_c is the share of the train images that hold the class. Scores are
    computed without the shift. Compared with the authors' code, which starts from a detector trained with sigmoids and
    RFS, and samples with RFS too; its meta-learnt weights (BALMS) are not implemented here. LVIS v0.5 box AP 26.4, with
    BALMS.

    Args:
        num_classes: C.
        feature_dim: d.
        shift: C values.
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
        """Return ``shift``: the log odds that a train image holds the class."""
        return {"shift": log_odds(categories.image_counts, categories.total_images)}

    def weights(self, logits: Tensor, labels: Tensor, target: Tensor) -> Weights:
        """Return weight 1 for all terms, and the shift in foreground RoIs."""
        return Weights(shift=(labels < self.num_classes)[:, None] * self.shift_vector)


def log_odds(counts: Sequence[int] | np.ndarray, images: int, strength: float = 1.0) -> list[float]:
    """Return the C log odds ``strength * log(pi_c / (1 - pi_c))`` that an image holds a class.

    A class in no image is counted as in one; a class in all images is counted as absent from one.

    Args:
        counts: train images of each class.
        images: all train images.
        strength: factor of the log odds.
    """
    numbers = np.asarray(counts, dtype=np.float64)
    shift: list[float] = (strength * (np.log(numbers.clip(min=1)) - np.log((images - numbers).clip(min=1)))).tolist()
    return shift


def ldam_margins(counts: Sequence[int] | np.ndarray, greatest: float = 0.5, scale: float = 30.0) -> list[float]:
    """Return LDAM's margins as shifts: ``-scale * greatest * (N_c / min N)^-1/4``, 0 for background (1906.07413)."""
    numbers = np.maximum(np.asarray(counts, dtype=np.float64), 1)
    margins = numbers**-0.25
    return [*(-scale * greatest * margins / margins.max()).tolist(), 0.0]


class EquilibriumClassifier(SoftmaxClassifier):
    """Equilibrium loss of LOCE (arXiv 2108.07507): cross entropy of ``z + log mean score`` of each class.

    The mean score of a class is taken over the RoIs of that class. A class with a low mean score gets a more negative
    shift, and so a greater loss, independent of its count. Means are moving averages; that of background is fixed at
    .01. After n boxes of a class in a batch, the new mean is ``momentum^n`` times the old mean plus ``1 - momentum^n``
    times the mean of the boxes. The authors first average the RoIs of a ground-truth box. Here it is not known which
    box a RoI belongs to, so each RoI counts as one box, and the means follow the batches faster. LOCE, with its feature
    memory: LVIS v0.5 box AP 28.2.

    Args:
        num_classes: C.
        feature_dim: d.
        momentum: of the averages, for one box.
        background_score: used as the mean score of background.
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
        """Compute ``loss_cls`` from (N, C + 1) logits; in training, update the averages with this batch first."""
        if self.training:
            self._update(logits.detach(), labels)
        shifted = logits + self.mean_scores.log().to(logits)
        return {"loss_cls": functional.cross_entropy(shifted, labels, reduction=reduction)}

    def counts_as(self, labels: Tensor) -> Tensor:
        """Return for each of N RoIs the number of boxes that it counts as in the averages; 1 here."""
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
    """Seesaw loss (arXiv 2008.10032) with objectness: C class logits, and two for foreground or background.

    In foreground RoIs of class i, the gradient of another class j is weaker if j has been seen less often
    (``(N_j / N_i)^p``), and stronger if j has a higher score than the target (``(s_j / s_i)^q``). Counts grow during
    training. The score of a class is its softmax among the classes times the foreground score of the RoI. LVIS v1 mask
    AP 26.4 to 26.8 with a cosine classifier and RFS. The same as mmdet's SeesawLoss, including the order of logits
    (object, background), except that mmdet only counts the RoIs of its own process.

    Args:
        num_classes: C.
        feature_dim: d.
        p: strength of mitigation.
        q: strength of compensation.
        cosine: of LinearClassifier.
        least: lower bound of the target's score in the ratio of scores.

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
        """Compute ``loss_cls`` among the classes, as a mean over all RoIs of the batch, and ``loss_objectness``."""
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
        """Compute the (N, C) logs of the factors of exp(z_j) in the denominator; 0 for the target."""
        counts = self.counts[: self.num_classes].clamp(min=1)
        mitigation = (counts[None, :] / counts[target][:, None]).clamp(max=1).log() * self.p
        scores = classes.detach().float().softmax(dim=1)
        own = scores.gather(1, target[:, None]).clamp(min=self.least)
        compensation = (scores / own).clamp(min=1).log() * self.q
        return (mitigation + compensation).scatter(1, target[:, None], 0.0).to(classes)

    def scores(self, logits: Tensor) -> Tensor:
        """Compute (N, C + 1) scores: the class softmax times the foreground score, and the background score."""
        objectness = logits[:, self.num_classes :].softmax(dim=1)
        return torch.cat([logits[:, : self.num_classes].softmax(dim=1) * objectness[:, :1], objectness[:, 1:]], dim=1)

    def rows(self) -> Tensor:
        """Return, for each of the C + 1 categories, the index of its row in W; background last."""
        every = torch.arange(self.num_classes + 2, device=self.weight.device)
        return torch.cat([every[: self.num_classes], every[-1:]])
