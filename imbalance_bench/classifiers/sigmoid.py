"""Sigmoid classifiers: one weighted binary cross entropy, and methods that only say what each term weighs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from imbalance_bench.classifiers.base import LinearClassifier
from imbalance_bench.distributed import sum_over_processes

BACKGROUNDS = ("none", "objectness", "own")


class Weights(NamedTuple):
    """What the terms of a batch weigh; each broadcasts to (N, C) over the foreground columns.

    Attributes:
        positive: of the term of a RoI's own class.
        negative: of the terms of the other classes.
    """

    positive: Tensor | float = 1.0
    negative: Tensor | float = 1.0


class SigmoidClassifier(LinearClassifier):
    """Binary cross entropy of each class for itself, summed over classes, mean over RoIs.

    Args:
        num_classes: C.
        feature_dim: d.
        background: how it is scored. ``none``: 1 - max_j p_j, K = C. ``objectness``: one more sigmoid is background's,
            and a class's score is p_c (1 - p_bg). ``own``: that sigmoid is a class like the others.
        cosine: of LinearClassifier.
    """

    def __init__(
        self, num_classes: int, feature_dim: int, background: str = "none", cosine: float | None = None
    ) -> None:
        if background not in BACKGROUNDS:
            raise ValueError(f"background is {background!r}, expected one of {', '.join(BACKGROUNDS)}")
        super().__init__(num_classes, feature_dim, num_classes + (background != "none"), cosine)
        self.background = background
        torch.nn.init.constant_(self.bias, -math.log(99))  # a prior of .01

    @property
    def has_background_row(self) -> bool:  # type: ignore[override]
        """Whether one of the sigmoids is background's."""
        return self.background != "none"

    def weights(self, logits: Tensor, labels: Tensor, target: Tensor) -> Weights:
        """What terms weigh: 1 here.

        Args:
            logits: (N, C) of the classes, detached.
            labels: (N,), background C.
            target: (N, C) bool, one-hot.
        """
        return Weights()

    def loss(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """``loss_cls`` over (N, K) logits."""
        target = functional.one_hot(labels, self.num_classes + 1).bool()
        classes = self.num_classes
        weights = self.weights(logits[:, :classes].detach(), labels, target[:, :classes])
        terms = self.terms(logits, target[:, : logits.shape[1]])
        weight = torch.where(
            target[:, :classes],
            torch.as_tensor(weights.positive, dtype=terms.dtype, device=terms.device),
            torch.as_tensor(weights.negative, dtype=terms.dtype, device=terms.device),
        )
        if logits.shape[1] > classes:
            weight = functional.pad(weight, (0, 1), value=1.0)
        if self.training:
            self.observe(logits[:, :classes].detach(), target[:, :classes], weight[:, :classes])
        return {"loss_cls": (weight * terms).sum() / max(len(logits), 1)}

    def observe(self, logits: Tensor, target: Tensor, weight: Tensor) -> None:
        """Take a training batch into what the next one's weights depend on; nothing here."""

    def terms(self, logits: Tensor, target: Tensor) -> Tensor:
        """(N, K) binary cross entropies."""
        return functional.softplus(torch.where(target, -logits, logits))

    def probabilities(self, logits: Tensor) -> Tensor:
        """(N, K) of each logit for itself."""
        return logits.sigmoid()

    def scores(self, logits: Tensor) -> Tensor:
        """(N, C + 1), background last."""
        probabilities = self.probabilities(logits)
        if self.background == "own":
            return probabilities
        if self.background == "none":
            return torch.cat([probabilities, 1 - probabilities.amax(dim=1, keepdim=True)], dim=1)
        background = probabilities[:, -1:]
        return torch.cat([probabilities[:, :-1] * (1 - background), background], dim=1)

    def class_weights(self) -> Tensor:
        """(C + 1, d); the row of background is NaN where there is none."""
        rows = self.effective_weight().detach()
        return rows if self.has_background_row else functional.pad(rows, (0, 0, 0, 1), value=math.nan)

    def class_biases(self) -> Tensor:
        """(C + 1,)."""
        bias = self.bias.detach()
        return bias if self.has_background_row else functional.pad(bias, (0, 1), value=math.nan)


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
        negative = torch.sigmoid(self.gamma * (ratio - self.mu))
        return Weights(1 + self.alpha * (1 - negative), negative)

    def observe(self, logits: Tensor, target: Tensor, weight: Tensor) -> None:
        """Add this batch's gradients, of all processes."""
        gradients = weight * torch.where(target, 1 - logits.sigmoid(), logits.sigmoid())
        both = torch.stack([(gradients * target).sum(dim=0), (gradients * ~target).sum(dim=0)]).float()
        sum_over_processes(both)
        self.positive_gradients += both[0]
        self.negative_gradients += both[1]


class EQLClassifier(SigmoidClassifier):
    """Equalization loss (arXiv 2003.05176): foreground RoIs of other classes do not push the tail's logits down.

    LVIS v0.5 box AP 20.8 -> 23.6. Published with a threshold of 1.77e-3 on the share of images, which on LVIS v0.5
    is 100 images: the rare and common classes.

    Args:
        num_classes: C.
        feature_dim: d.
        tail: C, whether a class is spared.
        cosine: of LinearClassifier.
    """

    tail_mask: Tensor

    def __init__(self, num_classes: int, feature_dim: int, tail: Sequence[bool], cosine: float | None = None) -> None:
        super().__init__(num_classes, feature_dim, cosine=cosine)
        if len(tail) != num_classes:
            raise ValueError(f"expected {num_classes} entries of 'tail', got {len(tail)}")
        self.tail = [bool(value) for value in tail]
        self.register_buffer("tail_mask", torch.tensor(self.tail), persistent=False)

    def weights(self, logits: Tensor, labels: Tensor, target: Tensor) -> Weights:
        """Negatives of tail classes weigh nothing in foreground RoIs."""
        foreground = (labels < self.num_classes)[:, None]
        return Weights(negative=(~(foreground & self.tail_mask)).to(logits.dtype))


class DropLossClassifier(EQLClassifier):
    """DropLoss (arXiv 2104.06402): as EQL, and of background RoIs too some negatives of tail classes are dropped.

    A background RoI's are dropped with the share of other classes among the batch's foreground; where there is no
    foreground none are.
    """

    def weights(self, logits: Tensor, labels: Tensor, target: Tensor) -> Weights:
        """Those of EQL, and drawn ones for background."""
        foreground = labels < self.num_classes
        in_tail = (target & self.tail_mask).any(dim=1)
        share = in_tail.sum() / foreground.sum().clamp(min=1)
        dropped = torch.rand(target.shape, device=logits.device) < torch.where(foreground.any(), 1 - share, 0.0)
        spared = self.tail_mask & (foreground[:, None] | dropped)
        return Weights(negative=(~spared).to(logits.dtype))


class FederatedClassifier(SigmoidClassifier):
    """Federated loss (arXiv 2103.07461): a batch counts for the classes in it and for some others, drawn.

    Others are drawn with probability proportional to ``n^power`` until there are ``sampled``; 50 and .5 are
    detectron2's for LVIS's 1,203 classes.

    Args:
        num_classes: C.
        feature_dim: d.
        counts: C, train images.
        sampled: classes of a batch, at least.
        power: of the counts.
        cosine: of LinearClassifier.
    """

    log_counts: Tensor

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
        weights = power * np.log(np.maximum(self.counts, 1))
        self.register_buffer("log_counts", torch.tensor(weights, dtype=torch.float), persistent=False)

    def weights(self, logits: Tensor, labels: Tensor, target: Tensor) -> Weights:
        """1 for the batch's classes, 0 for the others."""
        present = target.any(dim=0)
        # Gumbel's noise on log weights: the k greatest are a draw of k without replacement.
        noise = -torch.empty_like(self.log_counts).exponential_().log()
        keys = torch.where(present, math.inf, self.log_counts + noise)
        drawn = torch.zeros_like(present)
        drawn[keys.topk(min(self.sampled, self.num_classes)).indices] = True
        return Weights(negative=(present | drawn).to(logits.dtype))


class ECMClassifier(SigmoidClassifier):
    """Effective class margins (arXiv 2301.09724): sigmoids with a margin and a weight by each class's share of RoIs.

    ``p = sigmoid(2 z + log(n+ / n-) / 4)`` in training, ``w = a log((1 + a) / a)`` with ``a = n- / n+``; at test the
    plain sigmoid, times 1 - p_bg. LVIS v1 mask AP 27.5 (2x, RFS). Background counts as 6.3313 times all instances.

    Args:
        num_classes: C.
        feature_dim: d.
        counts: C, train images.
        cosine: of LinearClassifier.
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

    def terms(self, logits: Tensor, target: Tensor) -> Tensor:
        """Weighted binary cross entropies with margins, background's too."""
        return self.weight_vector.to(logits) * super().terms(2 * logits + self.shift.to(logits), target)


class ACSLClassifier(SigmoidClassifier):
    """Adaptive class suppression loss (arXiv 2104.00885): only classes that a RoI is confused with are suppressed.

    In a foreground RoI the negative of class j counts where ``p_j >= threshold``. A background RoI counts for rare,
    common and frequent classes with probability .01, .1 and 1. LVIS v0.5 box AP 21.18 -> 26.36, training fc_cls alone.

    Args:
        num_classes: C.
        feature_dim: d.
        frequencies: C letters r, c, f.
        threshold: of confusion.
        cosine: of LinearClassifier.
    """

    kept: Tensor

    SHARES: ClassVar = {"r": 0.01, "c": 0.1, "f": 1.0}

    def __init__(
        self,
        num_classes: int,
        feature_dim: int,
        frequencies: Sequence[str],
        threshold: float = 0.7,
        cosine: float | None = None,
    ) -> None:
        super().__init__(num_classes, feature_dim, "own", cosine)
        if len(frequencies) != num_classes or set(frequencies) - self.SHARES.keys():
            raise ValueError(f"expected {num_classes} letters r, c, f, got {len(frequencies)}: {set(frequencies)}")
        self.frequencies, self.threshold = list(frequencies), threshold
        shares = torch.tensor([self.SHARES[letter] for letter in frequencies])
        self.register_buffer("kept", shares, persistent=False)

    def weights(self, logits: Tensor, labels: Tensor, target: Tensor) -> Weights:
        """Confused classes, and drawn ones for background."""
        foreground = (labels < self.num_classes)[:, None]
        confused = logits.sigmoid() >= self.threshold
        drawn = torch.rand(target.shape, device=logits.device) < self.kept
        return Weights(negative=torch.where(foreground, confused, drawn).to(logits.dtype))


class GumbelClassifier(SigmoidClassifier):
    """Gumbel activation (GOL, arXiv 2207.10936): ``p = exp(-exp(-z))`` in the place of the sigmoid.

    It falls faster than the sigmoid where a class is unlikely, as rare classes nearly always are. LVIS v1 mask AP 27.7
    with DropLoss and RFS. Logits are clamped to [-4, 10].
    """

    def terms(self, logits: Tensor, target: Tensor) -> Tensor:
        """Binary cross entropies of the Gumbel distribution."""
        rate = torch.exp(-logits.float().clamp(-4, 10))
        return torch.where(target, rate, -torch.log(-torch.expm1(-rate)))

    def probabilities(self, logits: Tensor) -> Tensor:
        """(N, K)."""
        return torch.exp(-torch.exp(-logits.float().clamp(-4, 10))).to(logits)
