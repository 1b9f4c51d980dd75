"""The command that puts every remedy that a frozen detector can host into one table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imbalance_bench.commands.options import (
    DATA_DIR,
    DATASET,
    DETECTOR,
    WORK_DIR,
    DataDirOption,
    DatasetOption,
    DetectorOption,
    DeviceOption,
    WorkDirOption,
    parse_seeds,
    say,
    setup,
    show,
    written,
)


def beyond(
    seeds: Annotated[str, typer.Option("--seeds", help="Seeds, separated by commas.")] = "0",
    tune: Annotated[
        bool, typer.Option("--tune/--no-tune", help="Also choose settings on held-out training images.")
    ] = True,
    cosine: Annotated[
        bool, typer.Option("--cosine/--no-cosine", help="Also each trained loss under a cosine classifier.")
    ] = True,
    methods: Annotated[
        str | None, typer.Option("--methods", help="Methods, separated by commas, if not all that fit.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder that takes beyond.csv, beyond.md and beyond.png.")
    ] = None,
    dataset: DatasetOption = DATASET,
    detector: DetectorOption = DETECTOR,
    device: DeviceOption = "auto",
    data_dir: DataDirOption = DATA_DIR,
    work_dir: WorkDirOption = WORK_DIR,
) -> None:
    """Every method that trains the classifier alone, or nothing, on one frozen detector a seed.

    Each with its default settings, with those that do best on held-out training images, chosen for all by the same
    rule, and, where it trains a linear classifier, with a cosine one in its place. Finished runs are kept; killed at
    any moment, the same command goes on.

    Example: imbalance-bench beyond --seeds 0,1,2 --output results
    """
    from imbalance_bench import methods as catalogue

    # The baseline is run in any case, and a row of the table.
    tried = catalogue.candidates(tuple(n for n in methods.split(",") if n != "baseline") if methods else None)
    for seed in parse_seeds(seeds):
        on = setup(dataset, detector, data_dir, seed, device)
        from imbalance_bench.experiments.benchmark import Benchmark
        from imbalance_bench.experiments.tuning import run_tuned

        bench = Benchmark(on, work_dir)
        bench.run("baseline")
        for method in tried:
            bench.run(method.default)
            if tune and method.tune:
                run_tuned(bench, method)
            if cosine and (run := method.under_a_cosine):
                bench.run(run)

    from .. import beyond as analysis

    frame = analysis.summary(analysis.collect(work_dir / dataset / detector))
    table = analysis.shown(frame)
    caption = f"percent; ±: deviation over seeds; {analysis.CAPTION}"
    show(table, f"{dataset}, {detector}: every method on a frozen detector", caption)
    if output is not None:
        from imbalance_bench import plotting
        from imbalance_bench.runtime.files import write_text

        from ..tables import markdown

        write_text(output / "beyond.csv", frame.to_csv(index=False))
        write_text(output / "beyond.md", markdown(table) + "\n")
        figure = analysis.figure(frame, f"{dataset}, {detector}")
        for path in (output / "beyond.csv", output / "beyond.md", plotting.save(figure, output / "beyond.png")):
            written(path)
    say(f"run folders: {work_dir / dataset / detector}")
