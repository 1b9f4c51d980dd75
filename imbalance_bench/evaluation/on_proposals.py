"""All measures of a classifier, from one pass over cached validation proposals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from imbalance_bench.classifiers import Classifier
from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.evaluation.ground_truth import GroundTruth
from imbalance_bench.evaluation.measures import AP_FIXED, OF_CLASSIFIERS, Evidence, measured
from imbalance_bench.evaluation.postprocess import detect
from imbalance_bench.proposals.store import ProposalSet
from imbalance_bench.runtime.equality import ByValue
from imbalance_bench.runtime.progress import Reporter

SCORES_AT_ONCE = 1 << 24
"""Bounds memory: 64 MiB of scores."""


def evaluate_classifier(
    classifiers: Sequence[Classifier],
    val: Sequence[ProposalSet],
    truth: GroundTruth,
    *,
    fixed: bool = True,
    device: str = "cpu",
    reporter: Reporter | None = None,
) -> tuple[pd.DataFrame, dict[str, Any], Detections]:
    """Compute ``measures.OF_CLASSIFIERS`` on one detector's validation proposals.

    A cascade averages the raw logits of its stages and scores them once.

    Args:
        classifiers: trained classifiers, one per stage.
        val: cached validation proposals with the features that the classifier reads, one set per stage.
        truth: the validation annotations.
        fixed: whether to compute AP_fixed and AP_pool too, which have no limit of detections per image.
        device: where scores are computed.
        reporter: shows progress.

    Returns:
        The per-category table (index ``label``, background last), the metrics by group, and the detections. With
        several stages ``weight_norm`` and ``bias`` are means over the stages; ``weight_norm_stage1`` ... are for one
        stage.
    """
    classifiers = [classifier.to(device).eval() for classifier in classifiers]
    categories, last = truth.categories, val[-1]
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    reporter = reporter or Reporter()
    measures = [measure for measure in OF_CLASSIFIERS if fixed or measure is not AP_FIXED]
    tallies = {tally: tally.make(categories.num_classes) for measure in measures if (tally := measure.tally)}
    with reporter.task("scoring and suppressing", last.num_images) as advance:
        for part in scores_of(classifiers, val, device):
            for tally, counts in tallies.items():
                tally.add(counts, part)
            scores, first = part.scores_on_cpu, part.rows.start
            for position in part.images:
                own = slice(last.offsets[position] - first, last.offsets[position + 1] - first)
                found.append(detect(scores[own], last.boxes_of(position)))
                advance()
    detections = Detections.from_images(val[0].image_ids, found)
    with reporter.task("average precision", 1) as advance:
        evidence = Evidence(truth, detections, classifiers, last, tallies)
        table, metrics = measured(measures, evidence)
        advance()
    return categories.frame(background=True).join(table), metrics, detections


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
    """

    images: range
    rows: slice
    labels: Tensor
    scores: Tensor
    raw_logits: Tensor
    classifier: Classifier

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
    for images in _runs_of_images(last, SCORES_AT_ONCE // (classifiers[-1].num_classes + 1)):
        rows = last.rows(images.start, images.stop)
        logits = [classifier(part.batch([rows], device)[0]) for classifier, part in zip(classifiers, val, strict=True)]
        labels = torch.from_numpy(last.labels[rows]).to(device).long()
        mean = torch.stack(logits).mean(dim=0)
        yield Scored(images, rows, labels, classifiers[-1].scores(mean), mean, classifiers[-1])


def _runs_of_images(proposals: ProposalSet, most: int) -> Iterator[range]:
    """Yield ranges of consecutive images with at most ``most`` proposals each (or with one image)."""
    start = 0
    while start < proposals.num_images:
        stop = int(np.searchsorted(proposals.offsets, proposals.offsets[start] + most, side="right")) - 1
        yield range(start, max(stop, start + 1))
        start = max(stop, start + 1)
