"""The detections that AP_fixed needs: the best of each class over a whole set, from the scores of its proposals."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import nms

from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.proposals.proposal_set import ProposalSet

PER_CLASS = 10_000
"""Number of detections of a class that are kept over the set."""
BEFORE_NMS = 2 * PER_CLASS
"""Number of proposals of a class that enter NMS; the result is exact where NMS keeps at least half of them."""


class BestOfEachClass:
    """The best proposals of each class over a set, whose scores are added in parts.

    Args:
        num_classes: C.
        limit: number of proposals kept for each class.
    """

    def __init__(self, num_classes: int, limit: int = BEFORE_NMS) -> None:
        self.limit = limit
        self._scores = torch.empty((num_classes, 0))
        self._rows = torch.empty((num_classes, 0), dtype=torch.long)

    def add(self, scores: Tensor, first: int) -> None:
        """Add the (n, C + 1) scores of the proposals from row ``first`` on."""
        foreground = scores[:, :-1].T.float().cpu()
        rows = torch.arange(first, first + len(scores)).expand_as(foreground)
        self._scores, self._rows = torch.cat([self._scores, foreground], 1), torch.cat([self._rows, rows], 1)
        if self._scores.shape[1] > self.limit:
            self._scores, best = self._scores.topk(self.limit, dim=1)
            self._rows = self._rows.gather(1, best)

    def detections(self, val: ProposalSet) -> Detections:
        """Apply class-wise NMS in each image, then keep the best ``PER_CLASS`` detections of each class.

        Args:
            val: the proposals that were added; NMS is that of their detector.
        """
        labels = torch.arange(len(self._rows))[:, None].expand_as(self._rows).flatten().numpy()
        rows, scores = self._rows.flatten().numpy(), self._scores.flatten().numpy()
        positive = scores > 0
        labels, rows, scores = labels[positive], rows[positive], scores[positive]
        images = np.searchsorted(val.offsets, rows, side="right") - 1
        order = np.lexsort((-scores, labels, images))
        labels, rows, scores, images = labels[order], rows[order], scores[order], images[order]
        kept, boxes = [], []
        bounds = np.searchsorted(images, np.arange(val.num_images + 1))
        for position, (start, stop) in enumerate(pairwise(bounds.tolist())):
            if start == stop:
                continue
            own = torch.from_numpy(rows[start:stop] - val.offsets[position])
            boxes_of = val.boxes_of(position)
            pairs = own, torch.from_numpy(labels[start:stop])
            found = boxes_of[own] if isinstance(boxes_of, Tensor) else boxes_of(*pairs)
            keep = _class_wise_nms(found, scores[start:stop], labels[start:stop], val.postprocess.iou_threshold)
            kept.append(start + keep)
            boxes.append(found[keep].numpy())
        chosen = np.concatenate(kept) if kept else np.zeros(0, dtype=np.int64)
        corners = np.concatenate(boxes) if boxes else np.zeros((0, 4), dtype=np.float32)
        # Keep the best of each class over all images.
        by_class = np.lexsort((-scores[chosen], labels[chosen]))
        starts = np.searchsorted(labels[chosen][by_class], labels[chosen][by_class])
        within = np.sort(by_class[np.arange(len(by_class)) - starts < PER_CLASS])
        chosen, corners = chosen[within], corners[within]
        return Detections(val.image_ids[images[chosen]], labels[chosen], corners, scores[chosen])


def _class_wise_nms(boxes: Tensor, scores: np.ndarray, labels: np.ndarray, iou_threshold: float | None) -> np.ndarray:
    """Return the positions that NMS keeps, all of them without one; candidates are sorted by label, one block each."""
    if iou_threshold is None:
        return np.arange(len(scores))
    bounds = np.flatnonzero(np.diff(labels, prepend=-1, append=labels[-1] + 1))
    values, corners = torch.from_numpy(scores).double(), boxes.double()
    left = [
        start + nms(corners[start:stop], values[start:stop], iou_threshold).numpy()
        for start, stop in pairwise(bounds.tolist())
    ]
    return np.sort(np.concatenate(left))
