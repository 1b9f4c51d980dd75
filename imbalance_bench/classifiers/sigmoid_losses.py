"""Losses of sigmoid classifiers against the long tail: each says what the terms of the cross entropy weigh."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from imbalance_bench.categories import FREQUENCIES, CategoryTable
from imbalance_bench.classifiers.sigmoid import SigmoidClassifier, Weights
from imbalance_bench.runtime.processes import sum_over_processes


class EQLv2Classifier(SigmoidClassifier):
    """Equalization loss v2 (arXiv 2012.08548): classes whose positive gradients lag behind get fewer negative ones.

    ``g = sigmoid(gamma (G+ / G- - mu))`` weighs a class's negatives, ``1 + alpha (1 - g)`` its positives, where G+ and
    G- are the gradients it has had so far. LVIS v1 mask AP 16.1 -> 23.7. As mmdet's EQLV2Loss; that one sums the
    gradients of its own process only.

    Args:
        num_classes: C.
        feature_dim: d.
        gamma: steepness.
        mu: ratio at which half of the negatives count.
        alpha: how much more positives weigh at most.
        cosine: of LinearClassifier.

    Example:
        >>> classifier = EQLv2Classifier(num_classes=2, feature_dim=4)
        >>> logits, labels = torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([0])
        >>> classifier.loss(logits, labels)
        {'loss_cls': tensor(1.5132)}
        >>> classifier.positive_gradients, classifier.negative_gradients
        (tensor([0.1192, 0.0000]), tensor([0.0000, 0.5000]))
    """

    positive_gradients: Tensor
    negative_gradients: Tensor

    def __init__(
        self,
        num_classes: int,
        feature_dim: int,
        gamma: float = 12.0,
        mu: float = 0.8,
        alpha: float = 4.0,
        cosine: float | None = None,
    ) -> None:
        super().__init__(num_classes, feature_dim, "objectness", cosine)
        self.gamma, self.mu, self.alpha = gamma, mu, alpha
        self.register_buffer("positive_gradients", torch.zeros(num_classes))
        self.register_buffer("negative_gradients", torch.zeros(num_classes))

    def weights(self, logits: Tensor, labels: Tensor, target: Tensor) -> Weights:
        """By the gradients of all batches before."""
        ratio = self.positive_gradients / (self.negative_gradients + 1e-10)
        # Before the first batch all classes count as balanced.
        ratio = torch.where(self.negative_gradients > 0, ratio, 100.0)
        # Background weighs 1, so that its positives do, too.
        negative = functional.pad(torch.sigmoid(self.gamma * (ratio - self.mu)), (0, 1), value=1.0)
        return Weights(1 + self.alpha * (1 - negative), negative)

    def observe(self, logits: Tensor, labels: Tensor, target: Tensor, weight: Tensor) -> None:
        """Add this batch's gradients, of all processes."""
        gradients = weight * torch.where(target, 1 - logits.sigmoid(), logits.sigmoid())
        both = torch.stack([(gradients * target).sum(dim=0), (gradients * ~target).sum(dim=0)])[:, :-1].float()
        positive, negative = sum_over_processes(both)
        self.positive_gradients += positive
        self.negative_gradients += negative


class EQLClassifier(SigmoidClassifier):
    """Equalization loss (arXiv 2003.05176): foreground RoIs of other classes do not push the tail's logits down.

    ``w_j = 1 - [foreground] [f_j < lambda] (1 - y_j)``. LVIS v0.5 box AP 20.8 -> 23.6, v1 mask AP 16.1 -> 18.6.
    Published with lambda = 1.77e-3 of the images, about 100 of LVIS v0.5's: the rare and common classes; end to end,
    from a prior of .001.

    Args:
        num_classes: C.
        feature_dim: d.
        tail: C, whether a class is spared.
        cosine: of LinearClassifier.

    Example:
        >>> classifier = EQLClassifier(num_classes=2, feature_dim=4, tail=[False, True])
        >>> logits, labels = torch.tensor([[2.0, 0.0]]), torch.tensor([0])
        >>> classifier.loss(logits, labels)  # of the first class alone
        {'loss_cls': tensor(0.1269)}
    """

    tail_mask: Tensor

    IMAGES = 100

    def __init__(self, num_classes: int, feature_dim: int, tail: Sequence[bool], cosine: float | None = None) -> None:
        super().__init__(num_classes, feature_dim, cosine=cosine)
        if len(tail) != num_classes:
            raise ValueError(f"expected {num_classes} entries of 'tail', got {len(tail)}")
        self.tail = [bool(value) for value in tail]
        self.register_buffer("tail_mask", torch.tensor(self.tail), persistent=False)

    @classmethod
    def arguments_from(cls, categories: CategoryTable, given: Mapping[str, Any]) -> dict[str, Any]:
        """``tail``: classes in ``IMAGES`` training images or fewer, LVIS's rare and common ones."""
        return {"tail": (categories.image_counts <= cls.IMAGES).tolist()}

    def weights(self, logits: Tensor, labels: Tensor, target: Tensor) -> Weights:
        """Negatives of tail classes weigh nothing in foreground RoIs."""
        foreground = (labels < self.num_classes)[:, None]
        return Weights(negative=(~(foreground & self.tail_mask)).to(logits.dtype))


