"""Groups of BAGS against every partition, and by hand."""

import itertools

import numpy as np
import pytest

from imbalance_bench.categories import CategoryTable
from imbalance_bench.classifiers import balanced_edges, group_edges, groups_by_count


@pytest.mark.parametrize("seed", range(20))
def test_balanced_groups_are_the_best_of_all(seed: int) -> None:
    generator = np.random.default_rng(seed)
    counts = generator.integers(0, 40, 9) ** 2
    distinct = np.unique(counts)
    number = int(generator.integers(1, min(5, len(distinct)) + 1))

    def largest(edges: tuple[int, ...]) -> int:
        groups = np.searchsorted(edges, counts, side="right")
        return max(int(counts[groups == group].sum()) for group in range(len(edges) + 1))

    best = min(largest(edges) for edges in itertools.combinations(distinct[1:].tolist(), number - 1))
    edges = balanced_edges(counts, number)
    assert len(edges) == number - 1
    assert largest(edges) == best
    assert len(set(groups_by_count(counts, edges))) == number, "no group is empty"


def test_balanced_by_hand() -> None:
    assert balanced_edges([1, 1, 2, 4, 4, 8, 20], 2) == (20,)
    assert balanced_edges([1, 1, 2, 4, 4, 8, 20], 3) == (8, 20)
    assert balanced_edges([5, 5, 5], 1) == ()
    with pytest.raises(ValueError, match="expected 1 to 1 groups"):
        balanced_edges([5, 5, 5], 2)


def test_two_groups_are_tail_and_head_of_any_bins() -> None:
    counts = np.array([3, 7, 50, 500, 5000])
    for edges in ((10,), (10, 100), (10, 100, 1000), (5, 10, 100, 1000)):
        table = CategoryTable(np.arange(5), tuple("abcde"), counts, counts, ("f",) * 5, edges)
        groups = np.array(groups_by_count(counts, group_edges(edges, 2)))
        assert np.flatnonzero(groups == 1).tolist() == table.tail_labels
    assert group_edges((10, 100, 1000), 8) == (5, 10, 50, 100, 500, 1000, 5000)
    for edges, number in (((), 2), ((10, 100), 8), ((10, 100, 1000), 3)):
        with pytest.raises(ValueError, match="expected as many groups as bins"):
            group_edges(edges, number)
