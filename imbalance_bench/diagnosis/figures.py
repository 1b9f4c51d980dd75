"""Figures of a diagnosis; each function takes tables of the diagnosis and returns a Figure."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from imbalance_bench.plotting import BIN_COLOURS, CORRECT, draw_shares, use_style


def gains(fixes: pd.DataFrame, recommended: str | None, title: str = "", over: str = "baseline") -> Figure:
    """Plot the gain of each fix on the tail against its gain or loss on the head, with intervals.

    Args:
        fixes: table as ``Diagnosis.fixes``.
        recommended: the fix that is marked.
        title: title of the figure.
        over: the row that all others are compared with; it is not plotted.
    """
    use_style()
    shown = fixes.drop(index=over).dropna(subset=["tail_gain", "head_gain"]).sort_values("tail_gain")
    figure, axis = plt.subplots(figsize=(7.2, max(3.6, 0.19 * len(shown) + 0.8)), layout="constrained")
    axis.axhline(0, color="0.7", lw=0.8)
    axis.axvline(0, color="0.7", lw=0.8)
    for method, row in shown.iterrows():
        colour = CORRECT if method == recommended else "0.35"
        x, y = 100 * row["head_gain"], 100 * row["tail_gain"]
        axis.errorbar(
            x, y, fmt="o", ms=5, color=colour, elinewidth=0.7, alpha=0.9,
            xerr=[[max(0, x - 100 * row["head_low"])], [max(0, 100 * row["head_high"] - x)]],
            yerr=[[max(0, y - 100 * row["tail_low"])], [max(0, 100 * row["tail_high"] - y)]],
        )  # fmt: skip
    low, high = axis.get_ylim()
    heights = spread((100 * shown["tail_gain"].to_numpy() - low) / (high - low))
    for (method, row), height in zip(shown.iterrows(), heights, strict=True):
        axis.annotate(
            str(method), (100 * row["head_gain"], 100 * row["tail_gain"]), (1.05, height),
            textcoords="axes fraction", fontsize=7.5, va="center", annotation_clip=False,
            color=CORRECT if method == recommended else "0.25",
            weight="bold" if method == recommended else "normal",
            arrowprops={"arrowstyle": "-", "lw": 0.4, "color": "0.7", "shrinkA": 1, "shrinkB": 3, "relpos": (0, 0.5)},
        )  # fmt: skip
    front = pareto(shown["head_gain"].to_numpy(), shown["tail_gain"].to_numpy())
    axis.plot(
        100 * shown["head_gain"].to_numpy()[front], 100 * shown["tail_gain"].to_numpy()[front],
        color="0.6", lw=0.9, ls="--", zorder=0,
    )  # fmt: skip
    axis.set(xlabel="AP gained on head classes (points)", ylabel="AP gained on tail classes (points)", title=title)
    return figure


def spread(heights: np.ndarray) -> np.ndarray:
    """Move ascending heights in 0..1 apart so that labels do not overlap; their order is kept."""
    gap = min(0.05, 1 / max(len(heights), 1))
    moved = heights.clip(0, 1)
    for place in range(1, len(moved)):
        moved[place] = max(moved[place], moved[place - 1] + gap)
    if len(moved) and moved[-1] > 1:
        moved[-1] = 1
        for place in range(len(moved) - 2, -1, -1):
            moved[place] = min(moved[place], moved[place + 1] - gap)
    return moved


def pareto(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the positions of the points on the Pareto front (no other is better in both), by ascending x."""
    order = np.lexsort((-y, -x))
    kept, best = [], -np.inf
    for position in order:
        if y[position] > best:
            kept.append(position)
            best = y[position]
    return np.array(kept[::-1], dtype=int)


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
    colours = [BIN_COLOURS[number % len(BIN_COLOURS)] for number in range(len(foreground))]
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
        colour = "black" if group == "all" else BIN_COLOURS[(int(group) - 1) % len(BIN_COLOURS)]
        label = f"{'all classes' if group == 'all' else f'bin {group}'}: error {errors.get(group, np.nan):.2f}"
        size = 6 + 60 * part["proposals"] / max(curve["proposals"].max(), 1)
        axis.plot(part["confidence"], part["accuracy"], color=colour, lw=1.0, label=label, zorder=2 + number)
        axis.scatter(part["confidence"], part["accuracy"], s=size, color=colour, zorder=3 + number)
    axis.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1), title=title)
    axis.legend(fontsize=7, loc="upper left")
    return figure