class DropLossClassifier(EQLClassifier):
    """DropLoss (arXiv 2104.06402): as EQL, and of background RoIs too some negatives of tail classes are dropped.

    A background RoI's are dropped with the share of other classes among the batch's foreground RoIs; where there is no
    foreground none are, as in its authors' code, whose share is NaN there.

    Example:
        >>> classifier = DropLossClassifier(num_classes=2, feature_dim=4, tail=[False, True])
        >>> logits, labels = torch.tensor([[2.0, 0.0]]), torch.tensor([0])
        >>> classifier.loss(logits, labels)
        {'loss_cls': tensor(0.1269)}
    """

    def weights(self, logits: Tensor, labels: Tensor, target: Tensor) -> Weights:
        """Those of EQL, and drawn ones for background."""
        foreground = labels < self.num_classes
        in_tail = (target & self.tail_mask).any(dim=1)
        share = in_tail.sum() / foreground.sum().clamp(min=1)
        dropped = torch.rand(target.shape, device=logits.device) > torch.where(foreground.any(), share, 1.0)
        spared = self.tail_mask & (foreground[:, None] | dropped)
        return Weights(negative=(~spared).to(logits.dtype))


class FederatedClassifier(SigmoidClassifier):
    """Federated loss (arXiv 2103.07461): a batch counts for the classes in it and for some others, drawn.

    Others are drawn with probability proportional to ``n^power`` until there are ``sampled``, a class without images
    never; 50 and .5 are detectron2's for LVIS's 1,203 classes. As there, background is one of the 50 where the batch
    holds some, which leaves 49 classes.

    Args:
        num_classes: C.
        feature_dim: d.
        counts: C, train images.
        sampled: classes of a batch, at least, background among them.
        power: of the counts.
        cosine: of LinearClassifier.

    Example:
        >>> classifier = FederatedClassifier(num_classes=2, feature_dim=4, counts=[4, 120], sampled=1)
        >>> logits, labels = torch.tensor([[2.0, 0.0]]), torch.tensor([0])
        >>> classifier.loss(logits, labels)  # of the class in the batch alone
        {'loss_cls': tensor(0.1269)}
    """

    rates: Tensor

    def __init__(
        self,
        num_classes: int,
        feature_dim: int,
        counts: Sequence[int],
        sampled: int = 50,
        power: float = 0.5,
        cosine: float | None = None,
    ) -> None:
        super().__init__(num_classes, feature_dim, cosine=cosine)
        if len(counts) != num_classes or sampled < 1:
            raise ValueError(f"expected {num_classes} counts and sampled >= 1, got {len(counts)} and {sampled}")
        self.counts, self.sampled, self.power = [int(count) for count in counts], sampled, power
        # 0^0 is 1, and would let in a class without images.
        rates = torch.tensor([count**power if count else 0.0 for count in self.counts], dtype=torch.float)
        self.register_buffer("rates", rates, persistent=False)

    @classmethod
    def arguments_from(cls, categories: CategoryTable, given: Mapping[str, Any]) -> dict[str, Any]:
        """``counts`` of training images."""
        return {"counts": categories.image_counts.tolist()}

    def weights(self, logits: Tensor, labels: Tensor, target: Tensor) -> Weights:
        """1 for the classes that count, 0 for the others."""
        present = target.any(dim=0)
        # Of clocks that ring at these rates the first k are a draw of k without replacement; a rate of 0 never rings.
        rings = (torch.empty_like(self.rates).exponential_() / self.rates).masked_fill(present, -1.0)
        first = rings.topk(min(self.sampled, self.num_classes), largest=False)
        places = self.sampled - (labels == self.num_classes).any().long()
        drawn = first.values.isfinite() & (torch.arange(len(first.values), device=logits.device) < places)
        counted = present | torch.zeros_like(present).scatter(0, first.indices, drawn)
        return Weights(negative=counted.to(logits.dtype))


