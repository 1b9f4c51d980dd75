"""Bins of classes by train instances: their edges, names and halves."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.json_values import whole

LVIS_BIN_EDGES = (10, 100, 1000)
"""Bins [0,10) [10,100) [100,1000) [1000,inf) of train instances (section 5.1)."""
UNTRAINED = "without training instances"
"""Name of bin 0, the classes without a train instance."""
EXPECTED_EDGES = "expected whole numbers that ascend from 1"


def bin_index(instance_counts: np.ndarray, edges: Sequence[int]) -> np.ndarray:
    """Return the bin 1..len(edges)+1 of each count; an edge is the first count of the upper bin (Eq. 3)."""
    return np.searchsorted(np.asarray(edges), np.asarray(instance_counts), side="right") + 1


def are_bin_edges(edges: Sequence[Any]) -> bool:
    """Tell whether values can be the lower bounds of bins 2, 3, ...: ascending whole numbers, the first at least 1."""
    numbers = [number for edge in edges if (number := whole(edge)) is not None]
    return len(numbers) == len(edges) and all(low < high for low, high in itertools.pairwise([0, *numbers]))


def parse_edges(text: str, separator: str = ",") -> tuple[int, ...]:
    """Read the lower bounds of bins or groups 2, 3, ... from text.

    Args:
        text: whole numbers, such as ``10,100,1000``.
        separator: text between two numbers.

    Raises:
        InputError: not whole numbers that ascend from 1.
    """
    parts = text.split(separator)
    edges = tuple(int(part) for part in parts) if all(re.fullmatch("[0-9]{1,18}", part) for part in parts) else ()
    if not edges or not are_bin_edges(edges):
        example = separator.join(map(str, LVIS_BIN_EDGES))
        raise InputError(f"{EXPECTED_EDGES}, e.g. {example}, got '{text:.60}'")
    return edges


def bin_names(edges: Sequence[int]) -> list[str]:
    """Return the intervals of bins, e.g. ``['[0,10)', '[10,100)', '[100,inf)']``."""
    return [f"[{low},{high})" for low, high in itertools.pairwise(["0", *map(str, edges), "inf"])]


def tail_bins(edges: Sequence[int]) -> list[int]:
    """Return the bins whose classes are *tail* in every report: the lower half; the others are *head*.

    Of four bins, 1 and 2 are tail, as in section 5.1 (fewer than 100 train instances on LVIS). With an odd number of
    bins, the middle one is head: of three, 1 is tail; of five, 1 and 2. A single bin is head.
    """
    return list(range(1, (len(edges) + 1) // 2 + 1))


def choose_bin_edges(counts: np.ndarray, bins: int = 4) -> tuple[int, ...]:
    """Choose edges that split classes into about equal parts by train instances, rounded to one digit if possible.

    Args:
        counts: (C,) train instances, none of them 0.
        bins: largest number of bins; there are fewer if classes have the same counts.
    """
    edges: list[int] = []
    for quantile in np.quantile(counts, np.arange(1, bins) / bins):
        exact = max(1, int(np.ceil(quantile)))
        digit = 10 ** int(np.log10(exact))
        for edge in (round(exact / digit) * digit, exact):
            low = edges[-1] if edges else -1
            if edge > low and ((counts >= max(low, 0)) & (counts < edge)).any() and (counts >= edge).any():
                edges.append(edge)
                break
    return tuple(edges) or (max(1, int(counts.max()) + 1),)


def fitting_edges(counts: np.ndarray) -> tuple[tuple[int, ...], str | None]:
    """Return LVIS's edges where each of their bins has a class, else edges chosen from the counts.

    Args:
        counts: (C,) train instances; classes without one are of no bin.

    Returns:
        The edges, and one line that says that they were chosen; None for LVIS's.
    """
    counts = counts[counts > 0]
    empty = len(LVIS_BIN_EDGES) + 1 - len(np.unique(bin_index(counts, LVIS_BIN_EDGES)))
    if not empty or not len(counts):
        return LVIS_BIN_EDGES, None
    edges = choose_bin_edges(counts)
    return edges, (
        f"with the paper's bins (edges {', '.join(map(str, LVIS_BIN_EDGES))}) {empty} of {len(LVIS_BIN_EDGES) + 1} "
        f"would be empty; chosen from the counts: {', '.join(map(str, edges))}"
    )


def number_of_classes(number: int) -> str:
    """Write how many classes: ``1 class``, ``16 classes``."""
    return f"{number:,} class{'' if number == 1 else 'es'}"
