"""One seed for every epoch of every run."""

from __future__ import annotations


def epoch_seed(seed: int, epoch: int, rank: int = 0) -> int:
    """Return the seed of one epoch (below 2^32), so that a resumed run draws what an uninterrupted one would.

    Args:
        seed: of the run.
        epoch: counted from 0.
        rank: of the process, where several draw side by side.
    """
    return (seed * 1_000_003 + epoch * 7_919 + rank * 104_729 + 1) % (1 << 32)
