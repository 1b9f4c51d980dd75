"""Trained classifiers whose logits are changed class by class: ``scale * z + shift``, fixed, measured or trained.

Where the change is known beforehand it is folded into W and b, so that the result is a plain softmax layer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from imbalance_bench.categories import CategoryTable
from imbalance_bench.classifiers.base import Classifier, LinearClassifier, Reduction
from imbalance_bench.classifiers.softmax import SoftmaxClassifier


def log_counts(
    counts: Sequence[int] | np.ndarray, strength: float = 1.0, beta: float = 0.0, unit: float | None = 1.0
) -> list[float]:
    """C + 1 values ``strength * log(N_c / unit)``; background has 0. A class without instances counts as one of one.

    Args:
        counts: N_c of the foreground classes.
        strength: gamma, tau.
        beta: where positive, of the effective number of instances (1 - beta^N) / (1 - beta) in the place of N.
        unit: None for the mean of what it divides: equal counts then give 0, and background stands as a class of
            mean size.
    """
    numbers = np.maximum(np.asarray(counts, dtype=np.float64), 1)
    if beta > 0:
        numbers = (1 - beta**numbers) / (1 - beta)
    return [*(strength * np.log(numbers / (numbers.mean() if unit is None else unit))).tolist(), 0.0]


def logit_adjusted(
    base: LinearClassifier,
    counts: Sequence[int] | np.ndarray,
    gamma: float = 1.0,
    beta: float = 0.0,
    relative: bool = False,
) -> SoftmaxClassifier:
    """Post-hoc logit adjustment (arXiv 2007.07314) as NorCal calibrates detectors (2107.02170).

    ``exp(z_c) / N_c^gamma``, background's ``exp(z)`` as it is, normalised over both: the softmax of
    ``z_c - gamma log N_c``. N is absolute, so that all of the foreground is lowered against background. Compared with
    NorCal's code: there counts are of images, the class-balanced factor is ``(1 - beta) / (1 - beta^N)``, and gamma is
    0 until it is chosen on training data.

    Args:
        base: the trained softmax classifier.
        counts: train images (NorCal) or instances of each class.
        gamma: 0 leaves the scores.
        beta: of ``log_counts``.
        relative: N is over its mean, so that a class of mean size stands against background as before. Not NorCal's.
    """
    return _lowered(base, log_counts(counts, gamma, beta, None if relative else 1.0))


def _lowered(base: LinearClassifier, shift: Sequence[float] | np.ndarray) -> SoftmaxClassifier:
    """The softmax classifier whose C + 1 logits are lower by so much."""
    classifier = SoftmaxClassifier(base.num_classes, base.feature_dim)
    with torch.no_grad():
        classifier.weight.copy_(base.class_weights())
        classifier.bias.copy_(base.class_biases() - torch.as_tensor(shift))
    return classifier


def fractal_calibrated(
    base: LinearClassifier, counts: Sequence[int] | np.ndarray, images: int, dimensions: np.ndarray,
    power: float = 2.0, strength: float = 1.0,
) -> SoftmaxClassifier:  # fmt: skip
    """FRACAL (arXiv 2410.11774): ``z_c - log10(C N_c / I)``, a softmax, ``p_c / D_c^power``, normalised again.

    A class whose boxes are spread over the whole image (D near 2) is lowered against one that keeps to a place.
    Background has no prior and D = 1. All of it is a change of b. Compared with the authors' code, which does it to a
    cosine classifier (s = 20). LVIS v1 mask AP 28.5.

    Args:
        base: the trained softmax classifier.
        counts: N_c, train images of each class.
        images: I, all train images.
        dimensions: (C,) of ``fractal_dimensions``.
        power: the published lambda.
        strength: of the logit adjustment; 0 for none, 1 as published.
    """
    prior = log_counts(counts, strength / math.log(10), unit=images / base.num_classes)
    return _lowered(base, np.array(prior) + power * np.log(np.append(dimensions, 1.0)))


def fractal_dimensions(labels: np.ndarray, centres: np.ndarray, num_classes: int, finest: int = 64) -> np.ndarray:
    """(C,) box-counting dimensions of where each class's boxes are (FRACAL): 1 for a place or a line, 2 for the plane.

    The image is cut into G x G cells, G = 1, 2, ... as long as G^2 <= N_c, and D is the slope of the log of the
    number of cells that hold a centre against log G, at least 1; with fewer than four boxes it is 1. As the authors'
    code, but that a centre on the image's far edge belongs to the last cell; there it is left out.

    Args:
        labels: (N,) of the training boxes.
        centres: (N, 2) x and y over the image's width and height.
        num_classes: C.
        finest: greatest G.
    """
    numbers = np.bincount(labels, minlength=num_classes)
    dimensions = np.ones(num_classes)
    for label in np.flatnonzero(numbers >= 4):
        own = centres[labels == label].clip(0, np.nextafter(1, 0))
        grids = np.arange(1, min(finest, int(np.sqrt(numbers[label]))) + 1)
        cells = [len(np.unique((own * grid).astype(np.int64) @ [1, grid])) for grid in grids]
        slope, _ = np.polyfit(np.log(grids), np.log(cells), 1)
        dimensions[label] = max(1.0, slope)
    return dimensions


class LogNClassifier(LinearClassifier):
    """Logit normalisation (LogN, arXiv 2203.17020): every class's logits brought to one scale, from statistics.

    ``(z_c - (mu_c - min_k mu_k)) / sd_c`` with mean and deviation of the foreground logits over training RoIs,
    background untouched; a softmax. Nothing is trained. The released code has the statistics from batch norm in one
    epoch: moving averages that start at mean 0 and variance 1, and go 5e-5 of the way to those of each image's 512
    RoIs, 71 % in an epoch of LVIS on four GPUs. After fewer images they are still near 0 and 1. Published on a cosine
    classifier (s = 20). Compared with the authors' code; of the paper, the abstract alone could be read.

    Args:
        num_classes: C.
        feature_dim: d.
        momentum: of the moving averages; 0 for mean and variance of all RoIs, their limit.
        cosine: of LinearClassifier.

    Example:
        >>> classifier = LogNClassifier(num_classes=2, feature_dim=2, momentum=0)
        >>> with torch.no_grad():
        ...     _ = classifier.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 3.0], [0.0, 0.0]]))
        >>> classifier.fit([(torch.tensor([[1.0, 1.0], [-1.0, -1.0]]), torch.tensor([0, 1]))])
        >>> classifier.logit_variance, classifier.class_weights()
        (tensor([1., 9.]), tensor([[1., 0.],
                [0., 1.],
                [0., 0.]]))
    """

    logit_mean: Tensor
    logit_variance: Tensor

    needs_fit: ClassVar[bool] = True

    ROIS = 512

    def __init__(self, num_classes: int, feature_dim: int, momentum: float = 5e-5, cosine: float | None = None) -> None:
        super().__init__(num_classes, feature_dim, num_classes + 1, cosine)
        self.momentum = momentum
        self.register_buffer("logit_mean", torch.zeros(num_classes))
        self.register_buffer("logit_variance", torch.ones(num_classes))

    @torch.no_grad()
    def fit(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Statistics in double precision, in one pass; without RoIs they stay as they start."""
        logits = (super(LogNClassifier, self).forward(features)[:, :-1].double() for features, _ in batches)
        mean, variance = (self._moving if self.momentum else self._exact)(logits)
        self.logit_mean.copy_(mean)
        self.logit_variance.copy_(variance)

    def _moving(self, parts: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
        mean = torch.zeros_like(self.logit_mean, dtype=torch.float64)
        variance = torch.ones_like(mean)
        for logits in parts:
            for batch in torch.split(logits, self.ROIS):
                if len(batch) > 1:  # one has no variance
                    mean.lerp_(batch.mean(dim=0), self.momentum)
                    variance.lerp_(batch.var(dim=0), self.momentum)
        return mean, variance

    def _exact(self, parts: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
        total = torch.zeros_like(self.logit_mean, dtype=torch.float64)
        squares, number = total.clone(), 0
        for logits in parts:
            total += logits.sum(dim=0)
            squares += logits.square().sum(dim=0)
            number += len(logits)
        if number == 0:
            return total, torch.ones_like(total)
        mean = total / number
        return mean, squares / number - mean.square()

    def _change(self) -> tuple[Tensor, Tensor]:
        """(C + 1,) what the logits are lowered by, and then divided by."""
        shift = self.logit_mean - self.logit_mean.min()
        deviation = self.logit_variance.clamp(min=1e-11).sqrt()
        return functional.pad(shift, (0, 1)), functional.pad(deviation, (0, 1), value=1.0)

    def forward(self, features: Tensor) -> Tensor:
        """(N, d) -> (N, C + 1)."""
        shift, deviation = self._change()
        return (super().forward(features) - shift) / deviation

    def loss(self, logits: Tensor, labels: Tensor, reduction: Reduction = "mean") -> dict[str, Tensor]:
        """``loss_cls``: cross entropy."""
        return {"loss_cls": functional.cross_entropy(logits, labels, reduction=reduction)}

    def scores(self, logits: Tensor) -> Tensor:
        """(N, C + 1) softmax probabilities."""
        return logits.softmax(dim=1)

    def class_weights(self) -> Tensor:
        """(C + 1, d): the divided rows."""
        return super().class_weights() / self._change()[1][:, None]

    def class_biases(self) -> Tensor:
        """(C + 1,)."""
        shift, deviation = self._change()
        return (super().class_biases() - shift) / deviation


class LogitTransformClassifier(Classifier):
    """A frozen linear classifier and a trained change of its logits: ``z' = s (a z + c) + (1 - s) z``, softmax.

    - LWS (arXiv 1910.09217): ``a`` alone, with class-balanced sampling. LVIS v1 mask AP 17.0, 16.1 before, in EQLv2's
      code, which scales W but not b; its authors' own code scales both, as here. What helps on ImageNet-LT hardly does
      in detection.
    - DisAlign (arXiv 2103.16370): ``a``, ``c`` and the confidence ``s(h) = sigmoid(v h + u)``, of the foreground logits
      alone, trained with weights ``C pi_c^-rho / sum pi^-rho``, background's 1, whose sum over the batch is the
      divisor, as in its authors' detection code. LVIS v0.5 box AP 20.4 -> 23.7.

    Args:
        num_classes: C.
        feature_dim: d.
        shift: train ``c`` too; else it is 0.
        gate: train ``s`` too; else it is 1.
        background: change background's logit too.
        loss_weights: C + 1 weights of the cross entropy, background last; None for none.

    Example:
        >>> from imbalance_bench.classifiers import SoftmaxClassifier
        >>> base = SoftmaxClassifier(num_classes=2, feature_dim=4)
        >>> classifier = LogitTransformClassifier.from_base(base)
        >>> torch.equal(classifier(torch.ones(3, 4)), base(torch.ones(3, 4)))  # before it is trained
        True
        >>> [name for name, parameter in classifier.named_parameters() if parameter.requires_grad]
        ['scale']
    """

    frozen_weight: Tensor
    frozen_bias: Tensor
    loss_weight_vector: Tensor
    base_buffers: ClassVar[tuple[str, ...]] = ("frozen_weight", "frozen_bias")

    def __init__(
        self,
        num_classes: int,
        feature_dim: int,
        shift: bool = False,
        gate: bool = False,
        background: bool = True,
        loss_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__(num_classes, feature_dim)
        if loss_weights is not None and len(loss_weights) != num_classes + 1:
            raise ValueError(f"expected {num_classes + 1} loss weights (background last), got {len(loss_weights)}")
        self.shift, self.gate, self.background = shift, gate, background
        self.loss_weights = None if loss_weights is None else [float(weight) for weight in loss_weights]
        self.register_buffer("frozen_weight", torch.zeros(num_classes + 1, feature_dim))
        self.register_buffer("frozen_bias", torch.zeros(num_classes + 1))
        vector = torch.ones(num_classes + 1) if loss_weights is None else torch.tensor(self.loss_weights)
        self.register_buffer("loss_weight_vector", vector, persistent=False)
        changed = num_classes + background
        self.scale = nn.Parameter(torch.ones(changed))
        self.offset = nn.Parameter(torch.zeros(changed), requires_grad=shift)
        self.gate_weight = nn.Parameter(torch.zeros(1, feature_dim), requires_grad=gate)
        self.gate_bias = nn.Parameter(torch.zeros(1), requires_grad=gate)
        if gate:
            nn.init.normal_(self.gate_weight, std=0.01)  # as released

    @classmethod
    def from_base(cls, base: LinearClassifier, **options: object) -> LogitTransformClassifier:
        """Around a trained softmax classifier; before training it scores as that does."""
        classifier = cls(base.num_classes, base.feature_dim, **options)  # type: ignore[arg-type]
        classifier.frozen_weight.copy_(base.class_weights())
        classifier.frozen_bias.copy_(base.class_biases())
        return classifier

    @classmethod
    def arguments_from(cls, categories: CategoryTable, given: Mapping[str, Any]) -> dict[str, Any]:
        """``loss_weights`` of DisAlign."""
        return {"loss_weights": generalized_weights(categories.instance_counts)}

    def forward(self, features: Tensor) -> Tensor:
        """(N, d) -> (N, C + 1)."""
        logits = functional.linear(features, self.frozen_weight, self.frozen_bias)
        before, kept = logits.tensor_split([len(self.scale)], dim=1)
        aligned = self.scale * before + self.offset
        if self.gate:
            confidence = functional.linear(features, self.gate_weight, self.gate_bias).sigmoid()
            aligned = confidence * aligned + (1 - confidence) * before
        return torch.cat([aligned, kept], dim=1)

    def loss(self, logits: Tensor, labels: Tensor, reduction: Reduction = "mean") -> dict[str, Tensor]:
        """``loss_cls``: cross entropy, its weighted mean over RoIs: divided by the sum of their weights."""
        weight = None if self.loss_weights is None else self.loss_weight_vector.to(logits)
        losses = functional.cross_entropy(logits, labels, weight, reduction=reduction)
        if reduction == "none" and weight is not None:
            losses = losses * (len(labels) / weight[labels].sum())
        return {"loss_cls": losses}

    def scores(self, logits: Tensor) -> Tensor:
        """(N, C + 1) softmax probabilities."""
        return logits.softmax(dim=1)

    def category_logits(self, logits: Tensor) -> Tensor:
        """(N, C + 1): the changed ones."""
        return logits

    def _all(self, values: Tensor, kept: float) -> Tensor:
        """(C + 1,) of the changed logits' values, and of a background that stays."""
        return functional.pad(values.detach(), (0, self.num_classes + 1 - len(values)), value=kept)

    def class_weights(self) -> Tensor:
        """(C + 1, d): the scaled rows, as where the gate is open."""
        return self._all(self.scale, 1.0)[:, None] * self.frozen_weight

    def class_biases(self) -> Tensor:
        """(C + 1,)."""
        return self._all(self.scale, 1.0) * self.frozen_bias + self._all(self.offset, 0.0)


def generalized_weights(counts: Sequence[int] | np.ndarray, rho: float = 0.8) -> list[float]:
    """DisAlign's C + 1 loss weights ``C pi_c^-rho / sum_k pi_k^-rho``, background's 1 (arXiv 2103.16370).

    The authors' counts lie in a file that could not be read; whether of images or instances it does not say.
    """
    prior = np.maximum(np.asarray(counts, dtype=np.float64), 1)
    weights = (prior / prior.sum()) ** -rho
    return [*(len(prior) * weights / weights.sum()).tolist(), 1.0]
