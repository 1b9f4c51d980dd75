"""Figures of a diagnosis; each function takes tables of the diagnosis and returns a Figure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from imbalance_bench.evaluation.calibration import calibration_error
from imbalance_bench.pages.pictures import pareto
from imbalance_bench.plotting import CORRECT, bin_colour, draw_shares, reach, use_style, weight_norms
from imbalance_bench.runtime.errors import look_up

if TYPE_CHECKING:
    from imbalance_bench.diagnosis.result import Diagnosis

_DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (0.7, 0.7), (-0.7, 0.7), (0.7, -0.7), (-0.7, -0.7))
"""Where a name may stand beside its point: right, left, above, below, between."""


def of(diagnosis: Diagnosis, name: str) -> Figure:
    """Draw a figure of a diagnosis by its name, as ``Diagnosis.figure``."""
    d = diagnosis
    draw = {
        "gains": lambda: gains(d.fixes, d.recommended, "up and to the right is better"),
        "norms": lambda: weight_norms({"as it is": d.per_category.rename(columns=str)}, d.summary["bin_names"]),
        "bins": lambda: by_bin(d.bins),
        "proposals": lambda: stacked(d.destinations, "proposals (%)"),
        "boxes": lambda: stacked(d.boxes, "validation boxes, by the best detection on each (%)"),
        "reliability": lambda: reliability(d.reliability, calibration_error(d.reliability)),
    }
    return look_up(draw, name, "figure")()


def gains(fixes: pd.DataFrame, recommended: str | None, title: str = "", over: str = "baseline") -> Figure:
    """Plot the gain of each fix on the tail against its gain or loss on the head (``draw_gains``)."""
    use_style()
    figure, axis = plt.subplots(figsize=(7.2, 5.4), layout="constrained")
    draw_gains(axis, fixes, recommended, title, over)
    return figure


def draw_gains(
    axis: Axes, fixes: pd.DataFrame, recommended: str | None, title: str = "", over: str = "baseline"
) -> None:
    """Draw the gain of each fix on the tail against its gain or loss on the head, with intervals.

    The axes reach as far as most fixes do; what lies further out stands at their end with its numbers. Names for which
    there is no room stand below.

    Args:
        axis: of a figure whose other axes have their place.
        fixes: table as ``Diagnosis.fixes``.
        recommended: the fix that is marked.
        title: of the axis.
        over: the row that all others are compared with; it is not plotted.
    """
    figure = axis.figure
    assert isinstance(figure, Figure)
    shown = 100 * fixes.drop(index=over)[[f"{group}_{end}" for group in ("head", "tail") for end in _ENDS]]
    shown = shown.dropna(subset=["tail_gain", "head_gain"])
    axis.axhline(0, color="0.7", lw=0.8)
    axis.axvline(0, color="0.7", lw=0.8)
    values = shown[["head_gain", "tail_gain"]].to_numpy(dtype=float)
    low, high = (np.apply_along_axis(reach, 0, end * values) for end in (-1, 1))
    places = values.clip(-low, high)
    names = []
    for (method, row), value, (x, y) in zip(shown.iterrows(), values, places, strict=True):
        is_outside = not np.array_equal(value, (x, y))
        axis.errorbar(
            x, y, fmt="s" if is_outside else "o", ms=4, color=CORRECT if method == recommended else "0.25",
            elinewidth=0.6, ecolor="0.8", zorder=2,
            xerr=None if is_outside else _errors(row, "head"), yerr=None if is_outside else _errors(row, "tail"),
        )  # fmt: skip
        names.append(f"{method} ({value[0]:+.0f}, {value[1]:+.0f})" if is_outside else str(method))
    front = pareto(values[:, 0], values[:, 1])
    axis.plot(*places[front].T, color="0.6", lw=0.9, ls="--", zorder=1)
    axis.set(xlabel="AP gained on head classes (points)", ylabel="AP gained on tail classes (points)", title=title)
    margins = 0.06 * (low + high) + 0.1
    axis.set(xlim=(-low[0] - margins[0], high[0] + margins[0]), ylim=(-low[1] - margins[1], high[1] + margins[1]))
    # The best have their names first.
    order = np.argsort([-(name == recommended) * 1e3 - (number in front) * 100 - values[number].sum()
                        for number, name in enumerate(shown.index)])  # fmt: skip
    left = _name(figure, axis, places[order], [names[number] for number in order])
    if left:
        axis.text(0.01, 0.01, fill(f"without a name: {', '.join(left)}", 100), transform=axis.transAxes, fontsize=6,
                  color="0.4", va="bottom")  # fmt: skip


_ENDS = ("gain", "low", "high")


def _errors(row: pd.Series, group: str) -> list[list[float]]:
    """Return the lengths of an interval below and above a gain."""
    value, low, high = (row[f"{group}_{end}"] for end in _ENDS)
    return [[max(0, value - low)], [max(0, high - value)]]


def _name(figure: Figure, axis: Axes, places: np.ndarray, names: Sequence[str]) -> list[str]:
    """Write names beside points, the first ones first, where they cover neither a point nor another name.

    Args:
        figure: that of the axis.
        axis: with everything else, and its limits.
        places: (N, 2) points, in data coordinates.
        names: N texts.

    Returns:
        The names for which there was no room.
    """
    figure.draw_without_rendering()
    frame, left = axis.get_window_extent(), []
    taken = [Bbox.from_bounds(x - 3, y - 3, 6, 6) for x, y in axis.transData.transform(places)]
    for place, name in zip(places, names, strict=True):
        for distance, (right, up) in product((5, 12, 20), _DIRECTIONS):
            label = axis.annotate(
                name, place, (distance * right, distance * up), textcoords="offset points", fontsize=7, color="0.2",
                ha=("center", "left", "right")[round(np.sign(right))],
                va=("center", "bottom", "top")[round(np.sign(up))],
                arrowprops={"arrowstyle": "-", "lw": 0.4, "color": "0.6"} if distance > 5 else None,
            )  # fmt: skip
            label.get_window_extent()  # places it; with its line, which may cross others
            box = Text.get_window_extent(label)
            inside = frame.x0 < box.x0 and box.x1 < frame.x1 and frame.y0 < box.y0 and box.y1 < frame.y1
            if inside and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            label.remove()
        else:
            left.append(name)
    return left


def by_bin(bins: pd.DataFrame, title: str = "") -> Figure:
    """Plot AP and proposal accuracy of each bin with intervals, and the share predicted as background.

    Args:
        bins: table as ``Diagnosis.bins``.
        title: title of the figure.
    """
    use_style()
    foreground = bins.drop(index="background")
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 2.8), layout="constrained")
    positions = np.arange(len(foreground))
    colours = [bin_colour(int(number)) for number in foreground.index]
    for axis, column, label in ((left, "ap", "AP (%)"), (right, "accuracy", "proposals (%)")):
        values = 100 * foreground[column].to_numpy(dtype=float)
        low, high = (100 * foreground[f"{column}_{end}"].to_numpy(dtype=float) for end in ("low", "high"))
        errors = np.nan_to_num(np.maximum([values - low, high - values], 0))
        name = None if column == "ap" else "named right"
        axis.bar(positions, np.nan_to_num(values), yerr=errors, color=colours, width=0.7, error_kw={"lw": 0.9},
                 label=name)  # fmt: skip
        for position in np.flatnonzero(np.isnan(values)):
            axis.text(position, 0, "no box", ha="center", va="bottom", fontsize=7)
        axis.set_xticks(positions, [f"bin {n}\n{i}" for n, i in foreground["interval"].items()], fontsize=7)
        axis.set_ylabel(label)
    lost = 100 * foreground["as_background"].to_numpy(dtype=float)
    right.plot(positions, lost, "D", ms=4, color="black", label="taken for background")
    right.set_ylim(0, 105)
    right.legend(fontsize=7, loc="upper left", bbox_to_anchor=(0, 1.18), ncols=2)
    figure.suptitle(title)
    return figure


def stacked(table: pd.DataFrame, label: str, title: str = "") -> Figure:
    """Plot the shares of each bin's proposals or boxes by predicted class, one bar per bin.

    Args:
        table: ``Diagnosis.destinations`` or ``Diagnosis.boxes``.
        label: label of the x axis, such as ``proposals (%)``.
        title: title of the figure.
    """
    use_style()
    figure, axis = plt.subplots(figsize=(7.2, 0.42 * len(table) + 1.1), layout="constrained")
    draw_shares(axis, table, label, "another class of")
    figure.legend(loc="outside upper center", ncols=4, fontsize=7)
    axis.set_title(title)
    return figure


def reliability(curve: pd.DataFrame, errors: pd.Series, title: str = "") -> Figure:
    """Plot accuracy against confidence by bin of the predicted class; point size shows the number of proposals.

    Args:
        curve: table as ``Diagnosis.reliability``.
        errors: expected calibration error by group.
        title: title of the figure.
    """
    use_style()
    figure, axis = plt.subplots(figsize=(4.6, 3.8), layout="constrained")
    axis.plot([0, 1], [0, 1], color="0.7", lw=0.8, ls="--")
    groups = [group for group in dict.fromkeys(curve["group"]) if group != "background"]
    for number, group in enumerate(groups):
        part = curve[curve["group"] == group]
        colour = "black" if group == "all" else bin_colour(int(group))
        label = f"{'all classes' if group == 'all' else f'bin {group}'}: error {errors.get(group, np.nan):.2f}"
        size = 6 + 60 * part["proposals"] / max(curve["proposals"].max(), 1)
        axis.plot(part["confidence"], part["accuracy"], color=colour, lw=1.0, label=label, zorder=2 + number)
        axis.scatter(part["confidence"], part["accuracy"], s=size, color=colour, zorder=3 + number)
    axis.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1), title=title)
    if axis.get_legend_handles_labels()[0]:  # of a detector that is sure of nothing there is no curve
        axis.legend(fontsize=7, loc="upper left")
    return figure
