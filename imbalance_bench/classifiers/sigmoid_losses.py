"""Losses of sigmoid classifiers for the long tail: each defines the weights of the cross entropy terms."""

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
    """Equalization loss v2 (arXiv 2012.08548): classes with few positive gradients get weaker negative gradients.

    ``g = sigmoid(gamma (G+ / G- - mu))`` weighs a class's negatives, ``1 + alpha (1 - g)`` its positives, where G+ and
    G- are the sums of its gradients so far. LVIS v1 mask AP 16.1 -> 23.7. The same as mmdet's EQLV2Loss, except that
    EQLV2Loss only sums the gradients of its own process.

    Args:
        num_classes: C.
        feature_dim: d.
        gamma: steepness.
        mu: ratio at which half of the negatives count.
        alpha: greatest additional weight of positives.
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
        """Compute the weights from the gradients of all earlier batches."""
        ratio = self.positive_gradients / (self.negative_gradients + 1e-10)
        # Before the first batch all classes count as balanced.
        ratio = torch.where(self.negative_gradients > 0, ratio, 100.0)
        # Background weighs 1, so that its positives do, too.
        negative = functional.pad(torch.sigmoid(self.gamma * (ratio - self.mu)), (0, 1), value=1.0)
        return Weights(1 + self.alpha * (1 - negative), negative)

    def observe(self, logits: Tensor, labels: Tensor, target: Tensor, weight: Tensor) -> None:
        """Add the gradients of this batch, summed over all processes."""
        gradients = weight * torch.where(target, 1 - logits.sigmoid(), logits.sigmoid())
        both = torch.stack([(gradients * target).sum(dim=0), (gradients * ~target).sum(dim=0)])[:, :-1].float()
        positive, negative = sum_over_processes(both)
        self.positive_gradients += positive
        self.negative_gradients += negative


class EQLClassifier(SigmoidClassifier):
    """Equalization loss (arXiv 2003.05176): foreground RoIs of other classes do not lower the logits of tail classes.

    ``w_j = 1 - [foreground] [f_j < lambda] (1 - y_j)``. LVIS v0.5 box AP 20.8 -> 23.6, v1 mask AP 16.1 -> 18.6.
    Published with lambda = 1.77e-3 of the images, about 100 images of LVIS v0.5: these are the rare and common classes.
    Published training is end to end, from a prior of .001.

    Args:
        num_classes: C.
        feature_dim: d.
        tail: C flags, whether the class is protected from these negatives.
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
        """Return ``tail``: classes in at most ``IMAGES`` training images, LVIS's rare and common classes."""
        return {"tail": (categories.image_counts <= cls.IMAGES).tolist()}

    def weights(self, logits: Tensor, labels: Tensor, target: Tensor) -> Weights:
        """Return weight 0 for the negatives of tail classes in foreground RoIs, else 1."""
        foreground = (labels < self.num_classes)[:, None]
        return Weights(negative=(~(foreground & self.tail_mask)).to(logits.dtype))


class DropLossClassifier(EQLClassifier):
    """DropLoss (arXiv 2104.06402): EQL that also drops some negatives of tail classes in background RoIs.

    In background RoIs, each is dropped with a probability: the share of non-tail classes among the batch's foreground
    RoIs. In a batch without foreground none is dropped, as in the authors' code, where the share is then NaN.

    Example:
        >>> classifier = DropLossClassifier(num_classes=2, feature_dim=4, tail=[False, True])
        >>> logits, labels = torch.tensor([[2.0, 0.0]]), torch.tensor([0])
        >>> classifier.loss(logits, labels)
        {'loss_cls': tensor(0.1269)}
    """

    def weights(self, logits: Tensor, labels: Tensor, target: Tensor) -> Weights:
        """Return the weights of EQL in foreground RoIs, and randomly drawn ones in background RoIs."""
        foreground = labels < self.num_classes
        in_tail = (target & self.tail_mask).any(dim=1)
        share = in_tail.sum() / foreground.sum().clamp(min=1)
        dropped = torch.rand(target.shape, device=logits.device) > torch.where(foreground.any(), share, 1.0)
        spared = self.tail_mask & (foreground[:, None] | dropped)
        return Weights(negative=(~spared).to(logits.dtype))


