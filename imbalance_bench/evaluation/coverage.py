"""Boxes that proposals cover: those that could be found if the classifier made no errors."""

from __future__ import annotations

import numpy as np
import torch
from torchvision.ops import box_convert, box_iou

from imbalance_bench.evaluation.ground_truth import GroundTruth
from imbalance_bench.proposals.proposal_set import ProposalSet


def best_overlaps(val: ProposalSet, truth: GroundTruth) -> np.ndarray:
    """Compute the (G,) best IoU of each ground-truth box with the regressed boxes of the proposals in its image.

    If each class has its own box regressor, a ground-truth box is compared with the boxes of its own class.

    Args:
        val: cached validation proposals, of the last stage.
        truth: ground truth of boxes.
    """
    best = np.zeros(len(truth.boxes))
    of_image = np.argsort(truth.images, kind="stable")
    bounds = np.searchsorted(truth.images[of_image], np.arange(len(truth.image_ids) + 1))
    exact = box_convert(torch.from_numpy(truth.boxes), "xywh", "xyxy").float()
    for position, image_id in enumerate(val.image_ids.tolist()):
        place = np.searchsorted(truth.image_ids, image_id)
        here = of_image[bounds[place] : bounds[place + 1]]
        rows = val.rows(position)
        if len(here) == 0 or rows.start == rows.stop:
            continue
        boxes = val.boxes_of(position)
        if isinstance(boxes, torch.Tensor):
            best[here] = box_iou(exact[here], boxes).amax(dim=1)
            continue
        proposals = torch.arange(rows.stop - rows.start)
        for label in np.unique(truth.labels[here]):
            own = here[truth.labels[here] == label]
            best[own] = box_iou(exact[own], boxes(proposals, torch.full_like(proposals, int(label)))).amax(dim=1)
    return best


def proposal_recall(overlaps: np.ndarray, truth: GroundTruth, threshold: float = 0.5) -> np.ndarray:
    """Compute the (C,) share of each category's boxes that proposals cover; NaN without a box that counts.

    Crowd regions and ignored boxes are left out.

    Args:
        overlaps: result of ``best_overlaps``.
        truth: the ground truth that ``overlaps`` was computed with.
        threshold: IoU from which a box is covered.
    """
    counted, width = ~truth.ignored, truth.categories.num_classes
    covered = np.bincount(truth.labels[counted & (overlaps >= threshold)], minlength=width)
    boxes = np.bincount(truth.labels[counted], minlength=width)
    recall: np.ndarray = np.divide(covered, boxes, out=np.full(width, np.nan), where=boxes > 0)
    return recall
