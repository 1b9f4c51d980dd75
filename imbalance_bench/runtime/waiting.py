"""Many small files in a few threads, which wait for the disk more than they compute."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from imbalance_bench.runtime.progress import Advance

T = TypeVar("T")
U = TypeVar("U")

THREADS = 8
_AT_ONCE = 256


def in_threads(function: Callable[[T], U], items: Sequence[T], advance: Advance | None = None) -> list[U]:
    """Apply a function to many items in a few threads; the results are in the order of the items.

    Args:
        function: what reads a file.
        items: paths, or whatever the function takes.
        advance: function called with the number of items done since the last call.
    """

    def some(part: Sequence[T]) -> list[U]:
        return [function(item) for item in part]

    results: list[U] = []
    with ThreadPoolExecutor(THREADS) as pool:
        for part in pool.map(some, (items[start : start + _AT_ONCE] for start in range(0, len(items), _AT_ONCE))):
            results += part
            if advance is not None:
                advance(len(part))
    return results
