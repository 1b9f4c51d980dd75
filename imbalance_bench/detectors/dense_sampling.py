"""Which proposals of a dense head a training looks at: a picture has thousands of them, nearly all without a box."""

from __future__ import annotations

import torch
from torch import Tensor

from imbalance_bench.runtime.seeds import epoch_seed

POSITIVE, HARD, EASY = 256, 128, 128
"""Proposals of an image that are kept, at most: those that have a box, at random; those without one that the model
scores best; and others without one, at random."""
TRAINING_ROWS = POSITIVE + HARD + EASY


def sampled(matched: Tensor, best: Tensor, seed: int, image_id: int) -> Tensor:
    """Return the proposals of an image that are trained on, in ascending order.

    Args:
        matched: (n,) box of each; -1: none, less: not trained on.
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
