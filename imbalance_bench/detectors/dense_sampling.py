"""Which proposals of a dense head are looked at: a picture has thousands of them, nearly all without a box."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from imbalance_bench.runtime.seeds import epoch_seed

POSITIVE, HARD, EASY = 256, 128, 128
"""Proposals of an image that are kept, at most: those that have a box, at random; those without one that the model
scores best; and others without one, at random."""
TRAINING_ROWS = POSITIVE + HARD + EASY
KEPT = 500
"""Proposals of an image that are kept for measuring, at least: the model's own candidates, then the best scored."""


def sampled(matched: Tensor, best: Tensor, seed: int, image_id: int) -> Tensor:
    """Return the proposals of an image that are trained on, in ascending order.

    Args:
        matched: (n,) box, or class, of each; -1: none, less: not trained on.
        best: (n,) best score of each.
        seed: of a training.
        image_id: which proposals are drawn depends on seed and image alone.
    """
    generator = torch.Generator().manual_seed(epoch_seed(seed, image_id))
    positive = (matched >= 0).nonzero()[:, 0]
    positive = positive[torch.randperm(len(positive), generator=generator)[:POSITIVE]]
    negative = (matched == -1).nonzero()[:, 0]
    order = best[negative].argsort(descending=True, stable=True)
    hard, rest = negative[order[:HARD]], negative[order[HARD:]]
    easy = rest[torch.randperm(len(rest), generator=generator)[:EASY]]
    return torch.cat([positive, hard, easy]).sort().values


def background_unless(matched: Tensor, labels: Tensor, background: int) -> Tensor:
    """Return the (n,) labels of proposals from the (n,) boxes that they have, and the (G,) labels of boxes."""
    found = torch.full((len(matched),), background)
    found[matched >= 0] = labels[matched[matched >= 0]]
    return found


def candidates(scores: Tensor, best: Tensor, sizes: Sequence[int], threshold: float, most: int) -> Tensor:
    """Return the proposals of an image that a model itself suppresses among, and the best scored up to ``KEPT``.

    Args:
        scores: (n, C), by which the model chooses pairs of a proposal and a class.
        best: (n,) best score of each, as the model makes detections of it.
        sizes: proposals of each level.
        threshold: pairs above it are chosen.
        most: pairs of a level that are chosen, at most.

    Returns:
        Their numbers, in ascending order.
    """
    kept = torch.zeros(len(scores), dtype=torch.bool, device=scores.device)
    start = 0
    for level in scores.split(list(sizes)):
        flat = level.flatten()
        pairs = flat.topk(min(most, len(flat)))
        kept[start + pairs.indices[pairs.values > threshold] // scores.shape[1]] = True
        start += len(level)
    chosen = best.topk(min(KEPT, len(best))).indices
    more = chosen[~kept[chosen]][: max(0, KEPT - int(kept.sum()))]
    kept[more] = True
    return kept.nonzero()[:, 0]
