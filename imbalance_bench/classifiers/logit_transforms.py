"""Trained classifiers with a change of the logits of each class: ``scale * z + shift``, fixed, measured or trained.

A change that is known before training is applied to W and b, so that the result is a plain softmax layer.
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
    """Return the C + 1 values ``strength * log(N_c / unit)``, 0 for background; a count of 0 is taken as 1.

    Args:
        counts: N_c of the foreground classes.
        strength: gamma or tau in the papers.
        beta: if positive, N is replaced by the effective number of instances (1 - beta^N) / (1 - beta).
        unit: None for the mean of these numbers: equal counts then give 0, and background is treated as a class of
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
    """Adjust logits post hoc by the counts (arXiv 2007.07314), as NorCal calibrates detectors (2107.02170).

    ``exp(z_c) / N_c^gamma`` and the unchanged ``exp(z)`` of background are normalised together: this is the softmax of
    ``z_c - gamma log N_c``. N is absolute, so that all foreground scores become lower relative to background. Compared
    with NorCal's code: it counts images, its class-balanced factor is ``(1 - beta) / (1 - beta^N)``, and its gamma is 0
    until it is chosen on training data.

    Args:
        base: the trained softmax classifier.
        counts: train images (NorCal) or instances of each class.
        gamma: strength; 0 leaves the scores unchanged.
        beta: of ``log_counts``.
        relative: divide N by its mean, so that a class of mean size keeps its logit. Not part of NorCal.
    """
    return _lowered(base, log_counts(counts, gamma, beta, None if relative else 1.0))


def _lowered(base: LinearClassifier, shift: Sequence[float] | np.ndarray) -> SoftmaxClassifier:
    """Return a softmax classifier with ``shift`` subtracted from its C + 1 logits."""
    classifier = SoftmaxClassifier(base.num_classes, base.feature_dim)
    with torch.no_grad():
        classifier.weight.copy_(base.class_weights())
        classifier.bias.copy_(base.class_biases() - torch.as_tensor(shift))
    return classifier


