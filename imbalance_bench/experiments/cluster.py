"""Many runs on a Ray cluster: each is one task, which waits for the tasks of the runs it needs.

Ray schedules, places and retries; a task is ``Benchmark.run`` on a work dir that every machine sees, so a run whose
worker was killed goes on from its checkpoint on whichever machine Ray retries it.
"""

from __future__ import annotations

import logging
import os
import platform
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from imbalance_bench.methods import Run
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.files import write_text

if TYPE_CHECKING:
    from imbalance_bench.experiments.benchmark import Benchmark

    Job: TypeAlias = tuple[Benchmark, Run]
    """A run, and the benchmark that runs it."""

RETRIES = 3
"""Of a task whose worker or machine was lost; errors of the run itself are not retried."""
CPUS = 4
"""Of a task that trains a detector on CPUs, where machines have that many: more of them hardly help a tiny one."""
GPU_SHARE = 0.25
"""Of a task that trains only a classifier, where there are GPUs."""
PATIENCE = 60.0
"""Seconds that a retried task waits for its predecessor to let go of the run folder."""


def connect(address: str | None = None) -> None:
    """Connect to a cluster, unless this process is connected.

    Args:
        address: ``ray://host:port`` of a cluster; None for the running one (``RAY_ADDRESS``, or one started here), or
            else one of this machine alone, for as long as this process runs.

    Raises:
        InputError: Ray does not answer there.
    """
    import ray

    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = address or os.environ.get("RAY_ADDRESS") or "this machine"
        raise InputError(f"option '--cluster': no Ray cluster at {where} ({error})") from error


def run_jobs(jobs: Sequence[Job], cpus: int = CPUS) -> Iterator[tuple[Job, Exception | None]]:
    """Run all jobs on the cluster that this process has joined.

    A job that fails fails those that need it, and no others.

    Args:
        jobs: benchmarks of one work dir, and runs; what a run needs comes before it.
        cpus: at most, of a task that trains a detector where there are no GPUs.

    Yields:
        Each job when it is done, with the error that it failed with.

    Raises:
        InputError: a machine of the cluster does not see the work dir.
    """
    import ray

    task = ray.remote(max_retries=RETRIES)(_run)
    tasks: dict[Any, Job] = {}
    refs: dict[Path, Any] = {}
    with _marker([bench.work_dir for bench, _ in jobs]) as marker:
        _check_machines(marker)
        for job in jobs:
            bench, run = job
            needed = [refs[on.folder(other).path] for on, other in bench.needs(run)]
            name = f"{run}, {bench.setup.detector.name}, seed {bench.setup.seed}"
            ref = task.options(name=name, **resources(run, cpus)).remote(bench, str(run), marker, sys.argv, *needed)
            refs[bench.folder(run).path] = ref
            tasks[ref] = job
        while tasks:
            (ref,), _ = ray.wait(list(tasks), num_returns=1)
            yield tasks.pop(ref), _error(ref)


def _run(bench: Benchmark, run: str, marker: Path, command: list[str], *needed: None) -> None:
    """Do one run as a task; ``needed`` are the tasks of the runs it needs, so that Ray waits for them."""
    import ray
    import torch

    _check_visible(marker)
    cpus = ray.get_runtime_context().get_assigned_resources().get("CPU", 1)
    torch.set_num_threads(max(int(cpus), 1))
    sys.argv[:] = command  # the run's record tells the command that was given
    folder, deadline = bench.folder(run), time.monotonic() + PATIENCE
    while folder.is_held() and time.monotonic() < deadline:
        time.sleep(1)
    bench.run(run)


def resources(run: Run, cpus: int) -> dict[str, float]:
    """Return the CPUs and GPUs of a task: for a detector one GPU if there is one, else up to ``cpus`` CPUs."""
    import ray

    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if any(machine.get("GPU") for machine in machines):
        return {"num_cpus": 1, "num_gpus": GPU_SHARE if run.keeps_detector else 1}
    largest = int(max(machine.get("CPU", 0) for machine in machines))
    return {"num_cpus": 1 if run.keeps_detector else max(min(cpus, largest), 1)}


def _error(ref: Any) -> Exception | None:
    """Return the error of a finished task, or None."""
    import ray

    try:
        ray.get(ref)
    except ray.exceptions.RayTaskError as error:
        return error.cause
    except ray.exceptions.RayError as error:
        return error
    return None


@contextmanager
def _marker(work_dirs: Sequence[Path]) -> Iterator[Path]:
    """Create a file in the work dir, by which other machines recognise it."""
    (work_dir,) = set(work_dirs)
    path = work_dir / f".cluster-{uuid.uuid4().hex}"
    write_text(path, platform.node())
    try:
        yield path
    finally:
        path.unlink()


def _check_machines(marker: Path) -> None:
    """Check that every machine of the cluster sees the same work dir."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    check = ray.remote(num_cpus=0)(_check_visible)
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    for ref in [
        check.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(marker)
        for node in nodes
    ]:
        if error := _error(ref):
            raise error


def _check_visible(marker: Path) -> None:
    if not marker.exists():
        raise InputError(
            f"{platform.node()}: does not see {marker.parent}, expected a --work-dir that every machine of the cluster "
            "shares"
        )
