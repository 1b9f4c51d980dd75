"""The command that compares all methods for a frozen detector in one table."""

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
    PrecisionOption,
    WorkDirOption,
    parse_names,
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
    precision: PrecisionOption = "auto",
    data_dir: DataDirOption = DATA_DIR,
    work_dir: WorkDirOption = WORK_DIR,
) -> None:
    """Compare all methods that train only the classifier, or nothing, on one frozen detector per seed.

    Each method runs with its default settings and with the settings that are best on held-out training images, chosen
    by the same rule for all. Methods that train a linear classifier also run with a cosine classifier. Finished runs
    are kept; after an interruption, the same command continues.

    Example: imbalance-bench beyond --seeds 0,1,2 --output results
    """
    from imbalance_bench import methods as catalogue

    # The baseline is run in any case, and a row of the table.
    named = parse_names(methods)
    tried = catalogue.candidates(None if named is None else tuple(name for name in named if name != "baseline"))
    for seed in parse_seeds(seeds):
        on = setup(dataset, detector, data_dir, seed, device)
        from imbalance_bench.experiments.benchmark import Benchmark
        from imbalance_bench.experiments.tuning import run_tuned

        bench = Benchmark(on, work_dir, precision=precision)
        bench.run("baseline")
        for method in tried:
            bench.run(method.candidate)
            if tune and method.tune:
                run_tuned(bench, method)
            if cosine and (run := method.under_a_cosine):
                bench.run(run)

    from .. import beyond as analysis

    root = work_dir / dataset / detector
    runs = analysis.collect(root)
    frame = analysis.summary(runs)
    if runs["seed"].nunique() == 1:
        frame = analysis.over_images(frame, runs, root, on.ground_truth)
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
    say(f"run folders: {root}")
