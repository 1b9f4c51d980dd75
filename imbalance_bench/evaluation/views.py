"""Views of per-category tables: AP and proposal accuracy by bin, for one run or several, and formatting of values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from imbalance_bench.evaluation.bootstrap import interval_over_classes
from imbalance_bench.evaluation.grouping import grouped
from imbalance_bench.evaluation.measures import ACCURACY, AP, Measure, of_column
from imbalance_bench.evaluation.per_category import Source, labels_by, read, side_by_side


def ap_by_bin(source: Source, *, resamples: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Compute AP of each bin, of each frequency and of all, with the number of classes and boxes behind each value.

    Args:
        source: a run's per-category table or its path.
        resamples: draws of the bootstrap over categories; see ``bootstrap.interval_over_classes``.
        seed: seed of the bootstrap.

    Returns:
        Index ``group``: ``mAP``, ``AP1``.., ``APr``, ``APc``, ``APf`` (without empty groups); columns
        ``classes`` (with validation ground truth), ``val_instances``, ``ap``, ``ap50``, ``ap75``, ``recall``
        (means over classes, fractions), ``classes_low`` and ``classes_high`` (95 % interval of ``ap`` over classes).

    Raises:
        InputError: not a per-category table.
    """
    frame, (means,) = read(source), AP.means
    rows = {}
    for name, labels in means.groups_in(frame).items():
        part = frame.loc[labels]
        low, high = interval_over_classes(part["ap"], resamples=resamples, seed=seed)
        counts = {"classes": part["ap"].count(), "val_instances": int(part["val_instances"].sum())}
        averages = part[["ap", "ap50", "ap75", "recall"]].mean()
        rows[name] = {**counts, **averages, "classes_low": low, "classes_high": high}
    columns = pd.DataFrame.from_dict(rows, orient="index").rename_axis("group")
    return columns.astype({"classes": int, "val_instances": int})


def compare_ap(sources: Mapping[str, Source], column: str = "ap") -> pd.DataFrame:
    """Return a column of ``ap_by_bin`` for several runs: one row per run, columns mAP, AP1.., APr, APc, APf."""
    return side_by_side(sources, ap_by_bin, column)


def accuracy_by_bin(source: Source) -> pd.DataFrame:
    """Compute accuracy of all proposals, and of the proposals of each bin and of background.

    Args:
        source: a run's per-category table or its path.

    Returns:
        Index ``group``: ``ACC`` (background included), ``ACC1``.., ``ACCbg``; columns ``classes`` (with a
        proposal), ``proposals``, ``correct``, ``accuracy`` (correct / proposals, as in the paper) and ``macro`` (mean
        over foreground classes; NaN for ``ACCbg``), fractions.

    Raises:
        InputError: not a per-category table.
    """
    frame, (means, _) = read(source), ACCURACY.means
    background = frame.index[-1]
    rows = {}
    for name, labels in means.groups_in(frame).items():
        part = frame.loc[labels]
        members = part.drop(index=background, errors="ignore")
        rows[name] = {
            "classes": int((members["proposals"] > 0).sum()),
            "proposals": int(part["proposals"].sum()),
            "correct": int(part["correct"].sum()),
            "macro": (members["correct"] / members["proposals"]).mean(),
        }
    result = pd.DataFrame.from_dict(rows, orient="index").rename_axis("group")
    result = result.astype({"classes": int, "proposals": int, "correct": int})
    result.insert(3, "accuracy", result["correct"] / result["proposals"])
    return result


def compare_accuracy(sources: Mapping[str, Source], column: str = "accuracy") -> pd.DataFrame:
    """Return a column of ``accuracy_by_bin`` for several runs: one row per run, columns ACC, ACC1.., ACCbg."""
    return side_by_side(sources, accuracy_by_bin, column)


def by_bin(source: Source, *measures: Measure) -> pd.DataFrame:
    """Average the columns of some measures over the categories of each bin; columns that are counts are summed.

    Args:
        source: a run's per-category table or its path.
        measures: measures whose columns are used; columns that the table lacks are left out.

    Returns:
        Index ``bin``: ``all``, 1, 2, ... (those that have a category) and ``background``; the columns of the measures.

    Raises:
        InputError: not a per-category table.
    """
    frame = read(source)
    groups = labels_by(frame, "bin")
    columns: dict[str, Mapping[str, float]] = {}
    for measure in measures:
        for name in frame.columns.intersection(list(measure.columns), sort=False):
            sums = {key: frame.loc[labels, name].sum() for key, labels in groups.items()}
            columns[name] = sums if name in measure.counts else grouped(frame[name], groups)
    return pd.DataFrame(columns).rename_axis("bin")


def cells(frame: pd.DataFrame) -> pd.DataFrame:
    """Format the columns of measures as text, in the unit of each; ``-`` for no value, counts are not changed."""
    shown = {}
    for name in frame:
        measure = of_column(str(name))
        if measure is not None and name not in measure.counts:
            shown[str(name)] = frame[name].map(percent if measure.unit == "percent" else plain)
    return frame.assign(**shown)


def plain(value: float) -> str:
    """Format a number with three decimals; ``-`` for NaN."""
    return "-" if math.isnan(value) else f"{value:.3f}"


def percent(value: Any) -> str:
    """Format a fraction as percent with two decimals; ``-`` for None or NaN."""
    return "-" if value is None or math.isnan(value) else f"{100 * value:.2f}"


def limits(frame: pd.DataFrame, drawn: str) -> pd.DataFrame:
    """Join ``<drawn>_low`` and ``<drawn>_high`` to one column in percent, named by what the interval is over."""
    pairs = zip(frame[f"{drawn}_low"], frame[f"{drawn}_high"], strict=True)
    cells = ["-" if low != low else f"{percent(low)} to {percent(high)}" for low, high in pairs]
    frame = frame.rename(columns={f"{drawn}_low": f"95 % over {drawn}"}).drop(columns=f"{drawn}_high")
    return frame.assign(**{f"95 % over {drawn}": cells})
