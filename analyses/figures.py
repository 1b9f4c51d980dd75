"""Figures of the study; each takes DataFrames (and, for the contact sheet, images) and returns a Figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from analyses.weight_norms import correlation_text

BIN_COLOURS = ("#b2182b", "#ef8a62", "#67a9cf", "#2166ac")
"""Bins from fewest to most train instances."""
CORRECT, WRONG = "#0072b2", "#d55e00"
"""Of detections: blue and vermilion, which colour-blind readers tell apart."""


NO_INSTANCE = 0.5
"""Where a class without an instance stands on a logarithmic axis."""

_KIND_COLOURS = {
    "right": "#009e73", "localisation": "#f0e442", "both": "#cc79a7", "duplicate": "#999999", "background": "0.75",
    "proposal only": "0.6", "no proposal": "0.85", "no detection": "0.8",
}  # fmt: skip


def use_style() -> None:
    """Fonts and lines of a printed paper."""
    sns.set_theme(context="paper", style="ticks", font_scale=1.05)
    matplotlib.rcParams.update(
        {"figure.dpi": 110, "savefig.bbox": "tight", "axes.spines.top": False,
         "axes.spines.right": False, "legend.frameon": False}
    )  # fmt: skip


def save(figure: Figure, path: Path, dpi: int = 200) -> Path:
    """Write a figure (the suffix says the format) and release it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=dpi)
    plt.close(figure)
    return path


def draw_shares(axis: Axes, table: pd.DataFrame, label: str, of: str) -> None:
    """Shares that sum to one as stacked bars, a bar a row.

    Args:
        axis: drawn on.
        table: index ``1``.., ``all`` or ``background``; columns of kinds, ``bin 1``.. among them.
        label: what is shared out.
        of: what columns ``bin 1``.. are.
    """
    left = np.zeros(len(table))
    names = [f"bin {name}" if str(name).isdigit() else str(name) for name in table.index]
    for column in table:
        width = 100 * table[column].fillna(0).to_numpy(dtype=float)
        of_bin = str(column).startswith("bin ")
        colour = BIN_COLOURS[(int(column[4:]) - 1) % len(BIN_COLOURS)] if of_bin else _KIND_COLOURS[column]
        name = f"{of} {column}" if of_bin else column
        axis.barh(names, width, left=left, color=colour, height=0.72, label=name)
        left += width
    axis.invert_yaxis()
    axis.set(xlim=(0, 100), xlabel=label)


def _deviation(table: pd.DataFrame, measure: str) -> np.ndarray:
    """Half-widths of the whiskers in points: the standard deviation over seeds, 0 where there is none."""
    return 100 * table[f"{measure}_std"].fillna(0).to_numpy(dtype=float)


def weight_norms(frames: Mapping[str, pd.DataFrame], bin_names: Sequence[str], title: str = "") -> Figure:
    """Weight norm against rank by train instances, background at rank 0 (Figures 1 and 3).

    Each table's classes are ranked by its own instances, so that tables of different data sets go together. A class
    without an instance stands at half a one in the lower panel, whose axis is logarithmic.

    Args:
        frames: per-category tables by run; columns ``instance_count``, ``bin``, ``weight_norm``, background in the
            last row.
        bin_names: intervals of the first table's bins.
        title: above.
    """
    use_style()
    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(7.2, 4.4), sharex=True, height_ratios=(3, 1), layout="constrained"
    )
    palette = sns.color_palette("deep", len(frames))
    ranked = {
        name: frame.iloc[:-1].sort_values("instance_count", ascending=False, kind="stable")
        for name, frame in frames.items()
    }
    first = next(iter(ranked.values()))
    same = all(first["instance_count"].tolist() == classes["instance_count"].tolist() for classes in ranked.values())
    for colour, (name, classes) in zip(palette, ranked.items(), strict=True):
        ranks, counts = np.arange(1, len(classes) + 1), classes["instance_count"].clip(lower=NO_INSTANCE)
        label = f"{name} (rank correlation {correlation_text(frames[name], 2)})"
        top.plot(ranks, classes["weight_norm"], "o-", ms=3, lw=0.9, color=colour, label=label)
        top.plot([0], frames[name]["weight_norm"].iloc[-1:], "*", ms=9, color=colour, clip_on=False)
        if not same:
            bottom.step(ranks, counts, where="mid", color=colour, lw=1)
        elif classes is first:
            bottom.fill_between(ranks, counts, NO_INSTANCE, step="mid", color="0.75", lw=0)
    bottom.set(yscale="log", ylabel="train\ninstances", xlabel="category, by descending train instances (★ background)")
    bottom.set_ylim(bottom=NO_INSTANCE)
    widest = max(map(len, ranked.values()))
    bottom.set_xlim(-0.02 * widest - 0.5, widest + 0.5)
    top.set(ylabel="weight norm", title=title)
    top.set_ylim(0, 1.18 * max(frame["weight_norm"].max() for frame in frames.values()))
    bottom.xaxis.set_major_locator(MaxNLocator(integer=True))
    _mark_bins((top, bottom), first["bin"].to_numpy(), bin_names)
    figure.legend(loc="outside upper center", ncols=2)
    return figure


def _mark_bins(axes: Sequence[Axes], bins: np.ndarray, bin_names: Sequence[str]) -> None:
    """Dashed lines where the bin changes, its number and interval above."""
    for number in sorted(set(bins.tolist())):
        inside = np.flatnonzero(bins == number) + 1
        axes[0].text(
            inside.mean(), 0.99, f"bin {number}\n{bin_names[number - 1]}", ha="center", va="top", fontsize=7,
            color="0.35", transform=axes[0].get_xaxis_transform(),
        )  # fmt: skip
        for axis in axes:
            if inside.max() < len(bins):
                axis.axvline(inside.max() + 0.5, color="0.5", lw=0.8, ls="--")