class FederatedClassifier(SigmoidClassifier):
    """Federated loss (arXiv 2103.07461): only the classes of the batch and some randomly drawn classes are trained.

    The other classes are drawn with probability proportional to ``n^power`` until there are ``sampled`` classes; a
    class without images is never drawn. 50 and .5 are detectron2's values for the 1,203 classes of LVIS. As in
    detectron2, background is one of the 50 if the batch holds background RoIs; 49 classes are then left.

    Args:
        num_classes: C.
        feature_dim: d.
        counts: C, train images.
        sampled: least number of classes in a batch, including background.
        power: exponent of the counts.
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
        """Return ``counts``, the training images of each class."""
        return {"counts": categories.image_counts.tolist()}

    def weights(self, logits: Tensor, labels: Tensor, target: Tensor) -> Weights:
        """Return weight 1 for the classes that are trained in this batch, 0 for the others."""
        present = target.any(dim=0)
        # Of clocks that ring at these rates the first k are a draw of k without replacement; a rate of 0 never rings.
        rings = (torch.empty_like(self.rates).exponential_() / self.rates).masked_fill(present, -1.0)
        first = rings.topk(min(self.sampled, self.num_classes), largest=False)
        places = self.sampled - (labels == self.num_classes).any().long()
        drawn = first.values.isfinite() & (torch.arange(len(first.values), device=logits.device) < places)
        counted = present | torch.zeros_like(present).scatter(0, first.indices, drawn)
        return Weights(negative=counted.to(logits.dtype))


class ECMClassifier(SigmoidClassifier):
    """Effective class margins (arXiv 2301.09724): sigmoids with margins and weights from each class's share of RoIs.

    ``p = sigmoid(2 z + log(n+ / n-) / 4)`` in training, ``w = a log((1 + a) / a)`` with ``a = n- / n+``; at test time
    the plain sigmoid times 1 - p_bg. LVIS v1 mask AP 27.5 (2x, RFS), with a cosine classifier (``cosine=20``). The
    count of background is 6.3313 times that of all classes; a count of 0 is taken as 1 (the authors' weight
    would be NaN).

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
        """Return ``counts``, the training images of each class."""
        return {"counts": categories.image_counts.tolist()}

    def terms(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the weighted binary cross entropies with margins, including that of background."""
        return self.weight_vector.to(logits) * super().terms(2 * logits + self.shift.to(logits), target)


class ACSLClassifier(SigmoidClassifier):
    """Adaptive class suppression loss (arXiv 2104.00885): only classes that are confused with a RoI get negatives.

    In a foreground RoI the negative of class j, or of background, counts where ``p_j >= threshold``. One in 100 of a
    batch's background RoIs counts for the rare classes, one in 10 for the common classes, and all for the frequent
    classes; the numbers are rounded down, and each group has its own random draw. LVIS v0.5 box AP 21.18 -> 26.36 when
    only fc_cls is trained, starting from W and b of the softmax detector.

    Args:
        num_classes: C.
        feature_dim: d.
        frequencies: C letters r, c, f.
        threshold: score from which a class is confused.
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
        """Return ``frequencies``, the frequency letters of the table."""
        return {"frequencies": list(categories.frequencies)}

    def weights(self, logits: Tensor, labels: Tensor, target: Tensor) -> Weights:
        """Return weight 1 for confused classes in foreground RoIs and for drawn groups in background RoIs, else 0."""
        confused = logits.sigmoid() >= self.threshold
        foreground = (labels < self.num_classes)[:, None]
        # By random ranks among the background RoIs.
        keys = torch.rand(len(labels), 3, device=logits.device).masked_fill(foreground, math.inf)
        drawn = keys.argsort(dim=0).argsort(dim=0) < (~foreground).sum() // self.one_in
        return Weights(negative=torch.where(foreground, confused, drawn[:, self.group_of_column]).to(logits.dtype))


class FCBLClassifier(SigmoidClassifier):
    """Foreground classification balance loss of BACL (arXiv 2308.02213): margins between confused classes.

    In a RoI of class i, ``alpha log(m_ij / m_ji)`` is added to the logit of j. ``m_ij`` is the mean softmax over the
    classes that RoIs of i have given to j so far, and at least .001. So a class is pushed back if it takes more from
    another class than it loses to it. In these RoIs the negative of j only counts where ``p_j >= p_i`` or
    ``p_j >= threshold``; that of background always counts. Background RoIs have the usual loss. BACL, which also has
    hallucinated features: LVIS v0.5 box AP 22.0 -> 27.8.

    Args:
        num_classes: C.
        feature_dim: d.
        alpha: scale of the margins.
        threshold: score from which a negative always counts; with 0 all negatives count.
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
        """Compute weights and margins from the confusion in all earlier batches."""
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
        """Add the confusion of this batch, summed over all processes."""
        softmax = functional.pad(logits[:, :-1].softmax(dim=1), (0, 1), value=1.0)
        softmax = softmax.masked_fill((labels == self.num_classes)[:, None], 0.0).to(self.confusion.dtype)
        own = labels.clamp(max=self.num_classes - 1)
        self.confusion += sum_over_processes(torch.zeros_like(self.confusion).index_add_(0, own, softmax))
