"""Everything that is measured of a classifier, from cached validation proposals: one way for every method."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from imbalance_bench.categories import CategoryTable
from imbalance_bench.classifiers import Classifier
from imbalance_bench.datasets.registry import DataSet
from imbalance_bench.evaluation.accuracy import proposal_accuracy
from imbalance_bench.evaluation.detection import Detections, evaluate
from imbalance_bench.evaluation.grouping import summarize_accuracy, summarize_ap
from imbalance_bench.evaluation.postprocess import detect
from imbalance_bench.progress import Reporter
from imbalance_bench.proposals import ProposalSet


def evaluate_classifier(
    classifier: Classifier,
    val: ProposalSet,
    dataset: DataSet,
    categories: CategoryTable,
    *,
    device: str = "cpu",
    reporter: Reporter | None = None,
) -> tuple[pd.DataFrame, dict[str, Any], Detections]:
    """AP, proposal accuracy and weight norms of a classifier on one detector's validation proposals.

    Args:
        classifier: trained.
        val: cached validation proposals with the features that the classifier reads.
        dataset: for the validation annotations.
        categories: of the training annotations.
        device: where scores are computed.
        reporter: shows progress.

    Returns:
        The per-category table (index ``label``, background last), the metrics by group, and the detections.
    """
    classifier = classifier.to(device).eval()
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    reporter = reporter or Reporter()

    def scored() -> Iterator[tuple[Tensor, Tensor]]:
        with reporter.task("scoring and suppressing", val.num_images) as advance, torch.no_grad():
            for features, labels, boxes in val.images(device):
                scores = classifier.scores(classifier(features))
                found.append(detect(scores.cpu(), boxes))
                yield scores, labels
                advance()

    accuracy = proposal_accuracy(scored(), categories.num_classes)
    detections = Detections.from_images(val.image_ids, found)
    with reporter.task("average precision", 1) as advance:
        precision = evaluate(detections, dataset.val_annotations, categories, lvis_style=dataset.lvis_style)
        advance()
    weights = pd.DataFrame(
        {
            "weight_norm": classifier.class_weights().norm(dim=1).cpu().numpy(),
            "bias": classifier.class_biases().cpu().numpy(),
        },
        index=accuracy.index,
    )
    table = categories.frame(background=True).join([weights, precision, accuracy])
    metrics = summarize_ap(precision, categories) | summarize_accuracy(accuracy, categories)
    return table, metrics, detections
