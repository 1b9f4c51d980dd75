"""Trained classifiers whose logits are changed class by class: ``scale * z + shift``, fixed, measured or trained.

Where nothing is trained the change is folded into W and b, so that the result is a plain softmax layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from imbalance_bench.classifiers.base import Classifier, LinearClassifier
from imbalance_bench.classifiers.softmax import SoftmaxClassifier


def log_prior(
    counts: Sequence[int] | np.ndarray, strength: float = 1.0, beta: float = 0.0, unit: float | None = None
) -> list[float]:
    """C + 1 shifts ``strength * log(N_c / unit)``, background's 0.

    A class without instances counts as one of one instance.

    Args:
        counts: N_c of the foreground classes.
        strength: gamma or tau.
        beta: where positive, the effective number (1 - beta^N) / (1 - beta) takes the place of N.
        unit: the count whose shift is 0; None for the mean class, so that equal counts change nothing.
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
    """Post-hoc logit adjustment (arXiv 2007.07314) as NorCal calibrates detectors (2107.02170, and its code).

    ``z_c - gamma log N_c``, background's logit as it is, and a softmax: the same as NorCal's ``exp(z_c) / N_c^gamma``
    normalised with background. N is the count itself, so the whole foreground is lowered; its authors choose gamma on
    training images. Their class-balanced form is ``beta`` at gamma 1.

    Args:
        base: the trained softmax classifier.
        counts: train images (NorCal) or instances of each class.
        gamma: 0 leaves the scores.
        beta: of ``log_prior``.
        relative: take N relative to the mean class, so that the foreground as a whole is not lowered (not NorCal's).
    """
    return _lowered(base, log_prior(counts, gamma, beta, None if relative else 1.0))


def _lowered(base: LinearClassifier, shift: Sequence[float]) -> SoftmaxClassifier:
    """The softmax classifier whose C + 1 logits are lower by so much."""
    classifier = SoftmaxClassifier(base.num_classes, base.feature_dim)
    with torch.no_grad():
        classifier.weight.copy_(base.class_weights())
        classifier.bias.copy_(base.class_biases() - torch.tensor(shift))
    return classifier


def fractal_calibrated(
    base: LinearClassifier,
    shares: Sequence[float] | np.ndarray,
    dimensions: np.ndarray,
    power: float = 2.0,
    strength: float = 1.0,
) -> SoftmaxClassifier:
    """FRACAL (arXiv 2410.11774, and its code): ``z_c - log10(C N_c / I)``, a softmax, ``p_c / D_c^power``, normalised.

    Background's logit stays as it is, and its D is 1. A class whose boxes are spread over the whole image (D near 2) is
    lowered against one that keeps to a place. LVIS v1 mask AP 28.5. All of it is a change of b.

    Args:
        base: the trained softmax classifier.
        shares: N_c / I, of the train images those that hold each class.
        dimensions: (C,) of ``fractal_dimensions``.
        power: the published lambda.
        strength: of the logit adjustment.
    """
    prior = [*(strength * np.log10(base.num_classes * np.asarray(shares))).tolist(), 0.0]
    return _lowered(base, (np.array(prior) + power * np.log(np.append(dimensions, 1.0))).tolist())


def fractal_dimensions(labels: np.ndarray, centres: np.ndarray, num_classes: int, finest: int = 64) -> np.ndarray:
    """(C,) box-counting dimensions of where each class's boxes are (FRACAL): 1 for a place or a line, 2 for the plane.

    The image is cut into G x G cells, G = 1, 2, ... as long as G^2 <= N_c, and D is the slope of the log of the
    number of cells that hold a centre against log G, at least 1; with fewer than four boxes it is 1.

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


class LogNClassifier(SoftmaxClassifier):
    """Logit normalisation (LogN, arXiv 2203.17020): every class's logits brought to one scale, from statistics.

    ``(z_c - (mu_c - min_k mu_k)) / sd_c`` with mean and deviation of the foreground logits over cached training RoIs,
    background untouched; folded into W and b by ``fit``. Nothing is trained. As released, mean and variance are moving
    averages that start at 0 and 1, and one epoch does not carry them all the way: at momentum 1e-4 and LVIS v1's
    100,170 images in batches of 16 they have gone .465 of it. That share is ``share`` here, whatever the size of the
    data set; 1 takes the statistics themselves. Published on a cosine classifier; here it is tried on the baseline's.

    Args:
        num_classes: C.
        feature_dim: d.
        share: how far the averages have gone from 0 and 1 to the statistics.
    """

    def __init__(self, num_classes: int, feature_dim: int, share: float = 0.465) -> None:
        super().__init__(num_classes, feature_dim)
        if not 0 <= share <= 1:
            raise ValueError(f"share {share}: expected 0 to 1")
        self.share = share
        self._before: tuple[Tensor, Tensor] | None = None

    @torch.no_grad()
    def fit(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Statistics in double precision, in one pass. A second call starts from the same W and b as the first."""
        if self._before is None:
            self._before = self.weight.clone(), self.bias.clone()
        weight, bias = self._before
        self.weight.copy_(weight)
        self.bias.copy_(bias)
        total = squares = torch.zeros(self.num_classes, dtype=torch.float64)
        number = 0
        for features, _ in batches:
            logits = self(features)[:, :-1].double()
            total = total + logits.sum(dim=0)
            squares = squares + logits.square().sum(dim=0)
            number += len(logits)
        if number == 0:
            return
        mean = total / number
        variance = (squares / number - mean.square()).clamp(min=0)
        mean, variance = self.share * mean, self.share * variance + (1 - self.share)
        deviation = variance.sqrt().clamp(min=1e-6)
        shift = mean - mean.min()
        self.bias[:-1] = ((self.bias[:-1].double() - shift) / deviation).to(self.bias)
        self.weight[:-1] = (self.weight[:-1].double() / deviation[:, None]).to(self.weight)


