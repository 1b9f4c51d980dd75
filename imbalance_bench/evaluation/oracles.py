"""Oracles: AP if a part of the classifier's task is solved with the ground truth. Is the classifier the bottleneck?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torchvision.ops import box_convert, box_iou

from imbalance_bench.classifiers import Classifier
from imbalance_bench.evaluation.average_precision import evaluate
from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.evaluation.ground_truth import GroundTruth
from imbalance_bench.evaluation.measures import AP
from imbalance_bench.evaluation.scoring import scores_of
from imbalance_bench.proposals.proposal_set import ProposalSet


def no_background(scores: Tensor, labels: Tensor) -> Tensor:
    """Set the class scores of background proposals to zero."""
    return scores * (labels < scores.shape[1] - 1)[:, None]


def right_class(scores: Tensor, labels: Tensor) -> Tensor:
    """Give the sum of the class scores of a foreground proposal (one minus background) to its own class."""
    background = scores.shape[1] - 1
    foreground = labels < background
    own = torch.zeros_like(scores).scatter_(1, labels[:, None], 1 - scores[:, -1:])
    return torch.where(foreground[:, None], own, scores)


def right_label(scores: Tensor, labels: Tensor) -> Tensor:
    """Apply ``right_class``, then ``no_background``; remaining errors come from proposals, boxes and score order."""
    return no_background(right_class(scores, labels), labels)


@dataclass(frozen=True)
class Oracle:
    """A change to scores and boxes that uses the ground truth.

    Attributes:
        scores: computes new scores from (P, C + 1) scores and (P,) labels.
        boxes: whether each foreground proposal gets the ground-truth box of its class with the highest IoU.
    """

    scores: Callable[[Tensor, Tensor], Tensor] = lambda scores, labels: scores
    boxes: bool = False


ORACLES = {
    "as it is": Oracle(),
    "background known": Oracle(no_background),
    "class known": Oracle(right_class),
    "class and background known": Oracle(right_label),
    "ground-truth boxes": Oracle(boxes=True),
    "all known": Oracle(right_label, boxes=True),
}


def oracle_ap(
    classifiers: Sequence[Classifier],
    val: Sequence[ProposalSet],
    truth: GroundTruth,
    *,
    device: str = "cpu",
) -> pd.DataFrame:
    """Compute AP by bin for each of ``ORACLES``, from one pass over the scores.

    Args:
        classifiers: trained classifiers, one per stage.
        val: cached validation proposals, one set per stage; the oracles use their labels. If each class has its own box
            regressor, the rows with ground-truth boxes are left out.
        truth: the validation annotations of boxes.
        device: where scores are computed.

    Returns:
        Index ``oracle``; columns of ``measures.AP``'s keys (fractions).
    """
    classifiers = [classifier.to(device).eval() for classifier in classifiers]
    oracles = {name: oracle for name, oracle in ORACLES.items() if not (oracle.boxes and val[-1].boxes_of_pairs)}
    found: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = {name: [] for name in oracles}
    last = val[-1]
    for part in scores_of(classifiers, val, device):
        scores, labels, first = part.scores_on_cpu, part.labels.cpu(), part.rows.start
        for position in part.images:
            own = slice(last.offsets[position] - first, last.offsets[position + 1] - first)
            boxes = last.boxes_of(position)
            for name, oracle in oracles.items():
                known = oracle.scores(scores[own], labels[own])
                placed = boxes
                if oracle.boxes and isinstance(boxes, Tensor):
                    placed = _snapped(boxes, labels[own], truth, last.image_ids[position])
                found[name].append(last.detect(position, known, placed))
    tables = {
        name: AP.summary(evaluate(Detections.from_images(val[0].image_ids, parts), truth), truth.categories)
        for name, parts in found.items()
    }
    return pd.DataFrame(tables).T.rename_axis("oracle")


def _snapped(boxes: Tensor, labels: Tensor, truth: GroundTruth, image_id: int) -> Tensor:
    """Replace the (P, 4) boxes of foreground proposals by the ground-truth box of their class with the highest IoU."""
    here = np.flatnonzero(truth.image_ids[truth.images] == image_id)
    if len(here) == 0:
        return boxes
    exact = box_convert(torch.from_numpy(truth.boxes[here]).to(boxes), "xywh", "xyxy")
    of_class = labels[:, None] == torch.from_numpy(truth.labels[here])[None, :]
    overlap, best = box_iou(boxes, exact).masked_fill(~of_class, -1).max(dim=1)
    return torch.where((overlap >= 0)[:, None], exact[best], boxes)
