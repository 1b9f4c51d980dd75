"""Labels of test-time proposals: the matched box at IoU >= .5, and each box's best proposal forced onto it."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import box_iou


def assigned_labels(
    proposals: Tensor, boxes: Tensor, labels: Tensor, background: int, threshold: float = 0.5
) -> Tensor:
    """Return the (P,) labels of proposals, as mmdet's ``MaxIoUAssigner`` gives them with these settings.

    Args:
        proposals: (P, 4) xyxy.
        boxes: (G, 4) xyxy in the same frame.
        labels: (G,) labels of the boxes.
        background: label of a proposal without a box.
        threshold: IoU from which a proposal has the label of the box that it overlaps most; the proposals that overlap
            a box most, from this IoU on, have its label, whatever else they overlap.
    """
    found = torch.full((len(proposals),), background, dtype=torch.long, device=proposals.device)
    if not len(boxes) or not len(proposals):
        return found
    overlaps = box_iou(boxes, proposals)
    best, owner = overlaps.max(dim=0)
    found = torch.where(best >= threshold, labels[owner], found)
    for overlap, label in zip(overlaps, labels, strict=True):
        if overlap.max() >= threshold:
            found[overlap == overlap.max()] = label
    return found
