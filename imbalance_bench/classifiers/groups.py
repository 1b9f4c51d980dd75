"""Which classes share a group of BAGS: bins of train instances (section 4.1), by hand, the paper's, or balanced."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from imbalance_bench.categories import bin_index, tail_bins


def group_edges(bin_edges: Sequence[int], groups: int) -> tuple[int, ...]:
    """Lower bounds of groups 2, 3, ... for N groups of a data set's classes (section 4.1, Table 4).

    As many groups as bins are the bins; 2 groups are tail and head (``categories.tail_bins``). Of four bins, 8 groups
    cut each bin in two, at half its upper edge and at five times the last: on LVIS 5, 10, 50, 100, 500, 1000, 5000.

    Raises:
        ValueError: another N.
    """
    if groups == len(bin_edges) + 1:
        return tuple(bin_edges)
    if groups == 2 and bin_edges:
        return (bin_edges[tail_bins(bin_edges)[-1] - 1],)
    if len(bin_edges) != 3 or groups != 8:
        raise ValueError(f"expected as many groups as bins ({len(bin_edges) + 1}), 2, or 8 for 4 bins, got {groups}")
    halves = [edge // 2 for edge in bin_edges]
    return (*(edge for pair in zip(halves, bin_edges, strict=True) for edge in pair), 5 * bin_edges[-1])


def groups_by_count(instance_counts: Sequence[int] | np.ndarray, edges: Sequence[int]) -> list[int]:
    """Group 1..N of each class by train instances (Eq. 3); groups without a class are closed up."""
    groups = bin_index(np.asarray(instance_counts), edges)
    used = sorted(set(groups.tolist()))
    return [used.index(group) + 1 for group in groups.tolist()]


def balanced_edges(instance_counts: Sequence[int] | np.ndarray, groups: int) -> tuple[int, ...]:
    """Edges of N groups whose largest total of train instances is as small as it can be.

    Classes are taken in order of their counts, and those of equal counts stay together. Exact, by dynamic programming
    over the distinct counts. The paper chose its edges by hand, so that the classes of a group differ little (section
    4.1); here the groups see as many instances, whatever the classes within.

    Raises:
        ValueError: more groups than distinct counts, or fewer than one.
    """
    counts, classes = np.unique(np.asarray(instance_counts), return_counts=True)
    if not 1 <= groups <= len(counts):
        raise ValueError(f"expected 1 to {len(counts)} groups, as many as distinct counts, got {groups}")
    total = np.concatenate([[0], np.cumsum(counts * classes)])
    # best[j]: least largest total of the first j distinct counts in so many groups.
    best = np.where(np.arange(len(total)) > 0, total, np.inf)
    cuts = []
    for _ in range(groups - 1):
        worst = np.maximum(best[:, None], total[None, :] - total[:, None])
        worst[np.tri(len(total), dtype=bool)] = np.inf  # the last group holds one count at least
        cuts.append(worst.argmin(axis=0))
        best = worst.min(axis=0)
    end, edges = len(counts), []
    for cut in reversed(cuts):
        end = int(cut[end])
        edges.append(int(counts[end]))
    return tuple(reversed(edges))