def ap_by_bin(
    table: pd.DataFrame,
    names: Sequence[str],
    bin_names: Sequence[str],
    classes: Sequence[int] | np.ndarray,
    title: str = "",
) -> Figure:
    """AP of each method in each bin, one panel a bin, the first method's value as a line, deviations as whiskers.

    Args:
        table: one row a method; columns ``AP1``.., ``mAP`` (fractions) and their ``_std``.
        names: of the rows.
        bin_names: intervals of the bins.
        classes: number of classes of each bin.
        title: above.
    """
    use_style()
    panels = ["mAP", *(f"AP{number}" for number in range(1, len(bin_names) + 1))]
    figure, axes = plt.subplots(
        1, len(panels), figsize=(2.0 * len(panels), 0.28 * len(names) + 1.3), sharey=True, sharex=True,
        layout="constrained",
    )  # fmt: skip
    positions = np.arange(len(names))
    widest = 100 * max(table[panel].max() for panel in panels)
    for axis, panel in zip(axes, panels, strict=True):
        values, deviations = 100 * table[panel].to_numpy(dtype=float), _deviation(table, panel)
        colour = "0.45" if panel == "mAP" else BIN_COLOURS[(int(panel[2:]) - 1) % len(BIN_COLOURS)]
        axis.barh(positions, np.nan_to_num(values), xerr=deviations, color=colour, height=0.72, error_kw={"lw": 0.8})
        axis.axvline(values[0], color="black", lw=0.8, ls="--")
        for position, value, deviation in zip(positions, values, deviations, strict=True):
            text = "no class" if np.isnan(value) else f"{value:.1f}"
            axis.text(
                np.nan_to_num(value) + deviation + 0.02 * widest, position, text, va="center", fontsize=7,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
            )  # fmt: skip
        interval = "all" if panel == "mAP" else bin_names[int(panel[2:]) - 1]
        number = sum(classes) if panel == "mAP" else classes[int(panel[2:]) - 1]
        axis.set_title(f"{panel}  {interval}\n{number} classes", fontsize=8)
        axis.set_xlabel("AP (%)")
    axes[0].set_yticks(positions, names)
    axes[0].invert_yaxis()
    axes[0].set_xlim(0, 1.2 * widest)
    figure.suptitle(title)
    return figure


def sample_ratio(table: pd.DataFrame, title: str = "") -> Figure:
    """AP against beta, the others sampled per foreground RoI (Figure 4).

    Args:
        table: one row a setting; columns ``beta`` (``baseline``, a number, ``n`` or ``all``), ``mAP``, ``AP1``..
            (fractions) and their ``_std``.
        title: above.
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
    """mAP and AP1 of the settings of re-weighting (bars) and of tau-normalisation (lines over tau) (Figure 5).

    Args:
        table: one row a setting; columns ``method``, ``setting``, ``mAP``, ``AP1`` (fractions) and their ``_std``.
        title: above.
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
    """Sorted train instances of a balanced set, of LVIS aligned to it by rank, and of the sample (Figure 6).

    Args:
        frame: one row a category; columns ``available`` and ``instance_count``.
        reference: (R,) train instances of LVIS's categories, descending.
        names: of the balanced set and of the sample.
        title: above.
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


def contact_sheet(
    images: Sequence[np.ndarray],
    ground_truth: Sequence[pd.DataFrame],
    detections: Mapping[str, Sequence[pd.DataFrame]],
    title: str = "",
) -> Figure:
    """Validation images, a row each: ground truth, then the detections of each run.

    Args:
        images: (h, w, 3) RGB.
        ground_truth: of each image; columns ``x1 y1 x2 y2 name bin``; coloured by bin.
        detections: of each image by run; columns ``x1 y1 x2 y2 name correct``; blue where correct.
        title: above.
    """
    use_style()
    columns = 1 + len(detections)
    figure, axes = plt.subplots(
        len(images), columns, figsize=(3.1 * columns, 3.1 * len(images)), squeeze=False, layout="constrained"
    )
    for row, image in enumerate(images):
        _draw(axes[row, 0], image, ground_truth[row], [BIN_COLOURS[b - 1] for b in ground_truth[row]["bin"]])
        for column, of_run in enumerate(detections.values(), start=1):
            colours = [CORRECT if correct else WRONG for correct in of_run[row]["correct"]]
            _draw(axes[row, column], image, of_run[row], colours)
    for axis, name in zip(axes[0], ["ground truth (colour: bin, red is rarest)", *detections], strict=True):
        axis.set_title(name, fontsize=9)
    figure.suptitle(title, fontsize=9)
    return figure


def _draw(axis: Axes, image: np.ndarray, boxes: pd.DataFrame, colours: Sequence[str]) -> None:
    axis.imshow(image)
    axis.set_axis_off()
    for box, colour in zip(boxes.itertuples(index=False), colours, strict=True):
        axis.add_patch(Rectangle((box.x1, box.y1), box.x2 - box.x1, box.y2 - box.y1, fill=False, ec=colour, lw=1.4))
        axis.text(
            box.x1, box.y1, box.name.replace("_", " ")[:18], fontsize=5.5, color="white", va="bottom", clip_on=True,
            parse_math=False,  # a category may be called "$"
            bbox={"facecolor": colour, "edgecolor": "none", "pad": 0.8},
        )  # fmt: skip
