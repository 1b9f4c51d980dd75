"""The groups of BAGS: bins of train instances (section 4.1), with chosen edges, the paper's edges, or balanced ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from imbalance_bench.bins import bin_index, tail_bins


def group_edges(bin_edges: Sequence[int], groups: int) -> tuple[int, ...]:
    """Return the lower bounds of groups 2, 3, ... for N groups of a data set's classes (section 4.1, Table 4).

    With as many groups as bins, the groups are the bins. 2 groups are tail and head (``categories.tail_bins``). With 8
    groups, each of four bins is cut in two: at half of its upper edge, and the last bin at five times its lower edge.
    The edges on LVIS are 5, 10, 50, 100, 500, 1000, 5000.

    Raises:
        ValueError: any other N.
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
    """Return the group 1..N of each class by train instances (Eq. 3); empty groups are removed from the numbering."""
    groups = bin_index(np.asarray(instance_counts), edges)
    used = sorted(set(groups.tolist()))
    return [used.index(group) + 1 for group in groups.tolist()]


def balanced_edges(instance_counts: Sequence[int] | np.ndarray, groups: int) -> tuple[int, ...]:
    """Return the edges of N groups whose largest total of train instances is as small as possible.

    Classes are sorted by their counts, and classes with equal counts stay in one group. The result is exact, by dynamic
    programming over the distinct counts. The paper chose its edges by hand, so that the classes of a group have similar
    counts (section 4.1); here the groups have similar totals of instances.

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
