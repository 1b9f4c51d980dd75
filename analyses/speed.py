"""The figure of the benchmarks: speed ratios, and time against size."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from imbalance_bench.plotting import CORRECT, WRONG, use_style


def figure(table: pd.DataFrame, title: str = "") -> Figure:
    """Draw speed ratios to the named alternatives as bars, and time against size for benchmarks that vary it.

    Args:
        table: columns ``benchmark``, ``case``, ``ours_s``, ``alternative``, ``ratio``; rows whose ``benchmark`` begins
            with ``cost by`` have a number as their case and no alternative.
        title: title of the figure.
    """
    use_style()
    curves = table[table["benchmark"].str.startswith("cost by")]
    ratios = table.drop(curves.index).reset_index(drop=True)
    sizes = curves.groupby("benchmark", sort=False)
    columns = 1 + len(sizes)
    figure, axes = plt.subplots(
        1, columns, figsize=(7 + 2 * len(sizes), 0.8 + 0.32 * len(ratios)), layout="constrained",
        width_ratios=(3, *[1.2] * len(sizes)), squeeze=False,
    )  # fmt: skip
    bars, *others = axes[0]
    positions = np.arange(len(ratios))
    bars.barh(positions, ratios["ratio"] - 1, left=1, color=[CORRECT if r >= 1 else WRONG for r in ratios["ratio"]])
    for position, ratio in zip(positions, ratios["ratio"], strict=True):
        bars.annotate(
            f"{ratio:.3g}", (max(ratio, 1), position), (3, 0), textcoords="offset points", va="center", fontsize=8
        )
    names = ratios["benchmark"] + " against " + ratios["alternative"] + "\n" + ratios["case"]
    bars.set_yticks(positions, names, fontsize=6.5)
    bars.invert_yaxis()
    bars.set_xscale("log")
    bars.set_xlim(right=2 * ratios["ratio"].max())
    bars.axvline(1, color="black", lw=0.8)
    bars.set(xlabel="times as fast as the alternative", title=title)
    for axis, (name, part) in zip(others, sizes, strict=True):
        what = name.removeprefix("cost by ")
        size = part["case"].astype(float)
        axis.plot(size, part["ours_s"], "o-", ms=4, color=CORRECT)
        # Through the largest, in proportion: what linear growth looks like.
        axis.plot([0, size.max()], [0, part["ours_s"].iloc[size.argmax()]], ":", color="0.4", lw=0.9, label="linear")
        axis.set(xlabel=what, ylabel="seconds", title="BAGS on a large cache" if what == "proposals" else "")
        axis.set_xlim(left=0)
        axis.set_ylim(bottom=0)
        axis.xaxis.set_major_locator(MaxNLocator(3))
        axis.xaxis.set_major_formatter(EngFormatter(sep=""))
        axis.legend()
    return figure