class ECMClassifier(SigmoidClassifier):
    """Effective class margins (arXiv 2301.09724): sigmoids with a margin and a weight by each class's share of RoIs.

    ``p = sigmoid(2 z + log(n+ / n-) / 4)`` in training, ``w = a log((1 + a) / a)`` with ``a = n- / n+``; at test the
    plain sigmoid, times 1 - p_bg. LVIS v1 mask AP 27.5 (2x, RFS), with a cosine classifier (``cosine=20``). Background
    counts as 6.3313 times all classes; a class without images as one (its authors' weight would be NaN).

    Args:
        num_classes: C.
        feature_dim: d.
        counts: C, train images.
        cosine: of LinearClassifier.

    Example:
        >>> classifier = ECMClassifier(num_classes=2, feature_dim=4, counts=[4, 120])
        >>> logits, labels = torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([0])
        >>> classifier.scores(logits)
        tensor([[0.4404, 0.2500, 0.5000]])
        >>> classifier.loss(logits, labels)
        {'loss_cls': tensor(0.8191)}
    """

    shift: Tensor
    weight_vector: Tensor

    BACKGROUND_RATIO = 6.3313

    def __init__(self, num_classes: int, feature_dim: int, counts: Sequence[int], cosine: float | None = None) -> None:
        super().__init__(num_classes, feature_dim, "objectness", cosine)
        if len(counts) != num_classes:
            raise ValueError(f"expected {num_classes} counts, got {len(counts)}")
        self.counts = [int(count) for count in counts]
        positive = np.maximum(np.array(self.counts, dtype=np.float64), 1)
        positive = np.append(positive, self.BACKGROUND_RATIO * positive.sum())
        ratio = (positive.sum() - positive) / positive
        self.register_buffer("shift", torch.tensor(-np.log(ratio) / 4, dtype=torch.float), persistent=False)
        weights = ratio * np.log1p(1 / ratio)
        self.register_buffer("weight_vector", torch.tensor(weights, dtype=torch.float), persistent=False)

    @classmethod
    def arguments_from(cls, categories: CategoryTable, given: Mapping[str, Any]) -> dict[str, Any]:
        """``counts`` of training images."""
        return {"counts": categories.image_counts.tolist()}

    def terms(self, logits: Tensor, target: Tensor) -> Tensor:
        """Weighted binary cross entropies with margins, background's too."""
        return self.weight_vector.to(logits) * super().terms(2 * logits + self.shift.to(logits), target)


class ACSLClassifier(SigmoidClassifier):
    """Adaptive class suppression loss (arXiv 2104.00885): only classes that a RoI is confused with are suppressed.

    In a foreground RoI the negative of class j, or of background, counts where ``p_j >= threshold``. Of a batch's
    background RoIs one in 100, one in 10 and all, rounded down and drawn anew for each, count for the rare, the common
    and the frequent classes. LVIS v0.5 box AP 21.18 -> 26.36, training fc_cls alone, from the softmax detector's own W
    and b.

    Args:
        num_classes: C.
        feature_dim: d.
        frequencies: C letters r, c, f.
        threshold: of confusion.
        cosine: of LinearClassifier.

    Example:
        >>> classifier = ACSLClassifier(num_classes=2, feature_dim=4, frequencies="rf")
        >>> logits, labels = torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([0])
        >>> classifier.scores(logits)
        tensor([[0.8808, 0.5000, 0.5000]])
        >>> classifier.loss(logits, labels)
        {'loss_cls': tensor(0.1269)}
    """

    group_of_column: Tensor
    one_in: Tensor

    ONE_IN: ClassVar = {"r": 100, "c": 10, "f": 1}

    def __init__(
        self,
        num_classes: int,
        feature_dim: int,
        frequencies: Sequence[str],
        threshold: float = 0.7,
        cosine: float | None = None,
    ) -> None:
        super().__init__(num_classes, feature_dim, "own", cosine)
        if len(frequencies) != num_classes or set(frequencies) - self.ONE_IN.keys():
            raise ValueError(f"expected {num_classes} letters r, c, f, got {len(frequencies)}: {set(frequencies)}")
        self.frequencies, self.threshold = list(frequencies), threshold
        # Background's own column counts in every background RoI, as a frequent class does.
        groups = torch.tensor([FREQUENCIES.index(letter) for letter in [*frequencies, "f"]])
        self.register_buffer("group_of_column", groups, persistent=False)
        self.register_buffer("one_in", torch.tensor([self.ONE_IN[letter] for letter in FREQUENCIES]), persistent=False)

    @classmethod
    def arguments_from(cls, categories: CategoryTable, given: Mapping[str, Any]) -> dict[str, Any]:
        """``frequencies``: the table's letters."""
        return {"frequencies": list(categories.frequencies)}

    def weights(self, logits: Tensor, labels: Tensor, target: Tensor) -> Weights:
        """Confused classes in foreground RoIs, drawn groups of classes in background RoIs."""
        confused = logits.sigmoid() >= self.threshold
        foreground = (labels < self.num_classes)[:, None]
        # By random ranks among the background RoIs.
        keys = torch.rand(len(labels), 3, device=logits.device).masked_fill(foreground, math.inf)
        drawn = keys.argsort(dim=0).argsort(dim=0) < (~foreground).sum() // self.one_in
        return Weights(negative=torch.where(foreground, confused, drawn[:, self.group_of_column]).to(logits.dtype))


