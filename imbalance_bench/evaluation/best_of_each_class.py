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
BOXES_AT_ONCE = 64
"""Boxes of some classes in one call of NMS: its time is that of the call with fewer, and of all pairs with more."""


class BestOfEachClass:
    """The best proposals of each class over a set, whose scores are added in parts.

    Args:
        num_classes: C.
        limit: number of proposals kept for each class.
    """

    def __init__(self, num_classes: int, limit: int = BEFORE_NMS) -> None:
        self.limit = limit
        self._scores = [torch.empty((num_classes, 0))]
        self._rows = [torch.empty((num_classes, 0), dtype=torch.long)]
        self._least = torch.full((num_classes, 1), -torch.inf)

    def add(self, scores: Tensor, first: int) -> None:
        """Add the (n, C + 1) scores of the proposals from row ``first`` on."""
        foreground = scores[:, :-1].T.float().cpu()
        better = int((foreground > self._least).sum(dim=1).max())
        best, rows = foreground.topk(better, dim=1, sorted=False)
        self._scores.append(best)
        self._rows.append(rows + first)
        if sum(part.shape[1] for part in self._scores) > 2 * self.limit:
            self._merge()

    def _merge(self) -> None:
        """Keep the best of what was added, and no others."""
        scores, rows = torch.cat(self._scores, dim=1), torch.cat(self._rows, dim=1)
        if scores.shape[1] > self.limit:
            scores, best = scores.topk(self.limit, dim=1, sorted=False)
            rows, self._least = rows.gather(1, best), scores.amin(dim=1, keepdim=True)
        self._scores, self._rows = [scores], [rows]

    def detections(self, val: ProposalSet) -> Detections:
        """Apply class-wise NMS in each image, then keep the best ``PER_CLASS`` detections of each class.

        Args:
            val: the proposals that were added; NMS is that of their detector.
        """
        self._merge()
        rows_of_class, by_row = self._rows[0].sort(dim=1)  # however they were added
        scores_of_class = self._scores[0].gather(1, by_row)
        positive = scores_of_class > 0
        labels = positive.nonzero()[:, 0].numpy()
        rows, scores = rows_of_class[positive].numpy(), scores_of_class[positive].numpy()
        images = np.searchsorted(val.offsets, rows, side="right") - 1
        order = _stable_order(images)  # within an image by label
        labels, rows, scores, images = labels[order], rows[order], scores[order], images[order]
        kept, boxes = [], []
        bounds = np.searchsorted(images, np.arange(val.num_images + 1))
        for position, (start, stop) in enumerate(pairwise(bounds.tolist())):
            if start == stop:
                continue
            candidates = torch.from_numpy(rows[start:stop] - val.offsets[position])
            boxes_of = val.boxes_of(position)
            pairs = candidates, torch.from_numpy(labels[start:stop])
            found = boxes_of[candidates] if isinstance(boxes_of, Tensor) else boxes_of(*pairs)
            keep = _class_wise_nms(found, scores[start:stop], labels[start:stop], val.postprocess.iou_threshold)
            kept.append(start + keep)
            boxes.append(found[keep].numpy())
        chosen = np.concatenate(kept) if kept else np.zeros(0, dtype=np.int64)
        corners = np.concatenate(boxes) if boxes else np.zeros((0, 4), dtype=np.float32)
        # Keep the best of each class over all images.
        of_class = np.split(_stable_order(labels[chosen]), np.cumsum(np.bincount(labels[chosen]))[:-1])
        within = np.sort(np.concatenate([_best(own, scores[chosen[own]]) for own in of_class]))
        chosen, corners = chosen[within], corners[within]
        return Detections(val.image_ids[images[chosen]], labels[chosen], corners, scores[chosen])


def _stable_order(numbers: np.ndarray) -> np.ndarray:
    """Return the order that sorts non-negative integers; small types are sorted by their digits, ten times as fast."""
    return np.argsort(numbers.astype(np.min_scalar_type(int(numbers.max(initial=0)))), kind="stable")


def _best(rows: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return the rows of the ``PER_CLASS`` best scores."""
    return rows if len(rows) <= PER_CLASS else rows[np.argpartition(-scores, PER_CLASS)[:PER_CLASS]]


def _class_wise_nms(boxes: Tensor, scores: np.ndarray, labels: np.ndarray, iou_threshold: float | None) -> np.ndarray:
    """Return the positions that NMS keeps, all of them without one; candidates are sorted by label.

    Classes with few boxes are suppressed in one call, each class moved to a place of its own.
    """
    if iou_threshold is None:
        return np.arange(len(scores))
    values, corners = torch.from_numpy(scores).double(), boxes.double()
    starts = np.flatnonzero(np.diff(labels, prepend=-1))
    calls = starts[np.diff(starts // BOXES_AT_ONCE, prepend=-1) > 0]
    size = float(corners.max() - corners.min()) + 1
    corners = corners + size * torch.from_numpy(labels)[:, None]
    left = [
        start + nms(corners[start:stop], values[start:stop], iou_threshold).numpy()
        for start, stop in pairwise((*calls.tolist(), len(labels)))
    ]
    return np.sort(np.concatenate(left))
