"""The command that shows the groups of BAGS before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imbalance_bench.commands.options import (
    DATA_DIR,
    DATASET,
    DataDirOption,
    DatasetOption,
    OutputOption,
    say,
    show,
    written,
)
from imbalance_bench.runtime.errors import InputError


def groups(
    edges: Annotated[
        str | None, typer.Option("--edges", help="Lower bounds of groups 2, 3, ... such as 10-100-1000.")
    ] = None,
    number: Annotated[int, typer.Option("--groups", help="How many groups to balance.", min=1)] = 4,
    counts: Annotated[
        Path | None, typer.Option("--counts", help="A CSV with column instance_count, in the place of a data set.")
    ] = None,
    annotations: Annotated[
        Path | None, typer.Option("--train-annotations", help="Or training annotations, COCO or LVIS format.")
    ] = None,
    dataset: DatasetOption = DATASET,
    data_dir: DataDirOption = DATA_DIR,
    output: OutputOption = None,
) -> None:
    """Show possible groups for BAGS: the paper's, from the bins, and balanced ones or your own.

    Balanced groups have totals of train instances that are as equal as possible. Nothing is trained; the caption says
    how to train with them.

    Example: imbalance-bench groups --dataset emoji-lt-small --groups 4
    """
    import pandas as pd

    from imbalance_bench.categories import CategoryTable
    from imbalance_bench.evaluation.views import percent
    from imbalance_bench.methods.group_design import design
    from imbalance_bench.methods.paper_rows import group_bounds

    if counts is not None and annotations is not None:
        raise InputError("options '--counts' and '--train-annotations': expected one of them")
    if counts is not None:
        categories = CategoryTable.from_counts(counts)
    elif annotations is not None:
        categories = CategoryTable.from_annotations(annotations)
    else:
        from imbalance_bench.datasets import registry

        categories = registry.get(dataset, data_dir).categories()
    chosen = edges or "balanced"
    option = "--edges" if edges else "--groups"
    try:
        bounds = group_bounds(categories, number, chosen)
    except ValueError as error:
        raise InputError(f"option '{option}': {error}") from error
    designs = {"bins": design(categories, categories.bin_edges), chosen: design(categories, bounds)}
    variant = f"edges={chosen}" + (f",groups={number}" if chosen == "balanced" and number != 4 else "")
    captions = {
        "bins": "run-baseline --method bags",
        chosen: f"run-baseline --method bags --variant {variant}; edges {'-'.join(map(str, bounds)) or 'none'}",
    }
    for name, frame in designs.items():
        cells = {"share": frame["share"].map(percent), "ratio": frame["ratio"].map("{:.0f}".format)}
        show(frame.assign(**cells).reset_index(), f"groups: {name}", captions[name])
    if output is not None:
        from imbalance_bench.runtime.files import write_text

        joined = pd.concat(designs, names=["groups"]).reset_index()
        write_text(output, joined.to_csv(index=False))
        written(output)
    say("share: of all train instances, percent; ratio: most to fewest within a group", style="dim")
