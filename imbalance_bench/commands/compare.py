"""The command that compares two runs on the same images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imbalance_bench.commands.evaluate import show_protocol
from imbalance_bench.commands.options import DATA_DIR, DataDirOption, SeedOption, console, show
from imbalance_bench.runtime.errors import InputError


def compare(
    run_a: Annotated[Path, typer.Argument(help="Run folder.")],
    run_b: Annotated[Path, typer.Argument(help="Another, on the same data set.")],
    resamples: Annotated[int, typer.Option("--resamples", min=10, help="Draws of the validation images.")] = 200,
    seed: SeedOption = 0,
    data_dir: DataDirOption = DATA_DIR,
) -> None:
    """Compare the AP of two runs: the difference and its 95 % interval over images.

    Both runs get the same draws of validation images. The interval covers the random choice of
    images, not of training (run several seeds) or of classes ('evaluate').

    Example: imbalance-bench compare work_dirs/emoji-lt-small/tiny/seed0/x2-cls work_dirs/emoji-lt-small/tiny/seed0/bags
    """
    from imbalance_bench.datasets import registry
    from imbalance_bench.evaluation.ground_truth import GroundTruth
    from imbalance_bench.evaluation.uncertainty import paired
    from imbalance_bench.evaluation.views import limits, percent
    from imbalance_bench.experiments.run_folder import RunFolder
    from imbalance_bench.runtime.progress import Reporter

    names = {RunFolder(run).record()["settings"]["dataset"] for run in (run_a, run_b)}
    for run in (RunFolder(run_a), RunFolder(run_b)):
        run.verified(run.detections)
    if len(names) > 1:
        raise InputError(f"{run_b}: evaluated on another data set than {run_a} ({' and '.join(sorted(names))})")
    data = registry.prepare(names.pop(), data_dir, Reporter(console))
    with console.status("drawing validation images"):
        frame = paired(
            run_a, run_b, data.val_annotations, data.categories(), lvis_style=data.lvis_style,
            resamples=resamples, seed=seed,
        )  # fmt: skip
    shown = frame.assign(real=frame["real"].map({True: "yes", False: "no"}))
    for column in ("a", "b", "difference"):
        shown[column] = shown[column].map(percent)
    show(
        limits(shown, "images").reset_index(),
        f"a: {run_a.name}, b: {run_b.name}; AP in percent",
        f"95 % over images: interval of b - a over {resamples} draws of the validation images; real: it excludes 0",
    )
    show_protocol(GroundTruth.read(data.val_annotations, data.categories(), lvis_style=data.lvis_style))
