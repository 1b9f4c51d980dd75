"""BAGS' groups before training: how many classes and train instances each has."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from imbalance_bench.bins import bin_index, bin_names
from imbalance_bench.categories import CategoryTable


def design(categories: CategoryTable, edges: Sequence[int]) -> pd.DataFrame:
    """Tabulate the groups, one row each, without empty ones, as in training.

    Returns:
        Index ``group`` 1..; columns ``interval`` (of train instances), ``classes``, ``instances`` (their total),
        ``share`` of all instances, ``fewest``, ``most`` and ``ratio``: of most to fewest instances, a class without
        any counted as one: what the softmax within the group still has to bear.
    """
    counts = pd.Series(categories.instance_counts)
    by_group = counts.groupby(bin_index(categories.instance_counts, edges)).agg(["size", "sum", "min", "max"])
    frame = by_group.set_axis(["classes", "instances", "fewest", "most"], axis=1)
    names = bin_names(edges)
    frame.insert(0, "interval", [names[number - 1] for number in frame.index])
    frame.insert(3, "share", frame["instances"] / max(int(counts.sum()), 1))
    frame = frame.assign(ratio=frame["most"].clip(lower=1) / frame["fewest"].clip(lower=1))
    return frame.set_axis(pd.RangeIndex(1, len(frame) + 1, name="group"))
