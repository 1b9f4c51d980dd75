"""Plots of any run: style and colours, weight norms, kinds of errors, detections; each plot returns a Figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from imbalance_bench.evaluation.error_views import BOXES, DETECTIONS, GAINS
from imbalance_bench.evaluation.weight_norms import correlation_text

BIN_COLOURS = ("#b2182b", "#ef8a62", "#67a9cf", "#2166ac")
"""Colours of bins, from fewest to most train instances."""
CORRECT, WRONG = "#0072b2", "#d55e00"
"""Colours of detections: blue and vermilion, which colour-blind readers can distinguish."""
OBJECT = "#333333"
"""Colour of ground truth."""


OKABE_ITO = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Colours of series that colour-blind readers can distinguish (Okabe and Ito), without yellow and black."""

NO_INSTANCE = 0.5
"""Position of a class without an instance on a logarithmic axis."""

_KIND_COLOURS = {
    "right": "#009e73", "localisation": "#f0e442", "both": "#cc79a7", "duplicate": "#999999", "background": "0.75",
    "proposal only": "0.6", "no proposal": "0.85", "no detection": "0.8",
}  # fmt: skip


def bin_colour(number: int, bins: int = len(BIN_COLOURS)) -> str:
    """Return the colour of a bin of so many; of bin 0, the classes without train instances, grey."""
    if not number:
        return "#666666"
    if bins <= len(BIN_COLOURS):
        return BIN_COLOURS[(number - 1) % len(BIN_COLOURS)]
    between = LinearSegmentedColormap.from_list("bins", BIN_COLOURS)
    return str(to_hex(between((number - 1) / (bins - 1))))


def use_style() -> None:
    """Set fonts and lines to the style of a printed paper."""
    import seaborn as sns  # imported late: it takes a second, which a wrong command should not wait for

    sns.set_theme(context="paper", style="ticks", font_scale=1.05)
    matplotlib.rcParams.update(
        {"figure.dpi": 110, "savefig.bbox": "tight", "axes.spines.top": False,
         "axes.spines.right": False, "legend.frameon": False}
    )  # fmt: skip


