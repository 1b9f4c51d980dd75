"""The charts of a study's page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from imbalance_bench.evaluation.weight_norms import correlation_text
from imbalance_bench.pages import looks
from imbalance_bench.pages.charts import Axis, Chart, Series, curves
from imbalance_bench.pages.pictures import by_bin

from .evidence import Evidence

MOST_POINTS = 80
"""Points of a curve; with more classes, each point is a mean over classes that follow each other."""


def chosen(evidence: Evidence) -> list[str]:
    """Return the folders that charts of few methods show: baseline, control, the best on the tail of each family."""
    frame = evidence.methods
    compared = [name for name in ("baseline", evidence.control) if name in frame.index]
    others = frame.drop(index=compared).dropna(subset="tail").sort_values("tail", ascending=False, kind="stable")
    best = others[others["family"] != "plain"].drop_duplicates("family").index
    return [*dict.fromkeys([*compared, *best])]


def bars(evidence: Evidence, measure: str, label: str, of: Mapping[str, str], what: str) -> Chart:
    """Draw a measure by bin of the methods that ``chosen`` names.

    Args:
        evidence: as of the page.
        measure: ``AP`` or ``ACC``.
        label: its name.
        of: what the share of each group is of, by the name of its measure.
        what: first sentence of the caption.
    """
    groups = {
        f"{measure}{number}": f"bin {number}\n{row['interval']}" if number else f"bin 0\n{row['interval']}"
        for number, row in evidence.bins.iterrows()
    }
    if measure == "ACC":
        groups["ACCbg"] = "background"
    groups = {name: text for name, text in groups.items() if name in evidence.settings}
    frames, several = {}, False
    for folder in chosen(evidence):
        row = evidence.settings.loc[folder]
        values = row[list(groups)].astype(float)
        deviations = row[[f"{name}_std" for name in groups]].astype(float).to_numpy()
        several |= bool(np.isfinite(deviations).any())
        frames[str(row["method"])] = pd.DataFrame(
            {"value": values, "low": values - deviations, "high": values + deviations, "of": pd.Series(dict(of))}
        ).loc[list(groups)]
    caption = f"{what} {_of_families()}" + (" Whiskers: the standard deviation over seeds." if several else "")
    look = {method: looks.of_method(method, evidence.control or "") for method in frames}
    return by_bin(frames, look, list(groups.values()), label, caption)


def _of_families() -> str:
    return "Shown are baseline, control, and of each family the method with the highest AP on tail classes."


def weight_norms(frames: Mapping[str, pd.DataFrame], evidence: Evidence) -> Chart:
    """Draw weight norms against the rank of classes by train instances (Figures 1 and 3 of the paper).

    Args:
        frames: per-category tables of settings with weights, by folder.
        evidence: as of the page.
    """
    first = next(iter(frames.values())).iloc[:-1].sort_values("instance_count", ascending=False, kind="stable")
    labels = np.array_split(first.index.to_numpy(), min(len(first), MOST_POINTS))
    places = [0.5 + part.mean() for part in np.array_split(np.arange(len(first)), len(labels))]
    whose = [_whose(first.loc[part]) for part in labels]
    strong, series = chosen(evidence), []
    for folder, frame in frames.items():
        method = str(evidence.settings.loc[folder, "method"])
        of_class = frame["weight_norm"].to_numpy()
        norms = [float(of_class[part].mean()) for part in labels]
        tips = [f"{method}\n{who}\nnorm {norm:.2f}" for who, norm in zip(whose, norms, strict=True)]
        name = f"{method} (rank correlation {correlation_text(frame, 2)})"
        look = looks.of_method(method, evidence.control or "")
        series.append(Series(name, norms, tips, look, method, is_strong=folder in strong))
    y = Axis.over("weight norm", [norm for one in series for norm in one.numbers], clip=True)
    counts = [int((first["bin"] == number).sum()) for number in evidence.bins.index[::-1]]
    ends = np.cumsum(counts)
    ticks = [
        (end - count / 2, f"bin {number}\n{row['interval']}")
        for (number, row), count, end in zip(evidence.bins[::-1].iterrows(), counts, ends, strict=True)
    ]
    x = Axis("classes, by descending train instances", 0, len(first), tuple(ticks))
    size = math.ceil(len(first) / MOST_POINTS)
    means = f" A point is a mean over {size} classes." if size > 1 else ""
    off = [one.key for one in series if one.is_strong and not any(map(y.has, one.numbers))]
    above = f" (above it: {', '.join(off)})" if off else ""
    caption = (
        f"Norm of each class's row of the classifier.{means} Faint: the other methods; a click on a curve or on a name "
        f"brings it out. Curves end where they leave the axis{above}."
    )
    return curves(series, x, places, y, caption, ends[:-1].tolist())


def _whose(part: pd.DataFrame) -> str:
    counts = part["instance_count"]
    if len(part) == 1:
        return f"{part['name'].iloc[0]}, {counts.iloc[0]:,} train instances"
    return f"{len(part)} classes, {counts.min():,} to {counts.max():,} train instances"


def with_weights(evidence: Evidence, folders: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Return the per-category tables of the settings that have weight norms, by folder."""
    frames = {folder: evidence.per_category(folder) for folder in folders}
    return {folder: frame for folder, frame in frames.items() if frame["weight_norm"].iloc[:-1].notna().any()}
