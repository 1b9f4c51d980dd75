"""Trained classifiers whose scores are changed after the softmax, by maps fitted to cached proposals.

Isotonic calibration maps the score of each class. REPAIR orders the best classes of a RoI anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from scipy.optimize import isotonic_regression, minimize
from torch import Tensor
from torch.nn import functional

from imbalance_bench.categories import CategoryTable
from imbalance_bench.classifiers.softmax import SoftmaxClassifier

ROWS = 4096
"""RoIs that are looked at together in a fit: there are as many values as RoIs times classes."""


class IsotonicClassifier(SoftmaxClassifier):
    """Isotonic calibration of each class (as arXiv 2405.20459 has it of a detector): its score as a share of RoIs.

    The score of class c becomes a monotone function of itself: the least-squares fit to whether a training RoI with
    that score is of class c. Scores are counted in cells of equal width in the logit; the function is linear between
    the cells' centres and constant beyond the outermost cells that hold RoIs. A monotone function makes steps of equal
    scores; to keep their order, a small share of the score itself is mixed in. So AP_fixed hardly changes. What changes
    is which classes' detections are among the best of an image, and what a score means. A class without a RoI keeps
    its scores, and background keeps its own.

    The paper fits to detections of held-out images; here the function is fitted to RoIs that the classifier was trained
    with, whose scores are too good.

    Args:
        num_classes: C.
        feature_dim: d.

    Example:
        >>> classifier = IsotonicClassifier(num_classes=1, feature_dim=1)
        >>> with torch.no_grad():
        ...     _ = classifier.weight.copy_(torch.tensor([[1.0], [0.0]]))
        >>> rois = torch.full((10, 1), 2.0)  # with score .88, of which 3 in 10 are of the class
        >>> classifier.fit([(rois, torch.tensor([0] * 3 + [1] * 7))])
        >>> classifier.scores(classifier(rois[:1])).detach()
        tensor([[0.3006, 0.1192]])
    """

    table: Tensor

    needs_fit: ClassVar[bool] = True

    CELLS, FURTHEST = 240, 12.0
    KEPT = 1e-3
    """Share of the score that is mixed in."""

    def __init__(self, num_classes: int, feature_dim: int) -> None:
        super().__init__(num_classes, feature_dim)
        # Of each class the calibrated score at the cells' centres; before the fit the score itself.
        self.register_buffer("table", self._centres().sigmoid().repeat(num_classes, 1))

    @classmethod
    def arguments_from(cls, categories: CategoryTable, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return nothing: it has no counts."""
        return {}

    def _centres(self) -> Tensor:
        width = 2 * self.FURTHEST / self.CELLS
        return torch.linspace(-self.FURTHEST + width / 2, self.FURTHEST - width / 2, self.CELLS)

    def _places(self, scores: Tensor) -> Tensor:
        """Return the places of scores among the cells: 0 at the centre of the first, CELLS - 1 at that of the last."""
        width = 2 * self.FURTHEST / self.CELLS
        logits = scores.logit(eps=torch.finfo(scores.dtype).eps / 2)
        return ((logits + self.FURTHEST) / width - 0.5).clamp(0, self.CELLS - 1)

    @torch.no_grad()
    def fit(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Fit the function of each class to batches of (features, labels) in one pass."""
        seen = torch.zeros(self.num_classes * self.CELLS, dtype=torch.float64)
        right = torch.zeros_like(seen)
        offsets = torch.arange(self.num_classes) * self.CELLS
        for features, labels in _pieces(batches):
            scores = super().scores(self(features))[:, :-1]
            cells = self._places(scores).round().long().cpu() + offsets
            seen += cells.flatten().bincount(minlength=len(seen))
            own = (labels < self.num_classes).cpu().nonzero()[:, 0]
            right += cells[own, labels.cpu()[own]].bincount(minlength=len(seen))
        counts = (numbers.view(-1, self.CELLS).numpy() for numbers in (seen, right))
        for label, (number, positive) in enumerate(zip(*counts, strict=True)):
            known = np.flatnonzero(number)
            if positive.any():
                values = isotonic_regression(positive[known] / number[known], weights=number[known]).x
                self.table[label] = torch.from_numpy(np.interp(np.arange(self.CELLS), known, values))

    def scores(self, logits: Tensor) -> Tensor:
        """Compute (N, C + 1) scores; their sum may differ from 1."""
        plain = super().scores(logits)
        places, table = self._places(plain[:, :-1]), self.table.clamp(0, 1).to(plain)
        below = places.long().clamp(max=self.CELLS - 2)
        labels = torch.arange(self.num_classes, device=logits.device)
        mapped = torch.lerp(table[labels, below], table[labels, below + 1], places - below)
        return torch.cat([torch.lerp(mapped, plain[:, :-1], self.KEPT), plain[:, -1:]], dim=1)


class RepairClassifier(SoftmaxClassifier):
    """REPAIR (arXiv 2604.01506): the best k classes of a RoI are ordered anew, each by an offset and by its rivals.

    The logit of class c among the best k becomes ``z_c + tau log(sum n / n_c) + a_c + mean over rivals j of theta f``,
    where f holds the differences of c and j in logit, in rank, and in log(n + 1). The mean of a difference over the
    rivals is that of c to the mean of the k classes, times k / (k - 1). Offsets a and theta maximise the likelihood of
    the RoIs whose class is among their best k, in L-BFGS, with penalties on their squares. A share of the weight of
    a RoI is proportional to 1 / sqrt(n + 1) of its class.

    For a detector: the best k are foreground classes, fitted to foreground RoIs. Together they keep the softmax that
    they had, which is divided anew among them; so background and other classes keep their scores. Compared with the
    authors' code, whose feature log(p_c / p_j) is the difference of the logits again: one weight with half of the
    penalty is the same as these two. Their similarity of classes (taxonomy, WordNet), which they leave out where there
    is none, is not here. They fit to held-out examples; here they are RoIs that the classifier was trained with.

    Args:
        num_classes: C.
        feature_dim: d.
        counts: n, C training instances.
        shortlist: k.
        tau: strength of the logit adjustment before.
        offset_penalty: factor of the sum of squares of a.
        rival_penalty: the same of theta.
        rare: share of the weight that is by rarity.

    Example:
        >>> classifier = RepairClassifier(num_classes=3, feature_dim=2, counts=[100, 10, 1], shortlist=2)
        >>> logits = torch.tensor([[2.0, 1.0, 0.0, 0.0]])
        >>> classifier.scores(logits)
        tensor([[0.6103, 0.2245, 0.0826, 0.0826]])
        >>> _ = classifier.offsets.copy_(torch.tensor([0.0, 1.0, 0.0]))
        >>> classifier.scores(logits)  # of the best two; the sum is as before
        tensor([[0.4174, 0.4174, 0.0826, 0.0826]])
    """

    offsets: Tensor
    theta: Tensor
    count_vector: Tensor

    needs_fit: ClassVar[bool] = True

    MOST = 200_000
    """RoIs of a fit at most, drawn at random."""

    def __init__(
        self,
        num_classes: int,
        feature_dim: int,
        counts: Sequence[int],
        shortlist: int = 10,
        tau: float = 0.0,
        offset_penalty: float = 1e-3,
        rival_penalty: float = 1e-3,
        rare: float = 0.3,
    ) -> None:
        super().__init__(num_classes, feature_dim)
        if len(counts) != num_classes or shortlist < 2:
            raise ValueError(f"expected {num_classes} counts and shortlist >= 2, got {len(counts)} and {shortlist}")
        self.counts, self.shortlist, self.tau = [int(count) for count in counts], shortlist, tau
        self.offset_penalty, self.rival_penalty, self.rare = offset_penalty, rival_penalty, rare
        self.register_buffer("offsets", torch.zeros(num_classes))
        self.register_buffer("theta", torch.zeros(3))  # of logit, rank, log count
        self.register_buffer("count_vector", torch.tensor(self.counts, dtype=torch.float), persistent=False)

    @classmethod
    def arguments_from(cls, categories: CategoryTable, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return ``counts``, the training instances of each class."""
        return {"counts": categories.instance_counts.tolist()}

    def _shortlisted(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return of (N, C + 1) logits the (N, k) labels and logits of the best k classes."""
        found = logits[:, :-1].topk(min(self.shortlist, self.num_classes), dim=1)
        prior = self.count_vector.clamp(min=1).to(logits)
        return found.indices, found.values + self.tau * (prior.sum() / prior).log()[found.indices]

    def _over_rivals(self, labels: Tensor, logits: Tensor) -> Tensor:
        """Return the (N, k, 3) mean differences of each class of a shortlist to its rivals: logit, rank, log count."""
        worse = logits.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
        counts = (self.count_vector.to(logits) + 1).log()[labels]
        own = torch.stack([logits, -worse.to(logits), counts], dim=2)
        rivals = max(logits.shape[1] - 1, 1)
        return (own - own.mean(dim=1, keepdim=True)) * (logits.shape[1] / rivals)

    @torch.no_grad()
    def fit(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Fit offsets and theta to the foreground RoIs of batches of (features, labels), in one pass over them."""
        generator = torch.Generator().manual_seed(0)
        parts: list[tuple[Tensor, ...]] = []
        for features, labels in _pieces(batches):
            own = labels < self.num_classes
            found, logits = self._shortlisted(self(features[own]).double())
            at = found == labels[own][:, None]
            covered = at.any(dim=1)
            columns = (found, logits, at.int().argmax(dim=1))
            kept = [column[covered].cpu() for column in columns]
            parts.append((*kept, torch.rand(len(kept[0]), generator=generator)))
            if sum(len(part[0]) for part in parts) > 2 * self.MOST:
                parts = [self._drawn(parts)]
        if not parts:
            return
        found, logits, at, _ = self._drawn(parts)
        if len(found):
            offsets, theta = self._solved(found, logits, at)
            self.offsets.copy_(offsets)
            self.theta.copy_(theta)

    def _drawn(self, parts: list[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """Join parts and keep at most ``MOST`` RoIs, those with the least random keys (the last column)."""
        joined = [torch.cat(column) for column in zip(*parts, strict=True)]
        least = joined[-1].argsort()[: self.MOST].sort().values
        return tuple(column[least] for column in joined)

    def _solved(self, found: Tensor, logits: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
        """Return the (C,) offsets and (3,) theta of M RoIs by their (M, k) shortlists and the place of their class."""
        rivals = self._over_rivals(found, logits)
        own = found.gather(1, at[:, None])[:, 0]
        rarity = (self.count_vector.cpu().double() + 1).rsqrt()[own]
        weights = (1 - self.rare) / len(own) + self.rare * rarity / rarity.sum()
        penalties = torch.full((self.num_classes + 3,), self.offset_penalty, dtype=torch.float64)
        penalties[self.num_classes :] = self.rival_penalty
        penalties[self.num_classes] /= 2  # as of two equal features that share it

        def objective(values: np.ndarray) -> tuple[float, np.ndarray]:
            with torch.enable_grad():
                both = torch.tensor(values, requires_grad=True)
                scores = logits + both[found] + rivals @ both[self.num_classes :]
                losses = functional.cross_entropy(scores, at, reduction="none")
                total = (weights * losses).sum() + (penalties * both.square()).sum()
                (gradient,) = torch.autograd.grad(total, both)
            return float(total.detach()), gradient.numpy()

        start = np.zeros(self.num_classes + 3)
        best = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 300, "ftol": 1e-11})
        offsets, theta = torch.from_numpy(best.x).tensor_split([self.num_classes])
        return offsets, theta

    def scores(self, logits: Tensor) -> Tensor:
        """Compute (N, C + 1) scores; each row sums to 1."""
        plain = super().scores(logits)
        found, before = self._shortlisted(logits)
        after = before + self.offsets.to(logits)[found] + self._over_rivals(found, before) @ self.theta.to(logits)
        own = plain.gather(1, found).sum(dim=1, keepdim=True)
        return plain.scatter(1, found, own * after.softmax(dim=1))


def _pieces(batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """Cut batches into pieces of at most ``ROWS`` RoIs."""
    for features, labels in batches:
        yield from zip(torch.split(features, ROWS), torch.split(labels, ROWS), strict=True)
