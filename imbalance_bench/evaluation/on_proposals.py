"""All measures of a classifier, from one pass over cached validation proposals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from torch import Tensor

from imbalance_bench.classifiers import Classifier
from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.evaluation.ground_truth import GroundTruth
from imbalance_bench.evaluation.measures import AP_FIXED, OF_CLASSIFIERS, Evidence, measured
from imbalance_bench.evaluation.scoring import scores_of
from imbalance_bench.proposals.proposal_set import ProposalSet
from imbalance_bench.runtime.progress import Reporter


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
                found.append(last.detect(position, scores[own]))
                advance()
    detections = Detections.from_images(val[0].image_ids, found)
    with reporter.task("average precision", 1) as advance:
        evidence = Evidence(truth, detections, classifiers, last, tallies)
        table, metrics = measured(measures, evidence)
        advance()
    return categories.frame(background=True).join(table), metrics, detections
