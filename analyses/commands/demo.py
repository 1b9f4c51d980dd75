"""The command that repeats the study on embedded data."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from imbalance_bench.commands.options import (
    DATA_DIR,
    WORK_DIR,
    DataDirOption,
    DeviceOption,
    PrecisionOption,
    SeedOption,
    WorkDirOption,
    say,
    setup,
)
from imbalance_bench.runtime.errors import InputError

RUNS = (
    "baseline",
    "x2-cls",
    "reweight-cls",
    "focal-cls",
    "focal-cls:fixed",
    "ncm-fc",
    "ncm-fc:fixed",
    "tau-norm",
    "tau-norm-select",
    "bags",
)
"""The classifier-level rows of Table 1."""


def demo(
    size: Annotated[str, typer.Option("--size", help="mini (a few minutes) or small (a quarter of an hour).")] = (
        "small"
    ),
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    data_dir: DataDirOption = DATA_DIR,
    work_dir: WorkDirOption = WORK_DIR,
) -> None:
    """Repeat the study on the embedded long-tail set: train, measure, compare.

    Draws emoji-lt, trains a small Faster R-CNN on it, caches its proposals once, runs the classifier-level methods
    of the paper's Table 1 on them, and ends with the table, the figures and one page with all of it ('report').
    Finished steps are kept: a second call, or one after an interruption, runs only what is missing.

    Example: imbalance-bench demo --size mini
    """
    if size not in ("mini", "small"):
        raise InputError(f"option '--size' is '{size}', expected mini or small")
    on = setup(f"emoji-lt-{size}", "tiny", data_dir, seed, device)
    from imbalance_bench.experiments.benchmark import Benchmark

    bench = Benchmark(on, work_dir, precision=precision)
    for run in RUNS:
        bench.run(run)

    from .. import outputs, study_page
    from ..commands.study import print_study
    from ..studies import STUDIES

    folder = bench.root / "report"
    root, study = bench.root.parent, STUDIES["table 1"]
    print_study(root, study)
    written = outputs.write_study(root, study, folder)
    with on.reporter.task("figures", 3) as advance:
        for draw in (
            lambda: outputs.draw_weight_norms(bench.root, folder / "weight_norms.png"),
            lambda: outputs.draw_ap_by_bin(root, folder / "ap_by_bin.png"),
            lambda: outputs.draw_detections(bench.root, on.dataset, folder / "detections.png"),
        ):
            written.append(draw())
            advance()
    written.append(study_page.write(root, folder / "report.html", data_dir, on.reporter))
    say("\nwritten", style="bold")
    for path in written:
        say(f"  {path}")
    say(f"  {bench.root}/<method>: checkpoint, per-category table, detections, record")
    say("\nnext", style="bold")
    program = "python cli.py" if Path(sys.argv[0]).name == "cli.py" else "imbalance-bench"
    where = f"--dataset {on.dataset.name}"
    checkpoint = bench.root / "bags" / "checkpoint.pth"
    say(f"  {program} run-baseline --method bags --variant paper {where}")
    say(f"  {program} weight-norms {checkpoint}")
    say(f"  {program} methods")
