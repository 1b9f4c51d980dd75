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


def summarize_ap(per_category: pd.DataFrame, categories: CategoryTable) -> dict[str, float]:
    """mAP, AP1.., APr, APc and APf: means over the categories that have validation ground truth.

    Args:
        per_category: index ``label``, column ``ap`` (fractions, NaN without ground truth); background is ignored.
        categories: their bins and frequencies, by *training* counts.

    Returns:
        Each of ``mAP``, ``AP1``.., ``APr``, ``APc``, ``APf`` (NaN where no category counts) and, under
        ``<name>_classes``, the number of categories it rests on.
    """
    parts = {f"AP{key}": labels for key, labels in (bin_groups(categories) | frequency_groups(categories)).items()}
    groups = {"mAP": np.arange(categories.num_classes)} | parts
    summary: dict[str, float] = {}
    for name, value in grouped(per_category["ap"], groups).items():
        summary |= {name: value, f"{name}_classes": int(per_category["ap"].reindex(groups[name]).notna().sum())}
    return summary


def summarize_accuracy(per_label: pd.DataFrame, categories: CategoryTable) -> dict[str, float]:
    """Proposal accuracy by group, of proposals (ACC, the paper's) and of classes (ACCmacro).

    Args:
        per_label: of ``accuracy.ProposalAccuracy``: index ``label`` 0..C, columns ``proposals``, ``accuracy``.
        categories: their bins by training counts.

    Returns:
        ``ACC`` (all proposals, background included), ``ACC1``.., ``ACCbg``: correct / proposals (section 5.2);
        ``ACCmacro``, ``ACCmacro1``..: mean over foreground classes that have a proposal. NaN where there is none.
    """
    bins = bin_groups(categories)
    foreground, background = np.arange(categories.num_classes), np.array([categories.background])
    micro = {"": np.append(foreground, background), **bins, "bg": background}
    accuracy, proposals = per_label["accuracy"], per_label["proposals"]
    by_proposal = grouped(accuracy, micro, proposals)
    by_class = grouped(accuracy, {"": foreground, **bins})
    return {f"ACC{key}": value for key, value in by_proposal.items()} | {
        f"ACCmacro{key}": value for key, value in by_class.items()
    }


def summarize_recall(per_category: pd.DataFrame, categories: CategoryTable) -> dict[str, float]:
    """Proposal recall by bin: ``REC``, ``REC1``..: the share of the bin's validation boxes that a proposal covers.

    Args:
        per_category: index ``label``, columns ``proposal_recall`` and ``val_instances``.
        categories: their bins by training counts.
    """
    groups = {"": np.arange(categories.num_classes), **bin_groups(categories)}
    recalls = grouped(per_category["proposal_recall"], groups, per_category["val_instances"])
    return {f"REC{key}": value for key, value in recalls.items()}
