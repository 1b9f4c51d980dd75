"""Commands that list and train methods."""

from __future__ import annotations

from typing import Annotated

import typer

from imbalance_bench.commands.evaluate import AP_CAPTION, show_groups, show_protocol
from imbalance_bench.commands.options import (
    DATA_DIR,
    DATASET,
    DETECTOR,
    WORK_DIR,
    BackboneWeightsOption,
    BatchSizeOption,
    CurveOption,
    DataDirOption,
    DatasetOption,
    DetectorOption,
    DeviceOption,
    FromScratchOption,
    LauncherOption,
    OutputOption,
    PrecisionOption,
    PretrainedOption,
    SeedOption,
    TrackOption,
    WorkDirOption,
    console,
    joined,
    say,
    setup,
    show,
    written,
)
from imbalance_bench.runtime.errors import InputError


def methods(output: OutputOption = None) -> None:
    """List the methods: their row in the paper's Table 1, what they train, their variants and sources.

    Example: imbalance-bench methods -o methods.csv
    """
    import pandas as pd
    from rich.text import Text

    from imbalance_bench.methods import METHODS

    rows = [
        {
            "name": method.name,
            "Table 1": "-" if method.paper_row is None else f"({method.paper_row})",
            "family": method.family,
            "trains": {"classifier": "W, b"}.get(method.trains, method.trains),
            "from": method.starts_from,
            "variants": ", ".join(method.variants),
            "year": method.year,
            "arXiv": method.source if method.is_on_arxiv else "-",
        }
        for method in METHODS.values()
    ]
    frame = pd.DataFrame(rows)
    address = [method.address for method in METHODS.values()]
    links = [Text(number, style=f"link {url}") for number, url in zip(frame["arXiv"], address, strict=True)]
    first = ["name", "variants"]  # what is typed
    shown = frame.assign(arXiv=links)[first + [column for column in frame if column not in first]]
    show(shown, "methods, their default variant first")
    if output is not None:
        from imbalance_bench.runtime.files import write_text

        write_text(output, frame.assign(source=address).to_csv(index=False))
        written(output)


def run_baseline(
    method: Annotated[str, typer.Option("--method", help="Method ('methods' lists them).")] = "baseline",
    variant: Annotated[str | None, typer.Option("--variant", help="Variant, if not the default.")] = None,
    tune: Annotated[
        bool, typer.Option("--tune", help="Choose the method's settings on held-out training images.")
    ] = False,
    dataset: DatasetOption = DATASET,
    detector: DetectorOption = DETECTOR,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    batch_size: BatchSizeOption = None,
    precision: PrecisionOption = "auto",
    pretrained: PretrainedOption = None,
    backbone_weights: BackboneWeightsOption = None,
    from_scratch: FromScratchOption = False,
    track: TrackOption = None,
    curve: CurveOption = False,
    launcher: LauncherOption = "none",
    data_dir: DataDirOption = DATA_DIR,
    work_dir: WorkDirOption = WORK_DIR,
) -> None:
    """Train and evaluate a method; first prepare what it needs: the data, the baseline, its proposals.

    Finished runs are reused, interrupted ones continue. With --launcher several processes share a run:
    torchrun --nproc-per-node 8 cli.py run-baseline --launcher pytorch

    Example: imbalance-bench run-baseline --method tau-norm --dataset emoji-lt-small
    """
    from imbalance_bench.methods import METHODS, get

    run = get(method).run(variant)
    if tune and (variant is not None or launcher != "none"):
        raise InputError(
            "option '--tune' chooses the variant itself, in one process: expected no --variant, --launcher"
        )
    if tune and not run.method.tune:
        choices = ", ".join(name for name, record in METHODS.items() if record.tune)
        raise InputError(f"option '--tune': '{method}' has no settings to choose, expected one of {choices}")
    with joined(launcher, device):
        on = setup(dataset, detector, data_dir, seed, device)
        from imbalance_bench.experiments.benchmark import Benchmark
        from imbalance_bench.experiments.tuning import run_tuned

        bench = Benchmark(
            on,
            work_dir,
            batch_size=batch_size,
            precision=precision,
            pretrained=pretrained,
            backbone_weights=backbone_weights,
            from_scratch=from_scratch,
            track=track,
            curve=curve,
        )
        folder = run_tuned(bench, run.method) if tune else bench.run(run)
    if console.quiet:
        return

    from imbalance_bench.evaluation.views import accuracy_by_bin, ap_by_bin

    table, title = folder.verified(folder.per_category), f"{run} on {dataset}"
    show_groups(ap_by_bin(table), f"{title}: average precision, percent", AP_CAPTION)
    show_groups(accuracy_by_bin(table), f"{title}: proposal accuracy, percent", on.categories.bins_line)
    show_protocol(on.ground_truth)
    say(f"run folder: {folder.path}")
