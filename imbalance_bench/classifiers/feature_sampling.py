"""Classifiers that train on drawn features: beside the batch's own RoIs (LOCE and BACL), or fused with them (H2T)."""

from __future__ import annotations

import abc
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from imbalance_bench.classifiers.base import Reduction
from imbalance_bench.classifiers.sigmoid_losses import FCBLClassifier
from imbalance_bench.classifiers.softmax import SoftmaxClassifier
from imbalance_bench.classifiers.softmax_losses import EquilibriumClassifier
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.processes import rows_of_processes, sum_over_processes


class FeatureMemory(nn.Module):
    """The most recent features of each class: a ring buffer of ``size`` for each, in half precision as in a cache.

    Features that are not kept are written to the unused row of background, as skipping them would wait for the GPU.

    Args:
        num_classes: C.
        feature_dim: d.
        size: greatest number of stored features of a class.
    """

    features: Tensor
    pushed: Tensor

    def __init__(self, num_classes: int, feature_dim: int, size: int) -> None:
        super().__init__()
        self.register_buffer("features", torch.zeros(num_classes + 1, size, feature_dim, dtype=torch.half))
        self.register_buffer("pushed", torch.zeros(num_classes + 1, dtype=torch.long))

    @property
    def filled(self) -> Tensor:
        """The (C + 1,) number of stored features of each class; 0 for background."""
        return torch.cat([self.pushed[:-1].clamp(max=self.features.shape[1]), self.pushed.new_zeros(1)])

    def push(self, features: Tensor, labels: Tensor) -> None:
        """Store a batch's foreground features, the first ``size`` of each class; they replace its oldest features."""
        size, background = self.features.shape[1], len(self.pushed) - 1
        own, order = labels.sort(stable=True)
        numbers = torch.zeros_like(self.pushed).index_add_(0, labels, torch.ones_like(labels))
        place = torch.arange(len(labels), device=labels.device) - (numbers.cumsum(0) - numbers)[own]
        kept = (place < size) & (own < background)
        slot = torch.where(kept, (self.pushed[own] + place) % size, 0)
        self.features[torch.where(kept, own, background), slot] = features[order].half()
        self.features[background] = 0
        self.pushed += numbers.clamp(max=size)

    def draw(self, labels: Tensor) -> Tensor:
        """Draw (N, d) features, one for each label, uniformly from the stored features of its class."""
        place = (torch.rand(len(labels), device=labels.device) * self.filled[labels]).long()
        return self.features[labels, place]


def draw_classes(rates: Tensor, has_features: Tensor, classes: int, each: int) -> Tensor:
    """Draw classes with replacement, and return ``each`` copies of the label of every drawn class.

    Args:
        rates: (C,) relative probabilities of the classes.
        has_features: (C,) bool, whether the class has features; the label of a drawn class without features is C.
        classes: number of draws.
        each: labels for each draw.
    """
    drawn = torch.multinomial(rates, classes, replacement=True)
    return torch.where(has_features[drawn], drawn, len(rates)).repeat_interleave(each)


SURE = 1e4
"""A logit within half precision, whose sigmoid and softmax are 1."""


