"""The layout of groups, by hand."""

import numpy as np

from imbalance_bench.categories import CategoryTable
from imbalance_bench.methods.group_design import design


def test_design() -> None:
    counts = np.array([0, 4, 9, 300, 500])
    categories = CategoryTable(np.arange(1, 6), tuple("abcde"), counts, counts, tuple("rrrcf"), (10, 100))
    frame = design(categories, (5, 50, 100))
    assert frame["interval"].tolist() == ["[0,5)", "[5,50)", "[100,inf)"], "an empty group is left out"
    assert frame.index.tolist() == [1, 2, 3]
    assert frame[["classes", "instances", "fewest", "most"]].to_numpy().tolist() == [
        [2, 4, 0, 4], [1, 9, 9, 9], [2, 800, 300, 500],
    ]  # fmt: skip
    assert frame["ratio"].tolist() == [4, 1, 500 / 300]
    assert frame["share"].tolist() == [4 / 813, 9 / 813, 800 / 813]
