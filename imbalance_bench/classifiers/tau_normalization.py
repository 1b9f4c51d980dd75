"""tau-normalisation of a trained classifier (section 7.1.2; Table 1 rows 12 and 13)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from imbalance_bench.categories import CategoryTable
from imbalance_bench.classifiers.base import Classifier, LinearClassifier, Reduction
from imbalance_bench.classifiers.softmax import SoftmaxClassifier


def tau_normalize(weight: Tensor, tau: float) -> Tensor:
    """Rows ``w_j / norm(w_j)^tau`` of a (K, d) weight; a zero row stays zero."""
    norms = weight.norm(dim=1, keepdim=True)
    return torch.where(norms > 0, weight / norms.clamp(min=torch.finfo(weight.dtype).tiny) ** tau, weight)


def tau_norm(
    base: LinearClassifier, tau: float = 1.0, keep_bias: bool = True, normalize_background: bool = True
) -> SoftmaxClassifier:
    """A softmax classifier with the tau-normalised rows of a trained one.

    Args:
        base: the trained softmax classifier.
        tau: 0 leaves the weights, 1 gives every row norm 1.
        keep_bias: as BAGS's code does; the classification original drops it.
        normalize_background: whether the background row is normalised too.
    """
    classifier = SoftmaxClassifier(base.num_classes, base.feature_dim)
    weights = base.class_weights()
    normalized = tau_normalize(weights, tau)
    if not normalize_background:
        normalized[-1] = weights[-1]
    with torch.no_grad():
        classifier.weight.copy_(normalized)
        classifier.bias.copy_(base.class_biases() * keep_bias)
    return classifier


class TauNormSelectClassifier(Classifier):
    """tau-normalised scores where the trained classifier says foreground, its own scores elsewhere (row 13).

    Section 7.1.2: a proposal "categorized to background by the original model" keeps that model's scores, else "the
    tau-norm results will be selected", all of them, background's too. They are those of row 12, whose background row is
    normalised with the others. Where the trained classifier says background so does this one. The reverse is no rule
    but a fact: background has the longest row and loses most, so that row 12 does not say background where the trained
    classifier says a class (on none of 8,864 such proposals of the small embedded set). ACC_bg is therefore the trained
    classifier's own, 95.91 in both rows of Table 1; with background's row kept it would be .5 points more there.

    The released code keeps the background row, and takes tau-normalised scores only where they name a class with fewer
    than 100 training instances.

    Logits (N, 2 (C + 1)): the trained classifier's, then the tau-normalised one's.

    Args:
        num_classes: C.
        feature_dim: d.
        tail: labels; where not None, tau-normalised scores are taken only if they predict one of these classes
            (as released).

    Example:
        >>> from imbalance_bench.classifiers import SoftmaxClassifier
        >>> classifier = TauNormSelectClassifier.from_base(SoftmaxClassifier(num_classes=2, feature_dim=4), tau=1.0)
        >>> classifier.class_weights().norm(dim=1).round().tolist()
        [1.0, 1.0, 1.0]
    """

    base_weight: Tensor
    base_bias: Tensor
    tau_weight: Tensor
    tau_bias: Tensor
    tail_mask: Tensor

    def __init__(self, num_classes: int, feature_dim: int, tail: Sequence[int] | None = None) -> None:
        super().__init__(num_classes, feature_dim)
        self.tail = None if tail is None else [int(label) for label in tail]
        if self.tail and not 0 <= min(self.tail) <= max(self.tail) < num_classes:
            raise ValueError(f"expected tail labels in 0..{num_classes - 1}, got {self.tail}")
        for part in ("base", "tau"):
            self.register_buffer(f"{part}_weight", torch.zeros(num_classes + 1, feature_dim))
            self.register_buffer(f"{part}_bias", torch.zeros(num_classes + 1))
        mask = torch.zeros(num_classes + 1, dtype=torch.bool)
        mask[list(range(num_classes + 1)) if self.tail is None else self.tail] = True
        self.register_buffer("tail_mask", mask, persistent=False)

    @classmethod
    def arguments_from(cls, categories: CategoryTable, given: Mapping[str, Any]) -> dict[str, Any]:
        """``tail``: labels of the tail's classes."""
        return {"tail": categories.tail_labels}

    @classmethod
    def from_base(
        cls,
        base: LinearClassifier,
        tau: float = 1.0,
        keep_bias: bool = True,
        normalize_background: bool = True,
        tail: Sequence[int] | None = None,
    ) -> TauNormSelectClassifier:
        """From a trained softmax classifier; arguments as of ``tau_norm`` and of the class."""
        classifier = cls(base.num_classes, base.feature_dim, tail)
        normalized = tau_norm(base, tau, keep_bias, normalize_background)
        classifier.base_weight.copy_(base.class_weights())
        classifier.base_bias.copy_(base.class_biases())
        classifier.tau_weight.copy_(normalized.class_weights())
        classifier.tau_bias.copy_(normalized.class_biases())
        return classifier

    def forward(self, features: Tensor) -> Tensor:
        """(N, d) -> (N, 2 (C + 1))."""
        base = functional.linear(features, self.base_weight, self.base_bias)
        return torch.cat([base, functional.linear(features, self.tau_weight, self.tau_bias)], dim=1)

    def loss(self, logits: Tensor, labels: Tensor, reduction: Reduction = "mean") -> dict[str, Tensor]:
        """``loss_cls``: cross entropy of the scores, for monitoring; nothing here is trained."""
        scores = self.scores(logits).clamp(min=torch.finfo(logits.dtype).tiny)
        return {"loss_cls": functional.nll_loss(scores.log(), labels, reduction=reduction)}

    def scores(self, logits: Tensor) -> Tensor:
        """(N, C + 1), each row a softmax."""
        base, tau = logits.chunk(2, dim=1)
        background = self.num_classes
        take_tau = base.argmax(dim=1) != background
        if self.tail is not None:
            take_tau &= self.tail_mask[tau.argmax(dim=1)]
        return torch.where(take_tau[:, None], tau, base).softmax(dim=1)

    def category_logits(self, logits: Tensor) -> Tensor:
        """(N, 2 (C + 1)) -> (N, C + 1): the tau-normalised ones."""
        return logits[:, self.num_classes + 1 :]

    def class_weights(self) -> Tensor:
        """(C + 1, d): the tau-normalised rows."""
        return self.tau_weight

    def class_biases(self) -> Tensor:
        """(C + 1,)."""
        return self.tau_bias
