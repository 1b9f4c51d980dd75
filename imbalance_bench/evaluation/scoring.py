"""Scores of cached proposals, computed in parts of bounded size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from imbalance_bench.classifiers import Classifier
from imbalance_bench.proposals.proposal_set import ProposalSet
from imbalance_bench.runtime.equality import ByValue

SCORES_AT_ONCE, FEATURES_AT_ONCE = 1 << 24, 1 << 28
"""Bound memory: 64 MiB of scores, 1 GiB of features."""


@dataclass(frozen=True, eq=False)
class Scored(ByValue):
    """Proposals of consecutive images, with their scores, on the device.

    Attributes:
        images: positions of the images.
        rows: rows of the proposals among all proposals.
        labels: (n,) 0..C.
        scores: (n, C + 1) final scores, background last.
        raw_logits: (n, K) logits that the scores were computed from; for a cascade the mean over stages.
        classifier: the classifier that computed the scores.
        proposals: the set that the proposals are of.
    """

    images: range
    rows: slice
    labels: Tensor
    scores: Tensor
    raw_logits: Tensor
    classifier: Classifier
    proposals: ProposalSet

    @property
    def combined_on_cpu(self) -> Tensor:
        """The (n, C + 1) scores that detections are made of, on the CPU (``ProposalSet.combined``)."""
        return self.proposals.combined(self.rows, self.scores_on_cpu)

    @cached_property
    def scores_on_cpu(self) -> Tensor:
        """The scores on the CPU, copied once."""
        return self.scores.cpu()

    @cached_property
    def logits(self) -> Tensor:
        """The (n, C + 1) logit of each category, background last; NaN if a category has no logit."""
        return self.classifier.category_logits(self.raw_logits)


@torch.no_grad()
def scores_of(classifiers: Sequence[Classifier], val: Sequence[ProposalSet], device: str = "cpu") -> Iterator[Scored]:
    """Compute the scores of all proposals, and yield them in parts.

    Args:
        classifiers: classifiers on the device, one per stage; a cascade averages their raw logits and scores them once.
        val: cached proposals, one set per stage.
        device: where scores are computed.
    """
    last = val[-1]
    most = min(SCORES_AT_ONCE // (classifiers[-1].num_classes + 1), FEATURES_AT_ONCE // last.width)
    for images in _runs_of_images(last, most):
        rows = last.rows(images.start, images.stop)
        logits = [classifier(part.batch([rows], device)[0]) for classifier, part in zip(classifiers, val, strict=True)]
        labels = torch.from_numpy(last.labels[rows]).to(device).long()
        mean = torch.stack(logits).mean(dim=0)
        yield Scored(images, rows, labels, classifiers[-1].scores(mean), mean, classifiers[-1], last)


def _runs_of_images(proposals: ProposalSet, most: int) -> Iterator[range]:
    """Yield ranges of consecutive images with at most ``most`` proposals each (or with one image)."""
    start = 0
    while start < proposals.num_images:
        stop = int(np.searchsorted(proposals.offsets, proposals.offsets[start] + most, side="right")) - 1
        yield range(start, max(stop, start + 1))
        start = max(stop, start + 1)
