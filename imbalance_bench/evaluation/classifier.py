"""Everything that is measured of a classifier, from cached validation proposals: one way for every method."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from imbalance_bench.classifiers import Classifier
from imbalance_bench.evaluation.accuracy import proposal_accuracy
from imbalance_bench.evaluation.detection import evaluate
from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.evaluation.ground_truth import GroundTruth
from imbalance_bench.evaluation.grouping import summarize_accuracy, summarize_ap
from imbalance_bench.evaluation.postprocess import BoxesOfPairs, detect
from imbalance_bench.evaluation.unlimited import BestOfEachClass, fixed_ap
from imbalance_bench.progress import Reporter
from imbalance_bench.proposals import ProposalSet

SCORES_AT_ONCE = 1 << 24
"""Bounds memory: 64 MiB of scores."""


def evaluate_classifier(
    classifiers: Sequence[Classifier],
    val: Sequence[ProposalSet],
    truth: GroundTruth,
    *,
    boxes_of_pairs: Callable[[int], BoxesOfPairs] | None = None,
    fixed: bool = True,
    device: str = "cpu",
    reporter: Reporter | None = None,
) -> tuple[pd.DataFrame, dict[str, Any], Detections]:
    """AP, proposal accuracy and weight norms of a classifier on one detector's validation proposals.

    A cascade averages the raw logits of its stages and scores them once.

    Args:
        classifiers: trained, one a stage.
        val: cached validation proposals with the features that the classifier reads, one a stage.
        truth: the validation annotations.
        boxes_of_pairs: where boxes are class-specific: position of an image -> boxes of its (proposal, class) pairs.
        fixed: also AP_fixed and AP_pool, which know no limit of detections an image.
        device: where scores are computed.
        reporter: shows progress.

    Returns:
        The per-category table (index ``label``, background last), the metrics by group, and the detections. With
        several stages ``weight_norm`` and ``bias`` are means over them, ``weight_norm_stage1`` ... each one's own.
    """
    classifiers = [classifier.to(device).eval() for classifier in classifiers]
    categories = truth.categories
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    reporter = reporter or Reporter()
    best = BestOfEachClass(categories.num_classes)

    def scored() -> Iterator[tuple[Tensor, Tensor]]:
        last = val[-1]
        with reporter.task("scoring and suppressing", last.num_images) as advance:
            for images, rows, scores in scores_of(classifiers, val, device):
                yield scores, torch.from_numpy(last.labels[rows]).to(device).long()
                scores, boxes = scores.cpu(), last.boxes.tensor([rows])
                if fixed:
                    best.add(scores, rows.start)
                for position in images:
                    own = slice(last.offsets[position] - rows.start, last.offsets[position + 1] - rows.start)
                    found.append(detect(scores[own], boxes_of_pairs(position) if boxes_of_pairs else boxes[own]))
                    advance()

    accuracy = proposal_accuracy(scored(), categories.num_classes)
    detections = Detections.from_images(val[0].image_ids, found)
    with reporter.task("average precision", 1) as advance:
        precision = evaluate(detections, truth)
        unlimited = {}
        if fixed:
            ap_fixed, ap_pool = fixed_ap(best.detections(val[-1], boxes_of_pairs), truth)
            precision = precision.assign(ap_fixed=ap_fixed)
            unlimited = {f"{name}_fixed": value for name, value in summarize_ap(
                precision.assign(ap=ap_fixed), categories).items() if not name.endswith("_classes")}  # fmt: skip
            unlimited["AP_pool"] = ap_pool
        advance()
    weights = _weights(classifiers).set_index(accuracy.index)
    table = categories.frame(background=True).join([weights, precision, accuracy])
    metrics = summarize_ap(precision, categories) | unlimited | summarize_accuracy(accuracy, categories)
    return table, metrics, detections


@torch.no_grad()
def scores_of(
    classifiers: Sequence[Classifier], val: Sequence[ProposalSet], device: str = "cpu"
) -> Iterator[tuple[range, slice, Tensor]]:
    """Final scores of all proposals, in parts: (positions of images, their rows, (n, C + 1) scores on the device).

    Args:
        classifiers: on the device, one a stage; a cascade averages their raw logits and scores them once.
        val: cached proposals, one a stage.
        device: where scores are computed.
    """
    last = val[-1]
    for images in _runs_of_images(last, SCORES_AT_ONCE // (classifiers[-1].num_classes + 1)):
        rows = last.rows(images.start, images.stop)
        logits = [classifier(part.batch([rows], device)[0]) for classifier, part in zip(classifiers, val, strict=True)]
        yield images, rows, classifiers[-1].scores(torch.stack(logits).mean(dim=0))


def _runs_of_images(proposals: ProposalSet, most: int) -> Iterator[range]:
    """Images in order, in runs of at most so many proposals (or of one image)."""
    start = 0
    while start < proposals.num_images:
        stop = int(np.searchsorted(proposals.offsets, proposals.offsets[start] + most, side="right")) - 1
        yield range(start, max(stop, start + 1))
        start = max(stop, start + 1)


def _weights(classifiers: Sequence[Classifier]) -> pd.DataFrame:
    norms = torch.stack([classifier.class_weights().norm(dim=1).cpu() for classifier in classifiers])
    biases = torch.stack([classifier.class_biases().cpu() for classifier in classifiers])
    columns = {"weight_norm": norms.mean(dim=0), "bias": biases.mean(dim=0)}
    if len(classifiers) > 1:
        columns |= {f"weight_norm_stage{stage}": norm for stage, norm in enumerate(norms, start=1)}
    return pd.DataFrame({name: column.numpy() for name, column in columns.items()})
