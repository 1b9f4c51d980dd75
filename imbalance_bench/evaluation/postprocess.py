"""Detections of an image from the scores of its proposals: equal to mmdet's multi-class NMS, but evaluated lazily."""

from __future__ import annotations

from torch import Tensor
from torchvision.ops import nms

from imbalance_bench.proposals.proposal_set import BoxesOfPairs


def detect(
    scores: Tensor,
    boxes: Tensor | BoxesOfPairs,
    *,
    score_threshold: float = 0.0,
    iou_threshold: float = 0.5,
    max_per_image: int = 300,
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
        iou_threshold: IoU threshold of NMS.
        max_per_image: number of detections that are kept (300 on LVIS).

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
    flat = scores[:, :-1].flatten()
    candidates = int((flat > score_threshold).sum())
    k = 4 * max_per_image
    while True:
        k = min(k, candidates)
        top_scores, top = _best(flat, k)
        proposal, label = top // num_classes, top % num_classes
        decoded = boxes[proposal] if isinstance(boxes, Tensor) else boxes(proposal, label)
        if not decoded.isfinite().all():
            raise ValueError("boxes are not finite: the detector has diverged")
        # In double precision the offset that separates the classes does not round the coordinates.
        separated = decoded.double()
        span = separated.max() - separated.min() + 1 if k else 1.0
        keep = nms(separated + label[:, None] * span, top_scores.double(), iou_threshold)[:max_per_image]
        if len(keep) == max_per_image or k == candidates:
            return decoded[keep], top_scores[keep], label[keep]
        k *= 2


def _best(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest of (N,) values and their indices; ties by index, which ``topk`` does not guarantee."""
    if k == 0:
        return values[:0], values[:0].long()
    least = values.topk(k).values[-1]
    indices = (values >= least).nonzero()[:, 0]
    best, order = values[indices].sort(descending=True, stable=True)
    return best[:k], indices[order[:k]]
