"""From a measure of each category to the numbers of a table: a group-wise metric is metric x grouper.

AP and accuracy are computed per category once; bins of training instances, LVIS's r/c/f and background are
groupers over the result.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from imbalance_bench.categories import CategoryTable


def bin_groups(categories: CategoryTable) -> dict[str, np.ndarray]:
    """Labels of each bin of training instances, keys ``1``, ``2``, ...; empty bins included (section 5.1)."""
    return {str(i): np.flatnonzero(categories.bins == i) for i in range(1, categories.num_bins + 1)}


def frequency_groups(categories: CategoryTable) -> dict[str, np.ndarray]:
    """Labels of LVIS's rare, common and frequent categories, keys ``r``, ``c``, ``f``."""
    frequencies = np.array(categories.frequencies)
    return {letter: np.flatnonzero(frequencies == letter) for letter in "rcf"}


def summarize_ap(per_category: pd.DataFrame, categories: CategoryTable) -> dict[str, float]:
    """mAP, AP1.., APr, APc and APf: means over the categories that have validation ground truth.

    Args:
        per_category: index ``label``, column ``ap`` (fractions, NaN without ground truth); background is ignored.
        categories: their bins and frequencies, by *training* counts.

    Returns:
        Each of ``mAP``, ``AP1``.., ``APr``, ``APc``, ``APf`` (NaN where no category counts) and, under
        ``<name>_classes``, the number of categories it rests on.
    """
    everything = {"mAP": np.arange(categories.num_classes)}
    parts = {f"AP{key}": labels for key, labels in (bin_groups(categories) | frequency_groups(categories)).items()}
    summary: dict[str, float] = {}
    for name, labels in (everything | parts).items():
        values = per_category["ap"].reindex(labels).dropna()
        summary[name] = float(values.mean())
        summary[f"{name}_classes"] = len(values)
    return summary


def summarize_accuracy(per_label: pd.DataFrame, categories: CategoryTable) -> dict[str, float]:
    """Proposal accuracy by group, of proposals (ACC, the paper's) and of classes (ACCmacro).

    Args:
        per_label: of ``accuracy.proposal_accuracy``: index ``label`` 0..C, columns ``proposals``, ``correct``.
        categories: their bins by training counts.

    Returns:
        ``ACC`` (all proposals, background included), ``ACC1``.., ``ACCbg``: correct / proposals (section 5.2);
        ``ACCmacro``, ``ACCmacro1``..: mean over foreground classes that have a proposal. NaN where there is none.
    """
    bins = bin_groups(categories)
    foreground, background = np.arange(categories.num_classes), np.array([categories.background])
    micro = {"": np.append(foreground, background), **bins, "bg": background}
    macro = {"": foreground, **bins}
    per_label = per_label.assign(accuracy=per_label["correct"] / per_label["proposals"])
    summary = {}
    for key, labels in micro.items():
        correct, proposals = per_label.loc[labels, ["correct", "proposals"]].sum()
        summary[f"ACC{key}"] = float(correct / proposals) if proposals else float("nan")
    for key, labels in macro.items():
        summary[f"ACCmacro{key}"] = float(per_label.loc[labels, "accuracy"].mean())
    return summary


def ap_interval(
    values: pd.Series | np.ndarray, *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean AP, its categories resampled.

    AP1 of LVIS v0.5 rests on 67 categories and 173 boxes: this says how much of it is chance of the categories
    (not of training, which takes several seeds).

    Args:
        values: APs of a group's categories; NaN (no ground truth) are left out.
        level: of confidence.
        resamples: drawn.
        seed: of the generator.

    Returns:
        (low, high); NaN without a value.
    """
    present = np.asarray(values, dtype=np.float64)
    present = present[~np.isnan(present)]
    if len(present) == 0:
        return float("nan"), float("nan")
    draws = np.random.default_rng(seed).integers(len(present), size=(resamples, len(present)))
    low, high = np.quantile(present[draws].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
