"""The command that compares what the methods gain on different data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imbalance_bench.commands.options import show, written

MEASURED = Path("results/measured")


def carry_over(
    results: Annotated[Path, typer.Argument(help="Folder with '<data set>/beyond.csv' of each data set.")] = MEASURED,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder that takes carry_over.csv and its correlations.")
    ] = None,
) -> None:
    """Compare the gains of the methods between data sets, and with the paper's: what carries over, and what does not.

    Needs what 'beyond --output' wrote for each data set; trains nothing.

    Example: imbalance-bench carry-over results/measured
    """
    import pandas as pd

    from imbalance_bench.runtime.files import write_text

    from .. import carry_over as analysis

    gains = analysis.collect(results)
    over_images = gains.loc[gains["over"] == "images", "world"].unique()
    caption = (
        "points of AP over x2-cls with a 95 % interval: of the mean over seeds, or of one seed over images ("
        f"{', '.join(over_images) or 'none'}); the paper's over its row x2, which trains everything"
    )
    for group in ("tail", "head"):
        show(analysis.table(gains, group), f"gain over plain longer training, {group}", caption)
    related = pd.concat([analysis.correlations(gains, group) for group in analysis.GAINS], ignore_index=True)
    shown = related.assign(spearman=[f"{value:+.2f}" for value in related["spearman"]])
    show(shown, "rank correlation of the gains over the baseline, over the methods that both have")
    agreed = analysis.agreement(gains).reset_index()
    show(agreed, "gain on the tail over x2-cls: real (+, -) or not (~)", "its interval leaves out 0")
    worlds = analysis.worlds(results, gains).reset_index()
    if len(worlds):
        whole = ("classes", "train instances", "imbalance")
        formats = {name: "{:,.0f}" if name in whole else "{:.2f}" for name in worlds.select_dtypes("number")}
        show(
            worlds.assign(**{name: worlds[name].map(form.format) for name, form in formats.items()}).T.reset_index(),
            "what distinguishes the data sets",
            "imbalance: the largest count over the least; background: share of the validation proposals; recall: of "
            "boxes by proposals; separability: share of a class's proposals that the nearest class mean names right",
        )
    if output is not None:
        frames = {"carry_over": gains, "carry_over_correlations": related, "carry_over_worlds": worlds}
        for name, frame in frames.items():
            write_text(output / f"{name}.csv", frame.to_csv(index=False))
            written(output / f"{name}.csv")
