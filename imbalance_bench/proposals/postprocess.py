"""Detections of an image from the scores of its proposals: equal to mmdet's multi-class NMS, but evaluated lazily."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import nms

BoxesOfPairs = Callable[[Tensor, Tensor], Tensor]
"""((K,) proposals, (K,) labels) -> (K, 4) boxes in the original image."""


@dataclass(frozen=True)
class Postprocess:
    """What follows the scores in a detector: the options of ``detect``.

    Attributes:
        score_threshold: of ``detect``.
        iou_threshold: of ``detect``.
        max_per_image: of ``detect``.
        min_size: of ``detect``.
        best_class: of ``detect``.
        power: of a class's score times the quality of the proposal, where proposals have one: 1 (ATSS), or .5, the
            geometric mean (torchvision's FCOS).
        on_logits: quality is added to the logits of the scores instead (D-FINE).
        clips: boxes are clipped to the image after suppression (YOLO), not before; ``ProposalSet.detect`` does it.
    """

    score_threshold: float = 0.0
    iou_threshold: float | None = 0.5
    max_per_image: int = 300
    min_size: float = 0.0
    best_class: bool = False
    power: float = 1.0
    on_logits: bool = False
    clips: bool = False

    def combined(self, scores: Tensor, quality: Tensor) -> Tensor:
        """Return the (P, C + 1) scores of proposals with a (P,) quality; background's stay as they are."""
        of_class, factor = scores[:, :-1], quality[:, None]
        found = (of_class.logit() + factor).sigmoid() if self.on_logits else (of_class * factor) ** self.power
        return torch.cat([found, scores[:, -1:]], dim=1)

    def __call__(self, scores: Tensor, boxes: Tensor | BoxesOfPairs) -> tuple[Tensor, Tensor, Tensor]:
        """Return (D, 4) boxes, (D,) scores and (D,) labels of an image, as ``detect`` does."""
        return detect(
            scores,
            boxes,
            score_threshold=self.score_threshold,
            iou_threshold=self.iou_threshold,
            max_per_image=self.max_per_image,
            min_size=self.min_size,
            best_class=self.best_class,
        )


DEFAULT = Postprocess()
"""The paper's protocol: all scores, 300 detections an image."""


def detect(
    scores: Tensor,
    boxes: Tensor | BoxesOfPairs,
    *,
    score_threshold: float = 0.0,
    iou_threshold: float | None = 0.5,
    max_per_image: int = 300,
    min_size: float = 0.0,
    best_class: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Apply class-wise NMS to all (proposal, class) pairs, and keep the best ``max_per_image`` detections.

    NMS removes a box only for one with a higher score in its class, so the result for the best k pairs is a prefix
    of the result for all: take the top k, suppress, and double k until ``max_per_image`` survive. Among equal
    scores the lower proposal, then the lower class, comes first.

    Args:
        scores: (P, C + 1), background last.
        boxes: (P, 4) xyxy, one box a proposal; or class-specific, a function that returns the boxes of pairs: only
            pairs that can still become detections are decoded.
        score_threshold: pairs at or below it are left out.
        iou_threshold: IoU threshold of NMS; None: nothing is suppressed, as with the queries of a DETR.
        max_per_image: number of detections that are kept (300 on LVIS).
        min_size: pairs whose box has a side below it, in pixels, are left out.
        best_class: of each proposal its best class alone is a candidate, as with a softmax over queries.

    Returns:
        (D, 4) boxes, (D,) scores, (D,) labels, by descending score.

    Raises:
        ValueError: shapes that do not fit, or NaN (or an infinite box) among the values.
    """
    if scores.ndim != 2 or scores.shape[1] < 2:
        raise ValueError(f"scores {tuple(scores.shape)}: expected (P, C + 1)")
    if isinstance(boxes, Tensor) and boxes.shape != (len(scores), 4):
        raise ValueError(f"scores {tuple(scores.shape)}, boxes {tuple(boxes.shape)}: expected (P, C + 1) and (P, 4)")
    if scores.isnan().any():
        raise ValueError("scores hold NaN: the detector or its classifier has diverged")
    num_classes = scores.shape[1] - 1
    foreground = scores[:, :-1]
    if best_class:
        best = foreground.argmax(dim=1, keepdim=True)
        foreground = torch.full_like(foreground, -math.inf).scatter(1, best, foreground.gather(1, best))
    flat = foreground.flatten()
    candidates = int((flat > score_threshold).sum())
    k = 4 * max_per_image
    while True:
        k = min(k, candidates)
        top_scores, top = _best(flat, k)
        proposal, label = top // num_classes, top % num_classes
        decoded = boxes[proposal] if isinstance(boxes, Tensor) else boxes(proposal, label)
        if not decoded.isfinite().all():
            raise ValueError("boxes are not finite: the detector has diverged")
        if min_size > 0:
            large = (decoded[:, 2:] - decoded[:, :2] >= min_size).all(dim=1)
            decoded, top_scores, label = decoded[large], top_scores[large], label[large]
        keep = _suppressed(decoded, top_scores, label, iou_threshold)[:max_per_image]
        if len(keep) == max_per_image or k == candidates:
            return decoded[keep], top_scores[keep], label[keep]
        k *= 2


def _suppressed(boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float | None) -> Tensor:
    """Return the places of the detections that class-wise NMS keeps, by descending score."""
    if iou_threshold is None:
        return torch.arange(len(scores))
    # In double precision the offset that separates the classes does not round the coordinates.
    separated = boxes.double()
    span = separated.max() - separated.min() + 1 if len(separated) else 1.0
    return nms(separated + labels[:, None] * span, scores.double(), iou_threshold)


def _best(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest of (N,) values and their indices; ties by index, which ``topk`` does not guarantee."""
    if k == 0:
        return values[:0], values[:0].long()
    least = values.topk(k).values[-1]
    indices = (values >= least).nonzero()[:, 0]
    best, order = values[indices].sort(descending=True, stable=True)
    return best[:k], indices[order[:k]]
