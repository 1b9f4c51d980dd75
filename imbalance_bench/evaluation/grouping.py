"""Groups of categories and means over them: a group-wise metric is a per-category metric times a grouper.

AP and accuracy are computed once per category. Bins of training instances, LVIS's r/c/f and background are groupers
over the result.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from imbalance_bench.categories import FREQUENCIES, CategoryTable


def bin_groups(categories: CategoryTable) -> dict[str, np.ndarray]:
    """Return the labels of each bin of training instances, keys ``1``, ``2``, ...; also empty bins (section 5.1).

    Key ``0`` is there if classes have no training instance.
    """
    return {str(number): np.flatnonzero(categories.bins == number) for number in categories.bin_numbers}


def frequency_groups(categories: CategoryTable) -> dict[str, np.ndarray]:
    """Return the labels of LVIS's rare, common and frequent categories, keys ``r``, ``c``, ``f``; none of bin 0."""
    frequencies = np.where(categories.bins > 0, categories.frequencies, "")
    return {letter: np.flatnonzero(frequencies == letter) for letter in FREQUENCIES}


def label_groups(categories: CategoryTable) -> dict[str, np.ndarray]:
    """Return the labels of each bin, and of ``background``."""
    return {**bin_groups(categories), "background": np.array([categories.background])}


def groups_in(table: pd.DataFrame, by: str) -> dict[str, np.ndarray]:
    """Group the labels of a per-category table, background last, by its column ``bin`` or ``frequency``.

    Keys are those of ``bin_groups`` or ``frequency_groups``, without empty groups.
    """
    foreground = table.iloc[:-1]
    if by == "frequency":
        foreground = foreground[foreground["bin"] > 0]
    found = {str(key): part.index.to_numpy() for key, part in foreground.groupby(by, sort=False)}
    letters = "".join(FREQUENCIES)
    return {key: found[key] for key in sorted(found, key=letters.find if by == "frequency" else int)}


def grouped(measure: pd.Series, groups: Mapping[str, np.ndarray], weights: pd.Series | None = None) -> dict[str, float]:
    """Compute the mean of a measure over the labels of each group; NaN labels are left out, NaN if none is left.

    Args:
        measure: values with index ``label``.
        groups: labels of each group.
        weights: counts of the labels, if the measure is a rate over counts; the mean is then weighted by them.
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
    """Compute the shares of kinds in each group from counts per label; they sum to 1, NaN if all counts are 0.

    Args:
        counts: index ``label``, one column per kind.
        groups: labels of each group.
    """
    sums = pd.DataFrame({name: counts.loc[labels].sum() for name, labels in groups.items()}).T
    return sums.div(sums.sum(axis=1).replace(0, np.nan), axis=0)
