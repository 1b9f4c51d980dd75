"""Classifiers that train on drawn features of weak classes beside the batch's own RoIs: LOCE and BACL."""

from __future__ import annotations

import abc
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from imbalance_bench.classifiers.base import Reduction
from imbalance_bench.classifiers.sigmoid_losses import FCBLClassifier
from imbalance_bench.classifiers.softmax_losses import EquilibriumClassifier
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.processes import rows_of_processes, sum_over_processes


class FeatureMemory(nn.Module):
    """The last features of each class: a ring of ``size`` each, in half precision, as a cache has them.

    What is not remembered is written, too, beside the classes: a GPU would be waited for to leave it out.

    Args:
        num_classes: C.
        feature_dim: d.
        size: features of a class.
    """

    features: Tensor
    pushed: Tensor

    def __init__(self, num_classes: int, feature_dim: int, size: int) -> None:
        super().__init__()
        self.register_buffer("features", torch.zeros(num_classes + 1, size, feature_dim, dtype=torch.half))
        self.register_buffer("pushed", torch.zeros(num_classes + 1, dtype=torch.long))

    @property
    def filled(self) -> Tensor:
        """(C + 1,) features that each class has; background has none."""
        return torch.cat([self.pushed[:-1].clamp(max=self.features.shape[1]), self.pushed.new_zeros(1)])

    def push(self, features: Tensor, labels: Tensor) -> None:
        """Take in a batch's foreground, of a class the first that fit; of its oldest, as many go."""
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
        """(N, d) one of the features of each of N classes that have some, each as likely as any other of its class."""
        place = (torch.rand(len(labels), device=labels.device) * self.filled[labels]).long()
        return self.features[labels, place]


def draw_classes(rates: Tensor, has_features: Tensor, classes: int, each: int) -> Tensor:
    """Labels of the features to draw: of classes drawn with replacement, ``each`` for every time one is drawn.

    Args:
        rates: (C,), in proportion to which classes are drawn.
        has_features: (C,) bool; a class without them may be drawn, in vain: its label is then C.
        classes: draws.
        each: features of each.
    """
    drawn = torch.multinomial(rates, classes, replacement=True)
    return torch.where(has_features[drawn], drawn, len(rates)).repeat_interleave(each)


SURE = 1e4
"""A logit that half precision has, and of which a sigmoid and a softmax are 1."""


class _FeatureSampling(nn.Module, abc.ABC):
    """What LOCE and BACL share: in training, drawn features are further RoIs of the batch, which itself is drawn from.

    Their authors remember features of 16 boxes drawn around each ground-truth box, each process its own, and train the
    box regressor, RPN and mask head along. Here the features are those of the batch's foreground RoIs, of all
    processes, and W and b are trained.
    """

    num_classes: int
    _batch: Tensor

    @abc.abstractmethod
    def drawn(self) -> tuple[Tensor, Tensor]:
        """(features, labels) of what is remembered, by scores of the batches before; label C is drawn in vain."""

    @abc.abstractmethod
    def remember(self, features: Tensor, labels: Tensor) -> None:
        """Take in the foreground RoIs of a batch, of all processes; background's are among them."""

    def forward(self, features: Tensor) -> Tensor:
        """(N, d) -> (N, K)."""
        if self.training:
            self._batch = features.detach()
        logits: Tensor = super().forward(features)
        return logits

    def loss(self, logits: Tensor, labels: Tensor, reduction: Reduction = "mean") -> dict[str, Tensor]:
        """That of the base class, in training with drawn features among the RoIs."""
        if self.training:
            if reduction == "none":
                raise InputError(
                    f"{type(self).__name__} adds drawn RoIs to those of a batch, so these cannot be weighed"
                )
            if len(self._batch) != len(labels):
                raise InputError(f"{len(labels)} labels, but {len(self._batch)} features came last through 'forward'")
            self.remember(self._batch, labels)
            features, drawn = self.drawn()
            found, sure = drawn < self.num_classes, logits.new_full((logits.shape[1],), -SURE)
            sure[-1] = SURE
            # What is drawn in vain is not left out, for which a GPU would be waited for: surely background, it adds 0.
            more = torch.where(found[:, None], super().forward(features.to(self._batch)), sure)
            losses = super().loss(torch.cat([logits, more]), torch.cat([labels, drawn]))  # type: ignore[misc]
            scale = (len(labels) + len(drawn)) / (len(labels) + found.sum())
            return {name: scale * value for name, value in losses.items()}
        plain: dict[str, Tensor] = super().loss(logits, labels, reduction)  # type: ignore[misc]
        return plain


class LOCEClassifier(_FeatureSampling, EquilibriumClassifier):
    """LOCE (arXiv 2108.07507): equilibrium loss, and features of weak classes drawn from a memory of the last ones.

    A class is drawn by the inverse of its mean score, as its authors' code does: with replacement, and in vain where
    its queue is empty. Into the mean scores go the drawn features of a class together as one box. Memory and means are
    filled by one pass before training. LVIS v0.5 box AP 28.2, after 6 epochs.

    Args:
        num_classes: C.
        feature_dim: d.
        momentum: of the mean scores.
        background_score: stands for background's mean score.
        queue: features of a class that are remembered.
        classes: drawn each time.
        each: features of each.
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
        """From the memory."""
        rates = 1 / self.mean_scores[:-1].clamp(min=1e-6)
        labels = draw_classes(rates, self.memory.filled[:-1] > 0, self.classes, self.each)
        return self.memory.draw(labels), labels

    def remember(self, features: Tensor, labels: Tensor) -> None:
        """Into the memory."""
        self.memory.push(rows_of_processes(features), rows_of_processes(labels))

    def counts_as(self, labels: Tensor) -> Tensor:
        """(N,): one, but of the drawn RoIs, which stand behind the batch's own, those of a class together."""
        boxes, own = super().counts_as(labels), len(self._batch)
        drawn = labels[own:]
        boxes[own:] /= torch.zeros_like(self.mean_scores).index_add_(0, drawn, boxes[own:])[drawn]
        return boxes

    @torch.no_grad()
    def fit(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """The pass before training: what a training pass leaves but for the weights."""
        self.train()
        for features, labels in batches:
            self.loss(self(features), labels)


class BACLClassifier(_FeatureSampling, FCBLClassifier):
    """BACL (arXiv 2308.02213): the foreground balance loss, and hallucinated features of weak classes.

    A feature is the class's mean plus Gaussian noise of its deviation: moving averages of the mean and the (unbiased)
    variance of a batch's features. A class is drawn by 1 - the mean softmax that it gives its own RoIs, with
    replacement, and in vain where it has not been seen. Hallucinated features weigh as RoIs do, and go into the
    confusion of the loss, too. LVIS v0.5 box AP 22.0 -> 27.8, after a first stage with a sigmoid loss of all weights
    (``bce:background=objectness,trains=all``), where this goes on from the softmax detector.

    Args:
        num_classes: C.
        feature_dim: d.
        alpha: of the margins.
        threshold: of scores.
        decay: what a batch weighs in the averages.
        classes: drawn each time.
        each: features of each.
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
        """Means and noise."""
        own = self.confusion.diagonal() / self.confusion[:, -1].clamp(min=1)
        labels = draw_classes((1 - own).clamp(min=1e-7), self.seen, self.classes, self.each)
        known = labels.clamp(max=self.num_classes - 1)
        mean, deviation = self.feature_mean[known], self.feature_variance[known].sqrt()
        return mean + deviation * torch.randn_like(mean), labels

    def remember(self, features: Tensor, labels: Tensor) -> None:
        """Into the averages; of a class that is seen for the first time they are the batch's."""
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
