"""The command that runs whole studies: every run of a table or figure, for several seeds."""

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
    BackboneWeightsOption,
    BatchSizeOption,
    CurveOption,
    DataDirOption,
    DatasetOption,
    DetectorOption,
    DeviceOption,
    FromScratchOption,
    PrecisionOption,
    PretrainedOption,
    TrackOption,
    WorkDirOption,
    parse_seeds,
    say,
    setup,
    written,
)
from imbalance_bench.runtime.errors import InputError, look_up
from imbalance_bench.runtime.files import disk_problem
from imbalance_bench.runtime.progress import duration

if TYPE_CHECKING:
    from pathlib import Path

    from imbalance_bench.experiments.benchmark import Benchmark
    from imbalance_bench.experiments.cluster import Job


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
    precision: PrecisionOption = "auto",
    pretrained: PretrainedOption = None,
    backbone_weights: BackboneWeightsOption = None,
    from_scratch: FromScratchOption = False,
    track: TrackOption = None,
    curve: CurveOption = False,
    data_dir: DataDirOption = DATA_DIR,
    work_dir: WorkDirOption = WORK_DIR,
) -> None:
    """Run everything for tables and figures of the paper; finished runs are kept, failed ones do not stop the rest.

    Shared work is done once: one baseline per seed, one proposal cache for all classifier-level runs of all studies.
    After an interruption, the same command continues. Tables 2, 3 and 6 use every framework at the scale of --detector.
    At the end, all runs of each detector are one page ('report').
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
        rows = [row for row in rows if row.run.keeps_detector or str(row.run) == "baseline"]
    if cluster is not None:
        if device not in ("auto", "cpu"):
            raise InputError(f"option '--device' is '{device}', expected auto or cpu: Ray hands out the GPUs")
        data_dir, work_dir = data_dir.resolve(), work_dir.resolve()
        pretrained = pretrained and pretrained.resolve()
        backbone_weights = backbone_weights and backbone_weights.resolve()
    setups = {
        (name, seed): setup(dataset, name, data_dir, seed, device, draw=not dry_run)
        for name in dict.fromkeys(row.detector(detector) for row in rows)
        for seed in parse_seeds(seeds)
    }
    from imbalance_bench.experiments.benchmark import Benchmark

    benches = {
        key: Benchmark(
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
        for key, on in setups.items()
    }
    jobs = order(
        (bench, row.run) for (name, _), bench in benches.items() for row in rows if row.detector(detector) == name
    )
    show_plan(jobs)
    if dry_run:
        return
    failed: dict[str, str] = {}
    finished = _in_turn(jobs) if cluster is None else _on_cluster(jobs, cluster)
    for (bench, run), error in finished:
        if error is not None:
            name = f"{run}, {bench.setup.detector.name}, seed {bench.setup.seed}"
            if disk_problem(error):
                raise error  # so would all that follow
            failed[name] = f"{type(error).__name__}: {error}"
            say(f"  failed {name}: {error}", style="red")
    if len(failed) < len(jobs):
        _write_pages(benches.values(), data_dir)
    if failed:
        raise InputError(f"{len(failed)} of {len(jobs)} runs failed: {'; '.join(failed)}")
    say(f"all {len(jobs)} runs are done")


def _write_pages(benches: Iterable[Benchmark], data_dir: Path) -> None:
    """Write the page of each detector, into the folder of its seeds."""
    from .. import study_page

    reporters = {bench.root.parent: bench.setup.reporter for bench in benches}
    for root, reporter in reporters.items():
        if any(root.glob("seed*/*/record.json")):
            written(study_page.write(root, root / "report.html", data_dir, reporter))


def _in_turn(jobs: list[Job]) -> Iterator[tuple[Job, Exception | None]]:
    """Run the jobs in this process, one after the other; yield each with its error or None."""
    for job in jobs:
        bench, run = job
        try:
            bench.run(run)
        except Exception as error:
            yield job, error
        else:
            yield job, None


def _on_cluster(jobs: list[Job], cluster: str) -> Iterator[tuple[Job, Exception | None]]:
    """Run the jobs in parallel on Ray; print a line for each finished one, and yield each with its error or None."""
    from imbalance_bench.experiments.cluster import connect, run_jobs

    if cluster != "ray" and not cluster.startswith("ray://"):
        raise InputError(f"option '--cluster' is '{cluster}', expected ray, or ray://host:port")
    connect(None if cluster == "ray" else cluster)
    start = time.monotonic()
    for count, (job, error) in enumerate(run_jobs(jobs), start=1):
        bench, run = job
        if error is None:
            text = f"✓ {run}, {bench.setup.detector.name}, seed {bench.setup.seed}"
            spent = duration(time.monotonic() - start)
            say(f"  {text} ({count} of {len(jobs)}, {spent})")
        yield job, error


def order(jobs: Iterable[Job]) -> list[Job]:
    """Return each job once, after the jobs that it needs."""
    placed: dict[Path, Job] = {}

    def place(job: Job) -> None:
        bench, run = job
        path = bench.folder(run).path
        if path not in placed:
            for needed in bench.needs(run):
                place(needed)
            placed[path] = job

    for job in jobs:
        place(job)
    return list(placed.values())
