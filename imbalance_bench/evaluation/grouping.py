"""From a measure of each category to the numbers of a table: a group-wise metric is metric x grouper.

AP and accuracy are computed per category once; bins of training instances, LVIS's r/c/f and background are
groupers over the result.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from imbalance_bench.categories import FREQUENCIES, CategoryTable


def bin_groups(categories: CategoryTable) -> dict[str, np.ndarray]:
    """Labels of each bin of training instances, keys ``1``, ``2``, ...; empty bins included (section 5.1)."""
    return {str(i): np.flatnonzero(categories.bins == i) for i in range(1, categories.num_bins + 1)}


def frequency_groups(categories: CategoryTable) -> dict[str, np.ndarray]:
    """Labels of LVIS's rare, common and frequent categories, keys ``r``, ``c``, ``f``."""
    frequencies = np.array(categories.frequencies)
    return {letter: np.flatnonzero(frequencies == letter) for letter in FREQUENCIES}


def label_groups(categories: CategoryTable) -> dict[str, np.ndarray]:
    """Labels of each bin, and of ``background``."""
    return {**bin_groups(categories), "background": np.array([categories.background])}


def groups_in(table: pd.DataFrame, by: str) -> dict[str, np.ndarray]:
    """Group the labels of a per-category table, background last, by its column ``bin`` or ``frequency``.

    Keys as of ``bin_groups`` and ``frequency_groups``, those that have a category.
    """
    found = {str(key): part.index.to_numpy() for key, part in table.iloc[:-1].groupby(by, sort=False)}
    letters = "".join(FREQUENCIES)
    return {key: found[key] for key in sorted(found, key=letters.find if by == "frequency" else int)}


def grouped(measure: pd.Series, groups: Mapping[str, np.ndarray], weights: pd.Series | None = None) -> dict[str, float]:
    """A measure of each label to one of each group: its mean over the labels that have it, NaN where none has.

    Args:
        measure: index ``label``.
        groups: labels of each.
        weights: of the labels, where the measure is a rate over counts: the mean is then over what is counted.
    """
    means = {}
    for name, labels in groups.items():
        values = measure.reindex(labels).dropna()
        factors = None if weights is None else weights.reindex(values.index)
        if len(values) == 0 or (factors is not None and factors.sum() == 0):
            means[name] = float("nan")
        else:
            means[name] = float(np.average(values, weights=factors))
    return means


def shares(counts: pd.DataFrame, groups: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Counts of kinds in each label to shares of kinds in each group, that sum to 1; NaN where a group has none.

    Args:
        counts: index ``label``, a column a kind.
        groups: labels of each.
    """
    sums = pd.DataFrame({name: counts.loc[labels].sum() for name, labels in groups.items()}).T
    return sums.div(sums.sum(axis=1).replace(0, np.nan), axis=0)
