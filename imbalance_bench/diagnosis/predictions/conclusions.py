"""Conclusions from measurements on result files: what is found, the verdict in words, and what to do next.

A difference between tail and head counts if its 95 % interval over images excludes zero. Rules, the first that applies:
without a tail, or boxes of it, nothing is said about it; if tail objects are detected under another class's name more
often than head objects, or more often not at all, the larger difference is the finding; else, if they are found and
named right but with lower scores, this; else, if AP is lower nevertheless, that; else nothing is found.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from imbalance_bench.categories import CategoryTable
from imbalance_bench.diagnosis.predictions.measure import FEW, Measured
from imbalance_bench.diagnosis.predictions.tables import OUTCOMES
from imbalance_bench.runtime.errors import first

Finding = Literal["no tail", "no boxes", "confused", "undetected", "low scores", "lower AP", "none"]
CUT = 0.02
"""Lowest score of a file above which it was written with a threshold on the score."""
NAMED = 3


def find(contrast: pd.DataFrame, categories: CategoryTable) -> Finding:
    """Return what is wrong with the tail, by the rules of this module.

    Args:
        contrast: table as ``PredictionDiagnosis.contrast``.
        categories: the classes.
    """
    if not categories.tail_labels or not categories.head_labels:
        return "no tail"
    if np.isnan(contrast.loc["ap", "difference"]):
        return "no boxes"
    more = {
        name: contrast.loc[row, "difference"]
        for name, row in (("confused", "another"), ("undetected", "undetected"))
        if contrast.loc[row, "low"] > 0
    }
    if more:
        return "confused" if max(more, key=lambda name: more[name]) == "confused" else "undetected"
    if contrast.loc["high_scores", "high"] < 0:
        return "low scores"
    return "lower AP" if contrast.loc["ap", "high"] < 0 else "none"


def sides(categories: CategoryTable, unit: str) -> tuple[str, str]:
    """Describe the tail and the other classes in a few words; ``unit``: what is counted."""
    tail, head = categories.tail_labels, categories.head_labels
    if categories.num_classes <= 2 * NAMED and len(tail) <= NAMED:
        tail = sorted(tail, key=lambda c: categories.instance_counts[c])
        named = first([categories.names[c] for c in tail], NAMED)
        counted = ", ".join(f"{categories.instance_counts[c]:,}" for c in tail)
        rarest = "rarest class" if len(tail) == 1 else f"{len(tail)} rarest classes"
        return f"the {rarest} ({named}; {counted} {unit})", f"the other {_classes(len(head))}"
    most = categories.bin_edges[len(categories.tail_bins) - 1]
    return f"the {_classes(len(tail))} of the tail (fewer than {most:,} {unit})", f"the other {_classes(len(head))}"


def verdict(finding: Finding, found: Measured, categories: CategoryTable, unit: str, lowest_score: float) -> list[str]:
    """Write the verdict in sentences.

    Args:
        finding: result of ``find``.
        found: the measurements.
        categories: the classes.
        unit: what their counts count.
        lowest_score: the lowest score of a detection.
    """
    contrast, bins = found.contrast, found.bins
    lines = [*_headline(finding, contrast, bins, categories, unit)]
    if finding not in ("no tail", "no boxes"):
        tail = contrast["tail"]
        (mine, of_mine), (others, of_others) = (_outcomes(contrast, bins, side) for side in ("tail", "head"))
        lines.append(
            f"Of {of_mine} objects of the tail, the best detection is of their own class for {mine[0]}, of another "
            f"class for {mine[1]}, and none is on the other {mine[2]}, at any score. Of {of_others} objects of the "
            f"other classes: {others[0]}, {others[1]} and {others[2]}."
        )
        if not np.isnan(tail["high_scores"]):
            lines.append(
                f"Of the right detections of the tail {100 * tail['high_scores']:.0f} % reach the median score of the "
                "others' (50 % if scores meant the same)."
            )
    lines += _few(bins, found.per_class, categories)
    if lowest_score > CUT:
        lines.append(
            f"No score in the file is below {lowest_score:.2g}: it was written with a threshold, which takes most from "
            "classes with low scores. Write it with a threshold of .001 or less before you believe AP or 'no "
            "detection'."
        )
    return lines


def _outcomes(contrast: pd.DataFrame, bins: pd.DataFrame, side: str) -> tuple[list[str], str]:
    """Return what became of the boxes of a side, of 100, or of all if there are fewer; and of how many."""
    total = int(bins.loc[side, "val_instances"])
    of = min(total, 100)
    return [f"{of * contrast.loc[name, side]:.0f}" for name in OUTCOMES], f"{'the ' if of < 100 else ''}{of}"


def _headline(
    finding: Finding, contrast: pd.DataFrame, bins: pd.DataFrame, categories: CategoryTable, unit: str
) -> list[str]:
    if finding == "no tail":
        trained = categories.instance_counts[categories.instance_counts > 0]
        if len(trained) < 2:
            return ["There is one class with boxes: nothing can be said about rare and frequent classes."]
        return [
            f"The classes have {trained.min():,} to {trained.max():,} {unit}, so none is rare. "
            f"AP is {100 * bins.loc['all', 'ap']:.1f}{_interval(bins.loc['all'], 'ap')}."
        ]
    tail, head = sides(categories, unit)
    if finding == "no boxes":
        side = "tail" if np.isnan(contrast.loc["ap", "tail"]) else "head"
        what = tail if side == "tail" else head
        return [
            f"No validation box is of {what}: nothing can be measured there, so rare and frequent cannot be compared."
        ]
    row = contrast.loc["ap"]
    values = f"AP is {100 * row['tail']:.1f} on {tail}, and {100 * row['head']:.1f} on {head}"
    low, high = sorted((100 * abs(row["low"]), 100 * abs(row["high"])))
    if row["high"] < 0:
        size = f"{-100 * row['difference']:.1f} points lower (95 % interval over images {low:.1f} to {high:.1f})"
        return [f"Rare classes do worse. {values}: {size}."]
    limits = f"95 % interval of the difference over images {100 * row['low']:+.1f} to {100 * row['high']:+.1f}"
    if row["low"] > 0:
        return [f"Rare classes do not do worse, but better. {values} ({limits})."]
    return [f"It cannot be told from these images whether rare classes do worse. {values} ({limits})."]


def _few(bins: pd.DataFrame, per_class: pd.DataFrame, categories: CategoryTable) -> list[str]:
    """Say which numbers rest on too few boxes."""
    trained = per_class[per_class["bin"] > 0]
    few = trained[trained["few"] & (trained["val_instances"] > 0)]
    without = trained[trained["val_instances"] == 0]
    lines = []
    if len(few):
        lines.append(
            f"{len(few):,} of {_classes(len(trained))} {'have' if len(few) > 1 else 'has'} fewer than {FEW} validation "
            f"boxes ({first(few['name'].tolist(), NAMED)}): read the mean of a bin with its interval, and no single "
            "one of them."
        )
    if len(without):
        lines.append(
            f"{_classes(len(without))} have no validation box and no AP: {first(without['name'].tolist(), 5)}."
        )
    if categories.tail_labels and (boxes := int(bins.loc["tail", "val_instances"])) < 100:
        lines.append(f"The tail rests on {boxes:,} validation boxes in all.")
    return lines


def _interval(row: pd.Series, name: str) -> str:
    return f" (95 % interval over images {100 * row[f'{name}_low']:.1f} to {100 * row[f'{name}_high']:.1f})"


def _classes(number: int) -> str:
    return f"{number:,} class" if number == 1 else f"{number:,} classes"
