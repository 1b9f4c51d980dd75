"""One seed for every epoch of every run."""

from __future__ import annotations


def epoch_seed(seed: int, epoch: int) -> int:
    """Seed of one epoch, so that a resumed run draws what an uninterrupted one would have drawn; below 2^32."""
    return (seed * 1_000_003 + epoch * 7_919 + 1) % (1 << 32)
