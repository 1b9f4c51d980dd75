"""Everything that is measured of a classifier, from cached validation proposals: one way for every method."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
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
    found: list[tuple[int, Tensor, Tensor, Tensor]] = []
    reporter = reporter or Reporter()

    def scored() -> Iterator[tuple[Tensor, Tensor]]:
        with reporter.task("scoring and suppressing", val.num_images) as advance, torch.no_grad():
            for image_id, features, labels, boxes in val.images(device):
                scores = classifier.scores(classifier(features))
                found.append((image_id, *detect(scores.cpu(), boxes)))
                yield scores, labels
                advance()

    accuracy = proposal_accuracy(scored(), categories.num_classes)
    detections = Detections(
        image_ids=np.concatenate([np.full(len(boxes), image_id) for image_id, boxes, _, _ in found]),
        labels=torch.cat([labels for _, _, _, labels in found]).numpy(),
        boxes=torch.cat([boxes for _, boxes, _, _ in found]).numpy(),
        scores=torch.cat([scores for _, _, scores, _ in found]).numpy(),
    )
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
    background = pd.DataFrame(
        {"id": 0, "name": "background", "image_count": 0, "instance_count": 0, "frequency": "", "bin": 0},
        index=[categories.background],
    )
    table = pd.concat([categories.frame(), background]).rename_axis("label").join([weights, precision, accuracy])
    metrics = summarize_ap(precision, categories) | summarize_accuracy(accuracy, categories)
    return table, metrics, detections
