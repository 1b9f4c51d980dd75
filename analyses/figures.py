"""Figures of the study; each takes DataFrames and returns a Figure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from imbalance_bench.bins import number_of_classes
from imbalance_bench.evaluation.weight_norms import correlation_text
from imbalance_bench.plotting import BIN_COLOURS, CORRECT, OKABE_ITO, WRONG, bin_colour, reach, use_style

from .beyond import half_width


def _deviation(table: pd.DataFrame, measure: str) -> np.ndarray:
    """Return half-widths of the whiskers in points: the standard deviation over seeds, 0 if there is none."""
    return 100 * table[f"{measure}_std"].fillna(0).to_numpy(dtype=float)


def ap_by_bin(
    gains: pd.DataFrame, compared: pd.Series, bin_names: Sequence[str], classes: Sequence[int], title: str = ""
) -> Figure:
    """Draw what each method gains over one row, a panel with its own scale for each bin.

    Whiskers are 95 % intervals over seeds (Student's t), where there are several. A panel reaches as far as most
    methods do; what lies further out is an arrow at its end.

    Args:
        gains: one row for each method; ``method``, ``seeds``, differences ``AP1``.., ``mAP`` (fractions) and their
            ``_std``.
        compared: the row that they are compared with; ``method``, ``AP1``.., ``mAP`` (fractions).
        bin_names: intervals of the bins.
        classes: number of classes of each bin.
        title: title of the figure.
    """
    use_style()
    panels = ["mAP", *(f"AP{number}" for number in range(1, len(bin_names) + 1))]
    figure, axes = plt.subplots(
        1, len(panels), figsize=(1.65 * len(panels) + 1.2, 0.2 * len(gains) + 1.5), sharey=True, layout="constrained"
    )
    rows = np.arange(len(gains))
    for axis, panel, name, number in zip(
        axes, panels, ("all", *bin_names), (sum(classes), *classes), strict=True
    ):  # fmt: skip
        values = 100 * gains[panel].to_numpy(dtype=float)
        halves = 100 * half_width(gains[f"{panel}_std"], gains["seeds"].where(gains["seeds"] > 1)).to_numpy(dtype=float)
        places = values.clip(-reach(-values), reach(values))
        inside = places == values
        colour = "0.3" if panel == "mAP" else bin_colour(int(panel[2:]))
        axis.axvline(0, color="0.6", lw=0.8)
        axis.errorbar(
            places[inside], rows[inside], xerr=np.nan_to_num(halves[inside]), fmt="o", ms=3.5, color=colour,
            elinewidth=0.8,
        )  # fmt: skip
        for marker, some in (("<", places > values), (">", places < values)):
            axis.plot(places[some], rows[some], marker, ms=4, color=colour)
        for row, value in zip(rows, values, strict=True):
            text = "-" if np.isnan(value) else f"{value:+.1f}"
            axis.text(1.02, row, text, transform=axis.get_yaxis_transform(), va="center", fontsize=6.5)
        axis.set_title(f"{panel}  {name}\n{number_of_classes(number)}", fontsize=8)
        axis.set_xlabel(f"points over {100 * compared[panel]:.1f}")
        axis.margins(x=0.08)
        axis.set_xlim(min(axis.get_xlim()[0], -1), max(axis.get_xlim()[1], 1))
        axis.tick_params(axis="y", length=0)
        axis.xaxis.set_major_locator(MaxNLocator(3))
        axis.grid(axis="y", color="0.93", lw=0.6)
    axes[0].set_yticks(rows, gains["method"])
    axes[0].invert_yaxis()
    seeds = "" if gains["seeds"].max() == 1 else ", 95 % intervals over seeds"
    figure.suptitle(f"{title + ': ' if title else ''}AP over {compared['method']}{seeds}")
    return figure


def learning_curves(curves: pd.DataFrame, bin_names: Sequence[str], title: str = "") -> Figure:
    """Draw AP on validation by epoch, one panel for mAP and for each bin, one line for each run.

    Lines are means over seeds, bands their standard deviation.

    Args:
        curves: one row for each run, seed and epoch; columns ``run``, ``seed``, ``epoch``, ``mAP``, ``AP1``..
            (fractions).
        bin_names: intervals of the bins.
        title: title of the figure.
    """
    use_style()
    panels = ["mAP", *(f"AP{number}" for number in range(1, len(bin_names) + 1))]
    figure, axes = plt.subplots(1, len(panels), figsize=(2.1 * len(panels), 2.5), sharex=True, layout="constrained")
    for run, part in curves.groupby("run", sort=False):
        by_epoch = 100 * part.groupby("epoch")[panels].agg(["mean", "std"])
        seeds = part["seed"].nunique()
        label = f"{run}, {seeds} seeds" if seeds > 1 else str(run)
        for axis, panel in zip(axes, panels, strict=True):
            mean, deviation = by_epoch[panel, "mean"], by_epoch[panel, "std"].fillna(0)
            (line,) = axis.plot(mean.index, mean, "o-", ms=2.5, lw=1.1, label=label if panel == "mAP" else None)
            axis.fill_between(mean.index, mean - deviation, mean + deviation, color=line.get_color(), alpha=0.2, lw=0)
    for axis, panel, interval in zip(axes, panels, ("all", *bin_names), strict=True):
        axis.set_title(f"{panel}  {interval}", fontsize=8)
        axis.set(xlabel="epoch")
        axis.set_ylim(bottom=0)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0].set_ylabel("AP (%)")
    figure.legend(loc="outside lower center", ncols=4)
    figure.suptitle(title)
    return figure


def worlds(gains: pd.DataFrame, fidelities: pd.DataFrame, title: str = "") -> Figure:
    """Draw gains over the baseline in the paper and on several data sets, and each set's correlation with the paper.

    Cells of the upper panel are coloured by rank within their column, so that like orders have like colours.

    Args:
        gains: one row for each method, a column ``paper`` and one for each data set; points.
        fidelities: one row for each data set, a column for each measure; Spearman's correlation.
        title: title of the figure.
    """
    import seaborn as sns

    use_style()
    ranks, below = gains.rank(ascending=False), fidelities.T
    below.insert(0, "paper", np.nan)
    figure, (upper, lower) = plt.subplots(
        2, 1, figsize=(1.1 * gains.shape[1] + 1.6, 0.26 * (len(gains) + len(below)) + 1.6), sharex=True,
        height_ratios=(len(gains), len(below)), layout="constrained",
    )  # fmt: skip
    sns.heatmap(ranks, annot=gains, fmt="+.1f", cmap="viridis_r", cbar=False, linewidths=0.5, ax=upper)
    sns.heatmap(below, annot=True, fmt="+.2f", cmap="Greys", vmin=0, vmax=1.4, cbar=False, linewidths=0.5, ax=lower)
    upper.set(xlabel="", ylabel="", title="mAP against the baseline (points; colour: rank)")
    lower.set(xlabel="", ylabel="", title="Spearman's correlation of such differences with the paper's")
    lower.set_xticks(np.arange(gains.shape[1]) + 0.5, gains.columns, rotation=20, ha="right")
    figure.suptitle(title)
    return figure


def sample_ratio(table: pd.DataFrame, title: str = "") -> Figure:
    """Draw AP against beta, the others sampled per foreground RoI (Figure 4).

    Args:
        table: one row for each setting; columns ``beta`` (``baseline``, a number, ``n`` or ``all``), ``mAP``, ``AP1``..
            (fractions) and their ``_std``.
        title: title of the figure.
    """
    use_style()
    measures = ["mAP", *(column for column in table if column.startswith("AP") and column[2:].isdigit())]
    figure, axis = plt.subplots(figsize=(5.2, 3.4), layout="constrained")
    swept, baseline = table[table["beta"] != "baseline"], table[table["beta"] == "baseline"]
    positions = np.arange(len(swept))
    for measure, colour in zip(measures, ("black", *BIN_COLOURS), strict=False):
        axis.errorbar(
            positions, 100 * swept[measure], _deviation(swept, measure), fmt="o-", ms=4, lw=1.2, color=colour,
            label=measure,
        )  # fmt: skip
        if len(baseline):
            axis.axhline(100 * baseline[measure].iloc[0], color=colour, lw=0.7, ls=":")
    axis.set_xticks(positions, swept["beta"])
    axis.set(xlabel="beta (dotted: baseline)", ylabel="AP (%)", title=title)
    axis.set_ylim(bottom=0)
    figure.legend(loc="outside right upper")
    return figure


def settings_tried(table: pd.DataFrame, title: str = "") -> Figure:
    """Draw mAP and AP1 by settings of re-weighting (bars) and tau-normalisation (lines over tau) (Figure 5).

    Args:
        table: one row for each setting; columns ``method``, ``setting``, ``mAP``, ``AP1`` (fractions) and their
            ``_std``.
        title: title of the figure.
    """
    use_style()
    figure, (left, middle, right) = plt.subplots(
        1, 3, figsize=(9.6, 3.3), layout="constrained", width_ratios=(1.2, 1, 1)
    )
    baseline = table[table["method"] == "baseline"].iloc[0]
    weighted = table[table["method"] == "reweight-cls"]
    positions = np.arange(len(weighted))
    for offset, measure, colour in ((-0.2, "mAP", "0.35"), (0.2, "AP1", BIN_COLOURS[0])):
        left.barh(
            positions + offset, 100 * weighted[measure], xerr=_deviation(weighted, measure), height=0.38, color=colour,
            label=measure, error_kw={"lw": 0.8},
        )  # fmt: skip
    left.axvline(100 * baseline["mAP"], color="black", lw=0.8, ls=":")
    left.set_yticks(positions, weighted["setting"])
    left.invert_yaxis()
    left.set(xlabel="AP (%)", title="re-weight-cls")
    left.set_xlim(0, 150 * weighted["mAP"].max())
    left.legend(loc="lower right")
    tau = table[table["method"].str.startswith("tau-norm")]
    for axis, measure in ((middle, "mAP"), (right, "AP1")):
        for (method, note), part in tau.groupby(["method", tau["setting"].str.partition(", ")[2]], sort=False):
            values = part["setting"].str.extract(r"tau ([\d.]+)")[0].astype(float)
            label = note or method.removeprefix("tau-norm-")
            axis.errorbar(values, 100 * part[measure], _deviation(part, measure), fmt="o-", ms=3.5, lw=1.2, label=label)
        axis.axhline(100 * baseline[measure], color="black", lw=0.8, ls=":")
        axis.set(xlabel="tau", ylabel=f"{measure} (%)", title=f"tau-norm: {measure}")
    right.legend(loc="upper left", fontsize=7)
    figure.suptitle(title)
    return figure


def aligned_profiles(frame: pd.DataFrame, reference: np.ndarray, names: tuple[str, str], title: str = "") -> Figure:
    """Draw sorted train instances of a balanced set, of LVIS aligned to it by rank, and of the sample (Figure 6).

    Args:
        frame: one row for each category; columns ``available`` and ``instance_count``.
        reference: (R,) train instances of LVIS's categories, descending.
        names: names of the balanced set and of the sample.
        title: title of the figure.
    """
    use_style()
    figure, axis = plt.subplots(figsize=(7.2, 3.6), layout="constrained")
    frame = frame.sort_values("available", ascending=False, kind="stable")
    ranks = 1 + np.round(np.linspace(0, len(reference) - 1, len(frame)))
    every = np.arange(1, len(reference) + 1)
    axis.fill_between(every, reference, 0.5, color="0.85", lw=0, label=f"LVIS v0.5 ({len(reference):,} classes)")
    axis.vlines(ranks, frame["instance_count"].clip(lower=0.5), frame["available"], color="0.6", lw=0.6)
    for name, column, marker, colour in (
        (names[0], "available", "s", CORRECT), (names[1], "instance_count", "o", WRONG)
    ):  # fmt: skip
        some = frame[column].to_numpy() > 0
        label = f"{name} ({len(frame)}, {frame[column].sum():,} instances)"
        axis.plot(ranks[some], frame[column][some], marker, ms=3.2, color=colour, label=label)
    axis.set(yscale="log", ylabel="train instances", title=title)
    axis.set_ylim(bottom=0.7)
    axis.set_xlim(-0.01 * len(reference), 1.01 * len(reference))
    axis.set_xlabel("category, by descending train instances (rank among LVIS's)")
    figure.legend(loc="outside upper center", ncols=3)
    return figure


def overview(table: pd.DataFrame, means: pd.DataFrame, bin_names: Sequence[str], detector: str) -> Figure:
    """Draw why rare classes are missed, and what helps: weight norms of one classifier, and AP by bin of several.

    Args:
        table: per-category table of the unchanged detector, background in the last row.
        means: one row for each run, named as the legend says, the unchanged detector first; columns ``AP1``..
            (fractions).
        bin_names: intervals of the bins.
        detector: what is unchanged, for the title of the first panel.
    """
    use_style()
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.2, 2.9), width_ratios=(1, 1.35), layout="constrained")
    classes = table.iloc[:-1]
    for number, part in classes.groupby("bin"):
        left.scatter(part["instance_count"], part["weight_norm"], s=14, color=bin_colour(int(str(number))))
    left.set(xscale="log", xlabel="train instances of a class", ylabel="weight norm", ylim=(0, None))
    left.set_title(f"Why: the classifier of {detector} is imbalanced\nrank correlation {correlation_text(table, 2)}")
    bins = np.arange(len(bin_names))
    markers = dict(zip(means.index, zip("osD^v", ("0.45", *OKABE_ITO), strict=False), strict=False))
    for place, (name, row) in zip(np.linspace(-0.24, 0.24, len(means)), means.iterrows(), strict=True):
        values = 100 * row[[f"AP{number + 1}" for number in bins]].to_numpy(dtype=float)
        marker, colour = markers[name]
        right.vlines(bins + place, 0, values, color=colour, lw=1.2)
        right.plot(bins + place, values, marker, color=colour, ms=5, label=str(name))
        right.annotate(f"{values[0]:.0f}", (place, values[0]), (0, 4), textcoords="offset points", ha="center", size=8)
    right.set_xticks(bins, [f"{name}\nAP{number + 1}" for number, name in enumerate(bin_names)])
    right.set(xlabel="bins by train instances", ylabel="AP (%)", ylim=(0, None))
    right.set_title("What helps: AP by bin")
    right.legend(loc="upper left", fontsize=8)
    return figure