class _FeatureSampling(nn.Module, abc.ABC):
    """The common part: in training, features that are drawn from what was seen join those of the batch.

    The features are drawn from what earlier batches and this batch have stored. In the code of LOCE's and BACL's
    authors, each process stores features of 16 boxes drawn around each ground-truth box, and the box regressor, RPN and
    mask head are trained too. Here the features are those of the foreground RoIs of all processes, and only W and b are
    trained.
    """

    num_classes: int
    weight: nn.Parameter
    _batch: Tensor

    @abc.abstractmethod
    def drawn(self) -> tuple[Tensor, Tensor]:
        """Return drawn (features, labels), by the scores of earlier batches; label C marks a draw without a feature."""

    @abc.abstractmethod
    def remember(self, features: Tensor, labels: Tensor) -> None:
        """Store the foreground RoIs of a batch, of all processes; the input also holds background RoIs."""

    def forward(self, features: Tensor) -> Tensor:
        """Compute (N, K) logits from (N, d) features, and keep the features in training."""
        if self.training:
            # Not as an autocast network hands them on: the loss is computed in the precision of the weights.
            self._batch = features.detach().to(self.weight.dtype)
        logits: Tensor = super().forward(features)
        return logits

    def loss(self, logits: Tensor, labels: Tensor, reduction: Reduction = "mean") -> dict[str, Tensor]:
        """Compute the loss of the base class, in training with drawn features added to the RoIs."""
        if self.training:
            if reduction == "none":
                raise InputError(
                    f"{type(self).__name__} adds drawn RoIs to those of a batch, so these cannot be weighed"
                )
            if len(self._batch) != len(labels):
                raise InputError(f"{len(labels)} labels, but {len(self._batch)} features came last through 'forward'")
            self.remember(self._batch, labels)
            rows, of_rows, scale = self.trained_rows(logits, labels)
            losses = super().loss(rows, of_rows)  # type: ignore[misc]
            return {name: scale * value for name, value in losses.items()}
        plain: dict[str, Tensor] = super().loss(logits, labels, reduction)  # type: ignore[misc]
        return plain

    def trained_rows(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor | float]:
        """Return the logits and labels that are trained, and a factor of their loss; here with drawn features added."""
        features, drawn = self.drawn()
        found, sure = drawn < self.num_classes, logits.new_full((logits.shape[1],), -SURE)
        sure[-1] = SURE
        # What is drawn in vain is not left out, for which a GPU would be waited for: surely background, it adds 0.
        more = torch.where(found[:, None], self.logits_of(features), sure)
        scale = (len(labels) + len(drawn)) / (len(labels) + found.sum())
        return torch.cat([logits, more]), torch.cat([labels, drawn]), scale

    def logits_of(self, features: Tensor) -> Tensor:
        """Compute the logits of drawn features, which are not kept as a batch is."""
        logits: Tensor = super().forward(features.to(self._batch))
        return logits