class FCBLClassifier(SigmoidClassifier):
    """Foreground classification balance loss of BACL (arXiv 2308.02213): margins between classes that are confused.

    In a RoI of class i the logit of j gets ``alpha log(m_ij / m_ji)``, where ``m_ij`` is the mean softmax among classes
    that RoIs of i have had for j so far, and at least .001: a class that takes more from another than it loses to it is
    pushed back. There the negative of j counts only where ``p_j >= p_i`` or ``p_j >= threshold``, background's always;
    background RoIs are as ever. BACL, with hallucinated features besides: LVIS v0.5 box AP 22.0 -> 27.8.

    Args:
        num_classes: C.
        feature_dim: d.
        alpha: of the margins.
        threshold: of scores; 0 lets all negatives count.
        cosine: of LinearClassifier.

    Example:
        >>> classifier = FCBLClassifier(num_classes=2, feature_dim=4)
        >>> logits, labels = torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([0])
        >>> classifier.loss(logits, labels)
        {'loss_cls': tensor(0.8201)}
        >>> classifier.confusion
        tensor([[0.8808, 0.1192, 1.0000],
                [0.0000, 0.0000, 0.0000]])
    """

    confusion: Tensor

    def __init__(
        self,
        num_classes: int,
        feature_dim: int,
        alpha: float = 0.85,
        threshold: float = 0.7,
        cosine: float | None = None,
    ) -> None:
        super().__init__(num_classes, feature_dim, "objectness", cosine)
        self.alpha, self.threshold = alpha, threshold
        # Of the RoIs of each class the sum of softmaxes and, in the last column, the number.
        self.register_buffer("confusion", torch.zeros(num_classes, num_classes + 1))

    def weights(self, logits: Tensor, labels: Tensor, target: Tensor) -> Weights:
        """By the confusion of all batches before."""
        foreground, own = (labels < self.num_classes)[:, None], labels.clamp(max=self.num_classes - 1)
        sums, numbers = self.confusion[:, :-1], self.confusion[:, -1].clamp(min=1)
        lost = (sums[own] / numbers[own][:, None]).clamp(min=1e-3)
        taken = (sums.T[own] / numbers).clamp(min=1e-3)
        margins = self.alpha * (lost / taken).log().masked_fill(~foreground, 0.0)
        scores = self.scores(logits)
        counted = (scores >= scores.gather(1, own[:, None])) | (scores >= self.threshold) | ~foreground
        counted[:, -1] = True
        return Weights(negative=counted.to(logits.dtype), shift=functional.pad(margins, (0, 1)).to(logits.dtype))

    def observe(self, logits: Tensor, labels: Tensor, target: Tensor, weight: Tensor) -> None:
        """Add this batch's confusion, of all processes."""
        softmax = functional.pad(logits[:, :-1].softmax(dim=1), (0, 1), value=1.0)
        softmax = softmax.masked_fill((labels == self.num_classes)[:, None], 0.0).to(self.confusion.dtype)
        own = labels.clamp(max=self.num_classes - 1)
        self.confusion += sum_over_processes(torch.zeros_like(self.confusion).index_add_(0, own, softmax))
