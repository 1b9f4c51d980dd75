"""Is the classifier the bottleneck? AP where a part of what it has to do is done for it."""

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
from imbalance_bench.evaluation.grouping import summarize_ap
from imbalance_bench.evaluation.on_proposals import scores_of
from imbalance_bench.evaluation.postprocess import detect
from imbalance_bench.proposals.store import ProposalSet


def no_background(scores: Tensor, labels: Tensor) -> Tensor:
    """Proposals that are background score for no class."""
    return scores * (labels < scores.shape[1] - 1)[:, None]


def right_class(scores: Tensor, labels: Tensor) -> Tensor:
    """All that a foreground proposal scores for classes, as one minus background, goes to its own class."""
    background = scores.shape[1] - 1
    foreground = labels < background
    own = torch.zeros_like(scores).scatter_(1, labels[:, None], 1 - scores[:, -1:])
    return torch.where(foreground[:, None], own, scores)


def right_label(scores: Tensor, labels: Tensor) -> Tensor:
    """Both: what remains is what proposals, boxes and the order of scores leave."""
    return no_background(right_class(scores, labels), labels)


@dataclass(frozen=True)
class Oracle:
    """What is done for the classifier.

    Attributes:
        scores: of (P, C + 1) scores and (P,) labels.
        boxes: each foreground proposal has the ground-truth box of its class that it overlaps most.
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
    """AP by bin under each of ``ORACLES``, from one pass over the scores.

    Args:
        classifiers: trained, one a stage.
        val: cached validation proposals, one a stage; their labels are what is known. Where each class has a box
            regressor, the rows with ground-truth boxes are left out.
        truth: the validation annotations, boxes.
        device: where scores are computed.

    Returns:
        Index ``oracle``; columns of ``summarize_ap`` (fractions).
    """
    classifiers = [classifier.to(device).eval() for classifier in classifiers]
    oracles = {name: oracle for name, oracle in ORACLES.items() if not (oracle.boxes and val[-1].boxes_of_pairs)}
    found: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = {name: [] for name in oracles}
    last = val[-1]
    for images, rows, scores in scores_of(classifiers, val, device):
        scores, labels = scores.cpu(), torch.from_numpy(last.labels[rows]).long()
        for position in images:
            own = slice(last.offsets[position] - rows.start, last.offsets[position + 1] - rows.start)
            boxes = last.boxes_of(position)
            for name, oracle in oracles.items():
                known = oracle.scores(scores[own], labels[own])
                placed = boxes
                if oracle.boxes and isinstance(boxes, Tensor):
                    placed = _snapped(boxes, labels[own], truth, last.image_ids[position])
                found[name].append(detect(known, placed))
    tables = {
        name: summarize_ap(evaluate(Detections.from_images(val[0].image_ids, parts), truth), truth.categories)
        for name, parts in found.items()
    }
    return pd.DataFrame(tables).T.rename_axis("oracle")


def _snapped(boxes: Tensor, labels: Tensor, truth: GroundTruth, image_id: int) -> Tensor:
    """(P, 4) boxes, those of foreground proposals in the place of the best box of their class in the image."""
    here = np.flatnonzero(truth.image_ids[truth.images] == image_id)
    if len(here) == 0:
        return boxes
    exact = box_convert(torch.from_numpy(truth.boxes[here]).to(boxes), "xywh", "xyxy")
    of_class = labels[:, None] == torch.from_numpy(truth.labels[here])[None, :]
    overlap, best = box_iou(boxes, exact).masked_fill(~of_class, -1).max(dim=1)
    return torch.where((overlap >= 0)[:, None], exact[best], boxes)