class LOCEClassifier(_FeatureSampling, EquilibriumClassifier):
    """LOCE (arXiv 2108.07507): equilibrium loss, with features of weak classes drawn from a memory.

    As in the authors' code, a class is drawn with a probability proportional to the inverse of its mean score, with
    replacement; a draw of a class with an empty queue gives no feature. In the mean scores, all drawn features of a
    class count as one box. One pass before training fills the memory and the means. LVIS v0.5 box AP 28.2, after 6
    epochs.

    Args:
        num_classes: C.
        feature_dim: d.
        momentum: of the mean scores.
        background_score: used as the mean score of background.
        queue: greatest number of stored features of a class.
        classes: number of classes drawn for each batch.
        each: features for each drawn class.
        cosine: of LinearClassifier.

    Example:
        >>> classifier = LOCEClassifier(num_classes=2, feature_dim=4, queue=3)
        >>> classifier.fit([(torch.ones(4, 4), torch.tensor([0, 0, 1, 2]))])
        >>> classifier.memory.filled
        tensor([2, 1, 0])
    """

    def __init__(
        self,
        num_classes: int,
        feature_dim: int,
        momentum: float = 0.9,
        background_score: float = 0.01,
        queue: int = 80,
        classes: int = 8,
        each: int = 4,
        cosine: float | None = None,
    ) -> None:
        super().__init__(num_classes, feature_dim, momentum, background_score, cosine)
        self.queue, self.classes, self.each = queue, classes, each
        self.memory = FeatureMemory(num_classes, feature_dim, queue)

    def drawn(self) -> tuple[Tensor, Tensor]:
        """Return (features, labels) drawn from the memory."""
        rates = 1 / self.mean_scores[:-1].clamp(min=1e-6)
        labels = draw_classes(rates, self.memory.filled[:-1] > 0, self.classes, self.each)
        return self.memory.draw(labels), labels

    def remember(self, features: Tensor, labels: Tensor) -> None:
        """Store the features of a batch in the memory."""
        self.memory.push(rows_of_processes(features), rows_of_processes(labels))

    def counts_as(self, labels: Tensor) -> Tensor:
        """Return (N,) numbers of boxes: 1 for a RoI of the batch; all drawn RoIs of a class share 1."""
        boxes, own = super().counts_as(labels), len(self._batch)
        drawn = labels[own:]
        boxes[own:] /= torch.zeros_like(self.mean_scores).index_add_(0, drawn, boxes[own:])[drawn]
        return boxes

    @torch.no_grad()
    def fit(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Fill the memory and the mean scores by one pass over the batches, without a change of the weights."""
        self.train()
        for features, labels in batches:
            self.loss(self(features), labels)


class BACLClassifier(_FeatureSampling, FCBLClassifier):
    """BACL (arXiv 2308.02213): the foreground balance loss, with hallucinated features of weak classes.

    A hallucinated feature is the mean of the class plus Gaussian noise with its deviation. Both are moving averages of
    the mean and the (unbiased) variance of a batch's features. A class is drawn with a probability proportional to 1
    minus the mean softmax that its own RoIs give to it, with replacement; a draw of a class that has not been seen
    gives no feature. Hallucinated features have the same weight as RoIs, and are part of the confusion of the loss.
    LVIS v0.5 box AP 22.0 -> 27.8, after a first stage that trains all weights with a sigmoid loss
    (``bce:background=objectness,trains=all``); here training starts from the softmax detector.

    Args:
        num_classes: C.
        feature_dim: d.
        alpha: scale of the margins.
        threshold: score from which a negative always counts.
        decay: weight of a batch in the averages.
        classes: number of classes drawn for each batch.
        each: features for each drawn class.
        cosine: of LinearClassifier.

    Example:
        >>> classifier = BACLClassifier(num_classes=2, feature_dim=4)
        >>> _ = classifier.loss(classifier(torch.ones(3, 4)), torch.tensor([0, 0, 2]))
        >>> classifier.seen, classifier.feature_mean[0]
        (tensor([ True, False]), tensor([1., 1., 1., 1.]))
    """

    feature_mean: Tensor
    feature_variance: Tensor
    seen: Tensor

    def __init__(
        self,
        num_classes: int,
        feature_dim: int,
        alpha: float = 0.85,
        threshold: float = 0.7,
        decay: float = 0.1,
        classes: int = 8,
        each: int = 12,
        cosine: float | None = None,
    ) -> None:
        super().__init__(num_classes, feature_dim, alpha, threshold, cosine)
        self.decay, self.classes, self.each = decay, classes, each
        self.register_buffer("feature_mean", torch.zeros(num_classes, feature_dim))
        self.register_buffer("feature_variance", torch.zeros(num_classes, feature_dim))
        self.register_buffer("seen", torch.zeros(num_classes, dtype=torch.bool))

    def drawn(self) -> tuple[Tensor, Tensor]:
        """Return hallucinated (features, labels): class means with Gaussian noise."""
        own = self.confusion.diagonal() / self.confusion[:, -1].clamp(min=1)
        labels = draw_classes((1 - own).clamp(min=1e-7), self.seen, self.classes, self.each)
        known = labels.clamp(max=self.num_classes - 1)
        mean, deviation = self.feature_mean[known], self.feature_variance[known].sqrt()
        return mean + deviation * torch.randn_like(mean), labels

    def remember(self, features: Tensor, labels: Tensor) -> None:
        """Update the averages; the first batch of a class sets its averages."""
        features = features.double()  # a variance is a small difference of squares
        zeros, ones = features.new_zeros(self.num_classes + 1, self.feature_dim), torch.ones_like(features[:, :1])
        sums, squares, numbers = (
            sum_over_processes(zeros[:, : part.shape[1]].index_add(0, labels, part)[:-1])
            for part in (features, features**2, ones)
        )
        mean = sums / numbers.clamp(min=1)
        variance = (squares / numbers.clamp(min=1) - mean**2).clamp(min=0) * numbers / (numbers - 1).clamp(min=1)
        weight = torch.where(self.seen[:, None], self.decay, 1.0) * (numbers > 0)
        self.feature_mean.lerp_(mean.to(self.feature_mean), weight)
        self.feature_variance.lerp_(variance.to(self.feature_variance), weight)
        self.seen |= numbers[:, 0] > 0


class H2TClassifier(_FeatureSampling, SoftmaxClassifier):
    """Head-to-tail fusion (H2T, arXiv 2306.06963): features of drawn classes, with a part taken from the batch's RoIs.

    In training, each foreground RoI of the batch is replaced. A class is drawn uniformly, then a feature of it from the
    memory; of the d numbers the same random ``floor(rho d)`` are overwritten by those of the RoI, and the label is the
    drawn class. So one branch is balanced over the classes and lends them the features of the other, which follows the
    images, mostly of head classes. Background RoIs are trained as they are.

    The authors retrain the last layer of an image classifier, from its trained weights, for 10 epochs on such features
    alone. They exchange whole feature maps before the mean over places; a number of the mean is then exchanged with its
    map, as here, but a detector's features have passed fully connected layers. They draw the balanced branch from all
    images; here it is the most recent features of each class. One pass before training fills the memory.

    Args:
        num_classes: C.
        feature_dim: d.
        rho: share of a feature that is taken from the batch's RoI; .25 in the authors' configurations.
        queue: greatest number of stored features of a class.
        cosine: of LinearClassifier.

    Example:
        >>> classifier = H2TClassifier(num_classes=2, feature_dim=4, rho=0.5)
        >>> classifier.fit([(torch.ones(4, 4), torch.tensor([0, 0, 1, 2]))])
        >>> _ = classifier(torch.zeros(3, 4))
        >>> features, labels = classifier.drawn()
        >>> features.sum(dim=1), set(labels.tolist()) <= {0, 1}
        (tensor([2., 2., 2.]), True)
    """

    def __init__(
        self, num_classes: int, feature_dim: int, rho: float = 0.25, queue: int = 80, cosine: float | None = None
    ) -> None:
        super().__init__(num_classes, feature_dim, cosine=cosine)
        if not 0 <= rho <= 1:
            raise ValueError(f"expected rho from 0 to 1, got {rho}")
        self.rho, self.queue = rho, queue
        self.memory = FeatureMemory(num_classes, feature_dim, queue)

    def drawn(self) -> tuple[Tensor, Tensor]:
        """Return fused (features, labels), one for each RoI of the batch."""
        has_features = (self.memory.filled[:-1] > 0).to(self._batch)
        # Without any stored feature there is no foreground in the batch either, and nothing of the draw is used.
        labels = torch.multinomial(has_features + 1e-12, len(self._batch), replacement=True)
        places = torch.rand(self.feature_dim, device=labels.device).argsort()
        taken = places < int(self.rho * self.feature_dim)
        return torch.where(taken, self._batch, self.memory.draw(labels).to(self._batch)), labels

    def remember(self, features: Tensor, labels: Tensor) -> None:
        """Store the features of a batch in the memory."""
        self.memory.push(rows_of_processes(features), rows_of_processes(labels))

    def trained_rows(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor | float]:
        """Return the logits and labels of fused features for foreground RoIs, and those of background as they are."""
        features, drawn = self.drawn()
        foreground = labels < self.num_classes
        rows = torch.where(foreground[:, None], self.logits_of(features), logits)
        return rows, torch.where(foreground, drawn, labels), 1.0

    @torch.no_grad()
    def fit(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Fill the memory by one pass over the batches."""
        for features, labels in batches:
            self.remember(features, labels)
