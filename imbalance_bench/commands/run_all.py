"""Whole studies: every run behind a table or figure, for several seeds, and the state of run folders."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    TrackOption,
    WorkDirOption,
    benchmark,
    console,
    show,
)
from imbalance_bench.errors import InputError, look_up
from imbalance_bench.progress import duration
from imbalance_bench.runs import RunFolder

if TYPE_CHECKING:
    from imbalance_bench.benchmark import Benchmark
    from imbalance_bench.studies import Row

MEASURED = Path("results/measured")


def run_all(
    tables: Annotated[list[int] | None, typer.Option("--table", help="Table of the paper: 1, 4 or 5.")] = None,
    figures: Annotated[list[int] | None, typer.Option("--figure", help="Figure of the paper: 4 or 5.")] = None,
    seeds: Annotated[str, typer.Option("--seeds", help="Seeds, separated by commas.")] = "0",
    classifier_level: Annotated[
        bool, typer.Option("--classifier-level", help="Only runs on cached proposals, and what they start from.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be run, and for how long.")] = False,
    dataset: DatasetOption = DATASET,
    detector: DetectorOption = DETECTOR,
    device: DeviceOption = "auto",
    track: TrackOption = None,
    data_dir: DataDirOption = DATA_DIR,
    work_dir: WorkDirOption = WORK_DIR,
) -> None:
    """Run everything behind tables and figures of the paper; finished runs are kept, failed ones do not stop the rest.

    Shared work is done once: one baseline a seed, one proposal cache for all classifier-level runs of all studies.
    Killed at any moment, the same command goes on.

    Example: imbalance-bench run-all --table 1 --table 4 --seeds 0,1,2 --dry-run
    """
    from imbalance_bench.studies import STUDIES

    names = [f"table {number}" for number in tables or []] + [f"figure {number}" for number in figures or []]
    if not names:
        raise InputError("name at least one study, e.g. --table 1")
    rows = [row for name in names for row in look_up(STUDIES, name, "study").rows]
    if classifier_level:
        rows = [row for row in rows if row.run == "baseline" or row.method.trains in ("classifier", "nothing")]
    graph = order(rows)
    benches = [benchmark(dataset, detector, data_dir, work_dir, seed, device, track) for seed in _seeds(seeds)]
    _show_plan(benches, graph)
    if dry_run:
        return
    failed: dict[str, str] = {}
    for bench in benches:
        for row in graph:
            name = f"{row.run}, seed {bench.seed}"
            try:
                bench.run(row.method.name, row.variant)
            except Exception as error:
                failed[name] = f"{type(error).__name__}: {error}"
                console.print(f"  [red]failed[/red] {name}: {error}", highlight=False, soft_wrap=True)
    if failed:
        raise InputError(f"{len(failed)} of {len(benches) * len(graph)} runs failed: {'; '.join(failed)}")
    console.print(f"all {len(benches) * len(graph)} runs are done")


def order(rows: Iterable[Row]) -> list[Row]:
    """Each run once, after the run that it starts from."""
    from imbalance_bench.studies import Row

    placed: dict[tuple[str, str], Row] = {}

    def place(row: Row) -> None:
        key = (row.method.name, row.variant)
        if key not in placed:
            if row.method.starts_from != "scratch":
                place(Row({}, row.method.starts_from))
            placed[key] = row

    for row in rows:
        place(row)
    return list(placed.values())


def _seeds(text: str) -> list[int]:
    try:
        seeds = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(f"option '--seeds' is '{text}', expected numbers separated by commas") from error
    if min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise InputError(f"option '--seeds' is '{text}', expected different numbers from 0")
    return seeds


def _show_plan(benches: list[Benchmark], graph: list[Row]) -> None:
    """What is done, what is left, and how long that takes by the runs of the same kind that are done."""
    import pandas as pd

    seconds: dict[str, list[float]] = {}
    left = [(bench, row) for bench in benches for row in graph if not bench.folder(row.method, row.variant).is_done]
    for bench in benches:
        for row in graph:
            folder = bench.folder(row.method, row.variant)
            if folder.is_done:
                spent = folder.record()["provenance"]["seconds"]
                seconds.setdefault(row.method.trains, []).append(sum(spent.values()))
    estimates = {scope: sum(values) / len(values) for scope, values in seconds.items()}
    frame = pd.DataFrame(
        {
            "run": row.run,
            "trains": row.method.trains,
            "done": f"{sum(bench.folder(row.method, row.variant).is_done for bench in benches)} of {len(benches)}",
            "each takes": duration(estimates[row.method.trains]) if row.method.trains in estimates else "unknown",
        }
        for row in graph
    )
    known = sum(estimates.get(row.method.trains, 0.0) for _, row in left)
    unknown = sum(row.method.trains not in estimates for _, row in left)
    rest = f", and {unknown} runs of unknown length" if unknown else ""
    show(frame, f"{len(left)} of {len(benches) * len(graph)} runs are left", f"about {duration(known)}{rest}")


def runs(work_dir: WorkDirOption = WORK_DIR) -> None:
    """List run folders with their state, key numbers and age.

    Example: imbalance-bench runs
    """
    import pandas as pd

    from analyses.tables import percent

    rows = []
    for path in sorted(work_dir.glob("*/*/seed*/*/settings.json")):
        folder = RunFolder(path.parent)
        metrics = folder.record()["metrics"] if folder.is_done else {}
        newest = max(file.stat().st_mtime for file in folder.path.iterdir() if file.is_file())
        rows.append(
            {
                "run": str(folder.path.relative_to(work_dir)),
                "state": "done" if folder.is_done else "running" if folder.is_held() else "interrupted",
                **{name: percent(metrics.get(name)) for name in ("mAP", "AP1", "ACCbg")},
                "age": duration(time.time() - newest),
            }
        )
    if not rows:
        raise InputError(f"{work_dir}: no run folders there, 'run-baseline' makes the first")
    show(pd.DataFrame(rows), f"runs in {work_dir}")


def export(
    work_dir: WorkDirOption = WORK_DIR,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder that takes the copies.")] = MEASURED,
) -> None:
    """Copy records and per-category tables of finished runs, without checkpoints, to keep or to share them.

    Tables and weight-norm figures can be made from the copies: --work-dir names the folder.

    Example: imbalance-bench export --work-dir work_dirs -o results/measured
    """
    from imbalance_bench.files import write_text

    finished = sorted(path.parent for path in work_dir.glob("*/*/seed*/*/record.json"))
    if not finished:
        raise InputError(f"{work_dir}: no finished run there")
    for folder in finished:
        for name in ("per_category.csv", "record.json"):
            write_text(output / folder.relative_to(work_dir) / name, (folder / name).read_text(encoding="utf-8"))
    console.print(f"{len(finished)} runs copied to {output}", highlight=False, soft_wrap=True)
