"""Two ways of doing the same thing, timed in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch


def in_turns(ours: Callable[[], object], theirs: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Median seconds of each; in turns, so that what else the machine does falls on both. The first turn warms up."""
    spent: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats + 1):
        for function, seconds in zip((ours, theirs), spent, strict=True):
            _finish()
            start = time.perf_counter()
            function()
            _finish()
            seconds.append(time.perf_counter() - start)
    return statistics.median(spent[0][1:]), statistics.median(spent[1][1:])


def _finish() -> None:
    """What has been sent to a GPU."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
