"""Charts that several pages show: what methods gain on the tail against the head, and a measure by bin."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from imbalance_bench.methods import METHODS
from imbalance_bench.pages import looks
from imbalance_bench.pages.cells import shown_gain, shown_percent
from imbalance_bench.pages.charts import Axis, Chart, Point, Series, bars, scatter
from imbalance_bench.pages.looks import Look


def gains(frame: pd.DataFrame, over: str, recommended: str | None = None) -> Chart | None:
    """Draw the gain of each method on tail classes against its gain or loss on head classes; None if neither is known.

    Args:
        frame: index ``method``; fractions ``tail_gain``, ``tail_low``, ``tail_high``, the same of ``head`` and ``mAP``;
            an interval is NaN where it is not known. The row ``over`` is not drawn.
        over: what the methods are compared with.
        recommended: a method that is named before others.
    """
    shown = frame.drop(index=over, errors="ignore").dropna(subset=["tail_gain", "head_gain"])
    if shown.empty:
        return None
    groups = {group: 100 * shown[[f"{group}_{end}" for end in ("gain", "low", "high")]] for group in ("tail", "head")}
    front = pareto(shown["head_gain"].to_numpy(), shown["tail_gain"].to_numpy())
    points = []
    for place, (method, row) in enumerate(shown.iterrows()):
        lines = [f"{group} {shown_gain(*row[[f'{group}_{end}' for end in ('gain', 'low', 'high')]])}"
                 for group in ("tail", "head", "mAP")]  # fmt: skip
        (y, *y_range), (x, *x_range) = (groups[group].iloc[place] for group in ("tail", "head"))
        points.append(
            Point(
                x, y, "\n".join([str(method), *lines]), looks.of_method(str(method), over), str(method), str(method),
                (x_range[0], x_range[1]), (y_range[0], y_range[1]), place in front or method == recommended,
            )
        )  # fmt: skip
    axes = {
        group: Axis.over(f"AP gained on {group} classes (points)", values.iloc[:, 0], clip=True)
        for group, values in groups.items()
    }
    caption = (
        f"Against {over}: up and to the right is better. Lines through a point: 95 % intervals. "
        "Dashed: methods that no other beats on both."
    )
    corners = [(points[place].x, points[place].y) for place in front]
    methods = [str(name) for name in shown.index if name != "baseline"]
    return scatter(points, axes["head"], axes["tail"], caption, looks.legend(methods), corners)


def by_bin(
    frames: Mapping[str, pd.DataFrame], look: Mapping[str, Look], groups: Sequence[str], label: str, caption: str
) -> Chart:
    """Draw a share by bin, one bar for each method, or for each kind of share.

    Args:
        frames: by name, a row for each group with ``value``, ``low`` and ``high`` (fractions, NaN for none) and ``of``,
            what the share is of.
        look: of each name.
        groups: texts below the groups.
        label: name of the share.
        caption: text below.
    """
    series = []
    for name, frame in frames.items():
        tips = [
            f"{name}\n{group.replace(chr(10), ' ')}: {label} {shown_percent(row.value)} %"
            + ("" if math.isnan(row.low) else f" [{shown_percent(row.low)}, {shown_percent(row.high)}]")
            + f"\nof {row.of}"
            for group, row in zip(groups, frame.itertuples(), strict=True)
        ]
        ranges = [(100 * low, 100 * high) for low, high in zip(frame["low"], frame["high"], strict=True)]
        values = (100 * frame["value"]).tolist()
        series.append(Series(name, values, tips, look[name], name if name in METHODS else "", ranges))
    ends = pd.concat([100 * frame[["value", "low", "high"]] for frame in frames.values()]).to_numpy().ravel()
    return bars(groups, series, Axis.over(f"{label} (%)", ends), caption)


def pareto(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the positions of the points on the Pareto front (no other is better in both), by ascending x."""
    order = np.lexsort((-y, -x))
    kept, best = [], -np.inf
    for position in order:
        if y[position] > best:
            kept.append(position)
            best = y[position]
    return np.array(kept[::-1], dtype=int)
