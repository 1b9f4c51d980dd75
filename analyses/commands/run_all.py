"""Whole studies: every run behind a table or figure, for several seeds, and the state of run folders."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from imbalance_bench.commands.options import (
    DATA_DIR,
    DATASET,
    DETECTOR,
    WORK_DIR,
    BatchSizeOption,
    DataDirOption,
    DatasetOption,
    DetectorOption,
    DeviceOption,
    PretrainedOption,
    TrackOption,
    WorkDirOption,
    benchmark,
    parse_seeds,
    say,
)
from imbalance_bench.runtime.errors import InputError, look_up
from imbalance_bench.runtime.files import disk_problem
from imbalance_bench.runtime.progress import duration

if TYPE_CHECKING:
    from imbalance_bench.experiments.cluster import Job

    from ..studies import Row


def run_all(
    tables: Annotated[list[int] | None, typer.Option("--table", help="Table of the paper, 1 to 6.")] = None,
    figures: Annotated[list[int] | None, typer.Option("--figure", help="Figure of the paper: 4 or 5.")] = None,
    seeds: Annotated[str, typer.Option("--seeds", help="Seeds, separated by commas.")] = "0",
    classifier_level: Annotated[
        bool, typer.Option("--classifier-level", help="Only runs on cached proposals, and what they start from.")
    ] = False,
    cluster: Annotated[
        str | None,
        typer.Option("--cluster", help="Run on Ray: ray (the running cluster, else here) or ray://host:port."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be run, and for how long.")] = False,
    dataset: DatasetOption = DATASET,
    detector: DetectorOption = DETECTOR,
    device: DeviceOption = "auto",
    batch_size: BatchSizeOption = None,
    pretrained: PretrainedOption = None,
    track: TrackOption = None,
    data_dir: DataDirOption = DATA_DIR,
    work_dir: WorkDirOption = WORK_DIR,
) -> None:
    """Run everything behind tables and figures of the paper; finished runs are kept, failed ones do not stop the rest.

    Shared work is done once: one baseline a seed, one proposal cache for all classifier-level runs of all studies.
    Killed at any moment, the same command goes on. Tables 2, 3 and 6 take every framework at the scale of --detector.
    With --cluster, all machines share --work-dir and --data-dir; a run whose worker is lost is retried from its
    checkpoint.

    Example: imbalance-bench run-all --table 1 --table 4 --seeds 0,1,2 --dry-run
    """
    from ..commands.plan import show_plan
    from ..studies import STUDIES

    names = [f"table {number}" for number in tables or []] + [f"figure {number}" for number in figures or []]
    if not names:
        raise InputError("name at least one study, e.g. --table 1")
    rows = [row for name in names for row in look_up(STUDIES, name, "study").rows]
    if classifier_level:
        rows = [row for row in rows if row.run == "baseline" or row.method.trains in ("classifier", "nothing")]
    if cluster is not None:
        if device not in ("auto", "cpu"):
            raise InputError(f"option '--device' is '{device}', expected auto or cpu: Ray hands out the GPUs")
        data_dir, work_dir, pretrained = data_dir.resolve(), work_dir.resolve(), pretrained and pretrained.resolve()
    options = {"batch_size": batch_size, "pretrained": pretrained, "track": track}
    benches = {
        (name, seed): benchmark(dataset, name, data_dir, work_dir, seed, device, draw=not dry_run, **options)
        for name in dict.fromkeys(row.detector(detector) for row in rows)
        for seed in parse_seeds(seeds)
    }
    jobs = [
        (bench, row)
        for (name, _), bench in benches.items()
        for row in order(row for row in rows if row.detector(detector) == name)
    ]
    show_plan(jobs)
    if dry_run:
        return
    failed: dict[str, str] = {}
    finished = _in_turn(jobs) if cluster is None else _on_cluster(jobs, cluster)
    for (bench, row), error in finished:
        if error is not None:
            name = f"{row.run}, {bench.detector.name}, seed {bench.seed}"
            if disk_problem(error):
                raise error  # so would all that follow
            failed[name] = f"{type(error).__name__}: {error}"
            say(f"  failed {name}: {error}", style="red")
    if failed:
        raise InputError(f"{len(failed)} of {len(jobs)} runs failed: {'; '.join(failed)}")
    say(f"all {len(jobs)} runs are done")


def _in_turn(jobs: list[Job]) -> Iterator[tuple[Job, Exception | None]]:
    """Run them here; yields each with what it failed with."""
    for job in jobs:
        bench, row = job
        try:
            bench.run(row.method.name, row.variant)
        except Exception as error:
            yield job, error
        else:
            yield job, None


def _on_cluster(jobs: list[Job], cluster: str) -> Iterator[tuple[Job, Exception | None]]:
    """The same on Ray, side by side, with a line for each that is done."""
    from imbalance_bench.experiments.cluster import connect, run_jobs

    if cluster != "ray" and not cluster.startswith("ray://"):
        raise InputError(f"option '--cluster' is '{cluster}', expected ray, or ray://host:port")
    connect(None if cluster == "ray" else cluster)
    start = time.monotonic()
    for count, (job, error) in enumerate(run_jobs(jobs), start=1):
        bench, row = job
        if error is None:
            text = f"✓ {row.run}, {bench.detector.name}, seed {bench.seed}"
            spent = duration(time.monotonic() - start)
            say(f"  {text} ({count} of {len(jobs)}, {spent})")
        yield job, error


def order(rows: Iterable[Row]) -> list[Row]:
    """Each run once, after the runs that it needs."""
    from ..studies import Row

    placed: dict[tuple[str, str], Row] = {}

    def place(row: Row) -> None:
        key = (row.method.name, row.variant)
        if key not in placed:
            for needed in row.method.needs:
                place(Row({}, needed))
            placed[key] = row

    for row in rows:
        place(row)
    return list(placed.values())