def save(figure: Figure, path: Path, dpi: int = 200) -> Path:
    """Write a figure in the format given by the suffix, and close it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=dpi)
    plt.close(figure)
    return path


def draw_shares(axis: Axes, table: pd.DataFrame, label: str, of: str) -> None:
    """Draw shares that sum to one as stacked bars, one bar per row.

    Args:
        axis: the axes to draw on.
        table: index ``1``.., ``all`` or ``background``; columns are kinds, including ``bin 1``...
        label: label of the x axis.
        of: prefix of the names of columns ``bin 1``.. in the legend.
    """
    left = np.zeros(len(table))
    names = [f"bin {name}" if str(name).isdigit() else str(name) for name in table.index]
    for column in table:
        width = 100 * table[column].fillna(0).to_numpy(dtype=float)
        of_bin = str(column).startswith("bin ")
        colour = bin_colour(int(column[4:])) if of_bin else _KIND_COLOURS[column]
        name = f"{of} {column}" if of_bin else column
        axis.barh(names, width, left=left, color=colour, height=0.72, label=name)
        left += width
    axis.invert_yaxis()
    axis.set(xlim=(0, 100), xlabel=label)


def weight_norms(frames: Mapping[str, pd.DataFrame], bin_names: Sequence[str], title: str = "") -> Figure:
    """Plot weight norm against rank by train instances, background at rank 0 (Figures 1 and 3).

    The classes of each table are ranked by its own instances, so that tables of different data sets can be compared. A
    class without an instance is drawn at 0.5 in the lower panel, whose axis is logarithmic.

    Args:
        frames: per-category tables by run; columns ``instance_count``, ``bin``, ``weight_norm``, background in the
            last row.
        bin_names: intervals of the first table's bins.
        title: title of the figure.
    """
    import seaborn as sns

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
    """Draw dashed lines between bins, with number and interval of each bin at the top."""
    for number in sorted(set(bins.tolist())):
        inside = np.flatnonzero(bins == number) + 1
        interval = bin_names[number - 1] if number else "0"
        axes[0].text(
            inside.mean(), 0.99, f"bin {number}\n{interval}", ha="center", va="top", fontsize=7,
            color="0.35", transform=axes[0].get_xaxis_transform(),
        )  # fmt: skip
        for axis in axes:
            if inside.max() < len(bins):
                axis.axvline(inside.max() + 0.5, color="0.5", lw=0.8, ls="--")


def reach(values: np.ndarray) -> float:
    """Return how far an axis reaches: to the largest value, or where this is far beyond the others, to theirs.

    Args:
        values: (N,) in the axis' direction; those against it do not count.
    """
    ascending = np.sort(values[values > 0])
    if not len(ascending):
        return 0.0
    while len(ascending) > 3 and ascending[-1] > 2 * ascending[-2]:
        ascending = ascending[:-1]
    return float(ascending[-1])


def contact_sheet(
    images: Sequence[np.ndarray],
    ground_truth: Sequence[pd.DataFrame],
    detections: Mapping[str, Sequence[pd.DataFrame]],
    title: str = "",
) -> Figure:
    """Draw validation images, one row each: ground truth, then the detections of each run; boxes are numbered.

    The key of the numbers stands below each image.

    Args:
        images: (h, w, 3) RGB.
        ground_truth: boxes of each image; columns ``x1 y1 x2 y2 name bin``.
        detections: detections of each image, by run; columns ``x1 y1 x2 y2 name correct``; dashed if not correct.
        title: title of the figure.
    """
    use_style()
    columns = 1 + len(detections)
    figure, axes = plt.subplots(
        len(images), columns, figsize=(2.6 * columns, 3.5 * len(images)), squeeze=False,
        layout=ConstrainedLayoutEngine(h_pad=0.1),
    )  # fmt: skip
    for row, (image, objects) in enumerate(zip(images, ground_truth, strict=True)):
        named = objects.assign(name=objects["name"].str[:14] + " (bin " + objects["bin"].astype(str) + ")")
        _draw(axes[row, 0], image, named, [OBJECT] * len(objects))
        for column, of_run in enumerate(detections.values(), start=1):
            colours = [CORRECT if correct else WRONG for correct in of_run[row]["correct"]]
            _draw(axes[row, column], image, of_run[row], colours)
    for axis, name in zip(axes[0], ["objects", *detections], strict=True):
        axis.set_title(name, fontsize=9)
    figure.suptitle(title, fontsize=9)
    return figure


def _draw(axis: Axes, image: np.ndarray, boxes: pd.DataFrame, colours: Sequence[str]) -> None:
    """Draw an image with numbered boxes, and their key in two columns below it."""
    axis.imshow(image)
    axis.set_axis_off()
    lines = -(-len(boxes) // 2)
    for number, (box, colour) in enumerate(zip(boxes.itertuples(index=False), colours, strict=True)):
        axis.add_patch(
            Rectangle(
                (box.x1, box.y1), box.x2 - box.x1, box.y2 - box.y1, fill=False, ec=colour, lw=1.4,
                ls="--" if colour == WRONG else "-",
            )
        )  # fmt: skip
        axis.text(
            box.x1, box.y1, str(number + 1), fontsize=6, color="white", va="center", ha="center", clip_on=True,
            bbox={"facecolor": colour, "edgecolor": "none", "pad": 1},
        )  # fmt: skip
        column, line = divmod(number, lines)
        axis.text(
            0.5 * column, -0.03 - 0.055 * line, f"{number + 1}  {box.name.replace('_', ' ')[:22]}", fontsize=6,
            color=colour, va="top", transform=axis.transAxes, parse_math=False,  # a category may be called "$"
        )  # fmt: skip


def errors(tables: Mapping[str, pd.DataFrame], title: str = "") -> Figure:
    """Plot the tables of ``error_views.by_bin``: shares as stacked bars, below the gain of correcting each kind."""
    use_style()
    sheet, axes = plt.subplots(3, 1, figsize=(7.4, 7.2), height_ratios=(1, 1, 1.25), layout="constrained")
    draw_shares(axes[0], tables[DETECTIONS], "best detections of the bin's classes (%)", "on a box of")
    boxes = tables[BOXES].drop(columns="missed")
    draw_shares(axes[1], boxes, "boxes of the bin's classes, by the best detection on each (%)", "a class of")
    for axis in axes[:2]:
        axis.legend(fontsize=6.5, loc="center left", bbox_to_anchor=(1.0, 0.5))
    gained = 100 * tables[GAINS].drop(columns="ap50").drop(index="all")
    width = 0.8 / max(len(gained), 1)
    for number, (name, row) in enumerate(gained.iterrows()):
        places = np.arange(len(row)) + (number - (len(gained) - 1) / 2) * width
        colour = bin_colour(int(str(name)))
        axes[2].bar(places, row.fillna(0), width * 0.92, color=colour, label=f"bin {name}")
    axes[2].axhline(0, color="0.4", lw=0.6)
    axes[2].set_xticks(range(len(gained.columns)), gained.columns)
    axes[2].set(ylabel="gain in AP50 (points)", xlabel="kind of error that is mended")
    axes[2].legend(fontsize=7, ncols=len(gained))
    sheet.suptitle(title)
    return sheet
