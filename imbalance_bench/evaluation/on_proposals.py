"""Everything that is measured of a classifier, from cached validation proposals: one way for every method."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from imbalance_bench.categories import CategoryTable
from imbalance_bench.classifiers import Classifier
from imbalance_bench.evaluation.accuracy import ProposalAccuracy
from imbalance_bench.evaluation.average_precision import evaluate
from imbalance_bench.evaluation.best_of_each_class import BestOfEachClass
from imbalance_bench.evaluation.calibration import calibration_error
from imbalance_bench.evaluation.coverage import best_overlaps, proposal_recall
from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.evaluation.fixed_ap import fixed_ap
from imbalance_bench.evaluation.ground_truth import GroundTruth
from imbalance_bench.evaluation.grouping import bin_groups, summarize_accuracy, summarize_ap, summarize_recall
from imbalance_bench.evaluation.postprocess import detect
from imbalance_bench.proposals.store import ProposalSet
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
    """AP, proposal accuracy and recall, calibration and weight norms, on one detector's validation proposals.

    A cascade averages the raw logits of its stages and scores them once.

    Args:
        classifiers: trained, one a stage.
        val: cached validation proposals with the features that the classifier reads, one a stage.
        truth: the validation annotations.
        fixed: also AP_fixed and AP_pool, which know no limit of detections an image.
        device: where scores are computed.
        reporter: shows progress.

    Returns:
        The per-category table (index ``label``, background last), the metrics by group, and the detections. With
        several stages ``weight_norm`` and ``bias`` are means over them, ``weight_norm_stage1`` ... each one's own.
    """
    classifiers = [classifier.to(device).eval() for classifier in classifiers]
    categories, last = truth.categories, val[-1]
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    reporter = reporter or Reporter()
    accuracy, best = ProposalAccuracy(categories.num_classes), BestOfEachClass(categories.num_classes)
    with reporter.task("scoring and suppressing", last.num_images) as advance:
        for images, rows, scores in scores_of(classifiers, val, device):
            accuracy.add(scores, torch.from_numpy(last.labels[rows]).to(device).long())
            scores = scores.cpu()
            if fixed:
                best.add(scores, rows.start)
            for position in images:
                own = slice(last.offsets[position] - rows.start, last.offsets[position + 1] - rows.start)
                found.append(detect(scores[own], last.boxes_of(position)))
                advance()
    detections = Detections.from_images(val[0].image_ids, found)
    with reporter.task("average precision", 1) as advance:
        precision, unlimited = evaluate(detections, truth), {}
        if fixed:
            precision["ap_fixed"], ap_pool = fixed_ap(best.detections(last), truth)
            summary = summarize_ap(precision.assign(ap=precision["ap_fixed"]), categories)
            unlimited = {f"{name}_fixed": value for name, value in summary.items() if not name.endswith("_classes")}
            unlimited["AP_pool"] = ap_pool
        advance()
    precision["proposal_recall"] = proposal_recall(best_overlaps(last, truth), truth)
    of_labels = accuracy.frame()
    weights = _weights(classifiers).set_index(of_labels.index)
    table = categories.frame(background=True).join([weights, precision, of_labels])
    metrics = {
        **summarize_ap(precision, categories),
        **unlimited,
        **summarize_accuracy(of_labels, categories),
        **summarize_recall(precision, categories),
        **_calibration(accuracy, categories),
    }
    return table, metrics, detections


def _calibration(accuracy: ProposalAccuracy, categories: CategoryTable) -> dict[str, float]:
    """``ECE`` of all foreground predictions, ``ECE1``.. by bin of the predicted class, ``ECEbg``."""
    keys = {"": np.arange(categories.num_classes), **bin_groups(categories), "bg": np.array([categories.background])}
    errors = calibration_error(accuracy.calibration.curve(keys))
    return {f"ECE{key}": float(errors.get(key, float("nan"))) for key in keys}


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