class LogitTransformClassifier(Classifier):
    """A frozen linear classifier and a trained change of its logits: ``z' = s (a z + c) + (1 - s) z``, softmax.

    - LWS (arXiv 1910.09217): ``a`` alone, with class-balanced sampling. LVIS v1 mask AP 17.0, 16.1 before:
      what helps on ImageNet-LT hardly does here. Proposed for classification: that background is scaled as the
      classes are is ours.
    - DisAlign (arXiv 2103.16370, and its code): ``a``, ``c`` of the foreground classes and the confidence
      ``s(h) = sigmoid(v h + u)``, trained with weights ``C pi_c^-rho / sum pi^-rho``, background's 1, by a weighted
      mean; background's logit is not changed. LVIS v0.5 box AP 20.4 -> 23.7.

    Args:
        num_classes: C.
        feature_dim: d.
        shift: train ``c`` too; else it is 0.
        gate: train ``s`` too; else it is 1.
        background: change background's logit too.
        loss_weights: C + 1 weights of the cross entropy, background last; None for none.
    """

    frozen_weight: Tensor
    frozen_bias: Tensor
    loss_weight_vector: Tensor

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
        self.gate_weight = nn.Parameter(torch.empty(1, feature_dim), requires_grad=gate)
        nn.init.normal_(self.gate_weight, std=0.01)
        self.gate_bias = nn.Parameter(torch.zeros(1), requires_grad=gate)

    @classmethod
    def from_base(cls, base: LinearClassifier, **options: object) -> LogitTransformClassifier:
        """Around a trained softmax classifier; before training it scores as that does."""
        classifier = cls(base.num_classes, base.feature_dim, **options)  # type: ignore[arg-type]
        classifier.frozen_weight.copy_(base.class_weights())
        classifier.frozen_bias.copy_(base.class_biases())
        return classifier

    def forward(self, features: Tensor) -> Tensor:
        """(N, d) -> (N, C + 1)."""
        logits = functional.linear(features, self.frozen_weight, self.frozen_bias)
        scale, offset = self._of_all()
        aligned = scale * logits + offset
        if not self.gate:
            return aligned
        confidence = functional.linear(features, self.gate_weight, self.gate_bias).sigmoid()
        return confidence * aligned + (1 - confidence) * logits

    def _of_all(self) -> tuple[Tensor, Tensor]:
        """(C + 1,) scales and offsets; background's are 1 and 0 where it is not changed."""
        if self.background:
            return self.scale, self.offset
        return functional.pad(self.scale, (0, 1), value=1.0), functional.pad(self.offset, (0, 1))

    def loss(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """``loss_cls``: mean over RoIs of CE, weighted by class where there are weights (divided by their sum)."""
        return {"loss_cls": functional.cross_entropy(logits, labels, weight=self.loss_weight_vector.to(logits))}

    def scores(self, logits: Tensor) -> Tensor:
        """(N, C + 1) softmax probabilities."""
        return logits.softmax(dim=1)

    def class_weights(self) -> Tensor:
        """(C + 1, d): the scaled rows, as where the gate is open."""
        return (self._of_all()[0][:, None] * self.frozen_weight).detach()

    def class_biases(self) -> Tensor:
        """(C + 1,)."""
        scale, offset = self._of_all()
        return (scale * self.frozen_bias + offset).detach()


def generalized_weights(counts: Sequence[int] | np.ndarray, rho: float = 0.8) -> list[float]:
    """DisAlign's C + 1 loss weights ``C pi_c^-rho / sum_k pi_k^-rho``, background's 1 (arXiv 2103.16370)."""
    prior = np.maximum(np.asarray(counts, dtype=np.float64), 1)
    weights = (prior / prior.sum()) ** -rho
    return [*(len(prior) * weights / weights.sum()).tolist(), 1.0]