def fractal_calibrated(
    base: LinearClassifier, counts: Sequence[int] | np.ndarray, images: int, dimensions: np.ndarray,
    power: float = 2.0, strength: float = 1.0,
) -> SoftmaxClassifier:  # fmt: skip
    """Apply FRACAL (arXiv 2410.11774): softmax of ``z_c - log10(C N_c / I)``, then normalised ``p_c / D_c^power``.

    A class whose boxes are spread over the whole image (D near 2) gets lower scores than a class whose boxes stay in
    one place. Background has no prior and D = 1. Only b changes. Compared with the authors' code, which uses a cosine
    classifier (s = 20). LVIS v1 mask AP 28.5.

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
    """Return the (C,) box-counting dimensions of the box centres of each class: 1 for a point or line, 2 for a plane.

    These are the dimensions D of FRACAL. The image is cut into G x G cells, for G = 1, 2, ... with G^2 <= N_c. D is the
    slope of the log of the number of cells that hold a centre against log G, and at least 1; with fewer than four boxes
    it is 1. One difference to the authors' code: a centre on the image's far edge belongs to the last cell; their code
    leaves it out.

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
    """Logit normalisation (LogN, arXiv 2203.17020): the logits of all classes are brought to one scale.

    The softmax of ``(z_c - (mu_c - min_k mu_k)) / sd_c``, with mean and deviation of the foreground logits over
    training RoIs; the background logit is not changed. Nothing is trained. The released code takes the statistics from
    batch norm in one epoch: moving averages start at mean 0 and variance 1, and move by 5e-5 of the difference to the
    statistics of each image's 512 RoIs, in total by 71 % in an epoch of LVIS on four GPUs. After fewer images they are
    still near 0 and 1. Published with a cosine classifier (s = 20). Compared with the authors' code; only the
    abstract of the paper was available.

    Args:
        num_classes: C.
        feature_dim: d.
        momentum: of the moving averages; 0 for the mean and variance of all RoIs, which are their limit.
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
        """Compute the statistics in double precision in one pass; without RoIs they keep their initial values."""
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
        """Return two (C + 1,) vectors: the values subtracted from the logits, and the divisors applied after that."""
        shift = self.logit_mean - self.logit_mean.min()
        deviation = self.logit_variance.clamp(min=1e-11).sqrt()
        return functional.pad(shift, (0, 1)), functional.pad(deviation, (0, 1), value=1.0)

    def forward(self, features: Tensor) -> Tensor:
        """Compute (N, C + 1) logits from (N, d) features."""
        shift, deviation = self._change()
        return (super().forward(features) - shift) / deviation

    def loss(self, logits: Tensor, labels: Tensor, reduction: Reduction = "mean") -> dict[str, Tensor]:
        """Compute ``loss_cls``, the cross entropy."""
        return {"loss_cls": functional.cross_entropy(logits, labels, reduction=reduction)}

    def scores(self, logits: Tensor) -> Tensor:
        """Compute (N, C + 1) softmax probabilities."""
        return logits.softmax(dim=1)

    def class_weights(self) -> Tensor:
        """Return the (C + 1, d) weight rows after the division."""
        return super().class_weights() / self._change()[1][:, None]

    def class_biases(self) -> Tensor:
        """Return the (C + 1,) biases after the shift and the division."""
        shift, deviation = self._change()
        return (super().class_biases() - shift) / deviation


class LogitTransformClassifier(Classifier):
    """A frozen linear classifier with a trained change of its logits: ``z' = s (a z + c) + (1 - s) z``, softmax.

    - LWS (arXiv 1910.09217): only ``a`` is trained, with class-balanced sampling. LVIS v1 mask AP 16.1 -> 17.0 in
      EQLv2's code, which scales W but not b; the code of LWS's authors scales both, as here. The method helps on
      ImageNet-LT, but hardly in detection.
    - DisAlign (arXiv 2103.16370): ``a``, ``c`` and the confidence ``s(h) = sigmoid(v h + u)`` change foreground logits
      only. The loss weights are ``C pi_c^-rho / sum pi^-rho``, and 1 for background; their sum over the batch is the
      divisor, as in the authors' detection code. LVIS v0.5 box AP 20.4 -> 23.7.

    Args:
        num_classes: C.
        feature_dim: d.
        shift: train ``c`` too; else it is 0.
        gate: train ``s`` too; else it is 1.
        background: change background's logit too.
        loss_weights: C + 1 weights of the cross entropy, background last; None for no weights.

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
        """Build from a trained softmax classifier; before training, the scores are those of that classifier."""
        classifier = cls(base.num_classes, base.feature_dim, **options)  # type: ignore[arg-type]
        classifier.frozen_weight.copy_(base.class_weights())
        classifier.frozen_bias.copy_(base.class_biases())
        return classifier

    @classmethod
    def arguments_from(cls, categories: CategoryTable, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the ``loss_weights`` of DisAlign."""
        return {"loss_weights": generalized_weights(categories.instance_counts)}

    def forward(self, features: Tensor) -> Tensor:
        """Compute (N, C + 1) logits from (N, d) features."""
        logits = functional.linear(features, self.frozen_weight, self.frozen_bias)
        before, kept = logits.tensor_split([len(self.scale)], dim=1)
        aligned = self.scale * before + self.offset
        if self.gate:
            confidence = functional.linear(features, self.gate_weight, self.gate_bias).sigmoid()
            aligned = confidence * aligned + (1 - confidence) * before
        return torch.cat([aligned, kept], dim=1)

    def loss(self, logits: Tensor, labels: Tensor, reduction: Reduction = "mean") -> dict[str, Tensor]:
        """Compute ``loss_cls``, the cross entropy as a weighted mean over RoIs, divided by the sum of the weights."""
        weight = None if self.loss_weights is None else self.loss_weight_vector.to(logits)
        losses = functional.cross_entropy(logits, labels, weight, reduction=reduction)
        if reduction == "none" and weight is not None:
            losses = losses * (len(labels) / weight[labels].sum())
        return {"loss_cls": losses}

    def scores(self, logits: Tensor) -> Tensor:
        """Compute (N, C + 1) softmax probabilities."""
        return logits.softmax(dim=1)

    def category_logits(self, logits: Tensor) -> Tensor:
        """Return the (N, C + 1) changed logits."""
        return logits

    def _all(self, values: Tensor, kept: float) -> Tensor:
        """Return (C + 1,) values: those of the changed logits, and ``kept`` for a background that is not changed."""
        return functional.pad(values.detach(), (0, self.num_classes + 1 - len(values)), value=kept)

    def class_weights(self) -> Tensor:
        """Return the (C + 1, d) scaled rows, which hold where the gate is open (s = 1)."""
        return self._all(self.scale, 1.0)[:, None] * self.frozen_weight

    def class_biases(self) -> Tensor:
        """Return the (C + 1,) scaled and shifted biases, which hold where the gate is open (s = 1)."""
        return self._all(self.scale, 1.0) * self.frozen_bias + self._all(self.offset, 0.0)


def generalized_weights(counts: Sequence[int] | np.ndarray, rho: float = 0.8) -> list[float]:
    """Return DisAlign's C + 1 loss weights ``C pi_c^-rho / sum_k pi_k^-rho``, 1 for background (arXiv 2103.16370).

    The authors' counts are in a file that was not available, so it is not known whether they count images or instances.
    """
    prior = np.maximum(np.asarray(counts, dtype=np.float64), 1)
    weights = (prior / prior.sum()) ** -rho
    return [*(len(prior) * weights / weights.sum()).tolist(), 1.0]
