"""SIGKILL at any moment, then the same command: the result of a run that was never interrupted."""

import json
import multiprocessing
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from imbalance_bench.benchmark import Benchmark
from imbalance_bench.datasets.generated import generate
from imbalance_bench.datasets.registry import DataSet
from imbalance_bench.detectors import catalogue
from imbalance_bench.schedule import Schedule

RUNS = ("baseline", "bags")
SHORT = Schedule(epochs=2, lr=0.02, batch_size=2, warmup_iterations=3)
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate")
"""What Python tells its audit hooks of files, beside that they are opened."""
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def work(data: DataSet, folder: Path, kill_at: int | None = None, count: Any = None) -> None:
    """Train the baseline, cache its proposals, train BAGS on them, evaluate both.

    Args:
        data: to train on.
        folder: takes the runs.
        kill_at: SIGKILL comes at this change to a file below ``folder`` (opened to be written, renamed, removed), right
            before it; if the change before was the writing of a file, in the middle of that.
        count: is told how many changes there are.
    """
    torch.set_num_threads(1)
    changes, written = 0, ""

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal changes, written
        path, opened = str(arguments[0]) if arguments else "", event == "open"
        if path.startswith(str(folder)) and (event in CHANGES or (opened and arguments[2] & WRITING)):
            changes += 1
            if changes == kill_at:
                if written:
                    os.truncate(written, os.path.getsize(written) // 2)
                os.kill(os.getpid(), signal.SIGKILL)
            written = path if opened and not arguments[2] & os.O_APPEND else ""

    sys.addaudithook(watch)
    bench = Benchmark(data, catalogue.get("tiny"), folder, schedule=SHORT, views=1)
    for run in RUNS:
        bench.run(run)
    if count is not None:
        count.value = changes


def results(folder: Path) -> dict[str, Any]:
    """Metrics, and checksums of weights, detections and tables, of each run."""
    records = {run: json.loads(next(folder.glob(f"*/*/*/{run}/record.json")).read_text()) for run in RUNS}
    return {run: (record["metrics"], record["sha256"]) for run, record in records.items()}


def files_of(folder: Path) -> set[Path]:
    """But for mmengine's logs, of which each attempt begins its own in a folder named by the time."""
    files = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    return {path for path in files if not any(part[:8].isdecimal() for part in path.parts)}


def test_killed_at_any_moment_the_same_command_gives_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = generate(tmp_path / "data", classes=8, train_images=6, val_images=2, size=(96, 128))
    # Every trial is forked from one process that has imported everything and has no threads.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["imbalance_bench.benchmark"])

    def start(folder: Path, kill_at: int | None = None, count: Any = None) -> Any:
        process = context.Process(target=work, args=(data, folder, kill_at, count))
        process.start()
        return process

    first = context.Process(target=time.sleep, args=(0,))  # waits for the imports
    first.start()
    first.join()
    count, begin = context.Value("i", 0), time.monotonic()
    process = start(tmp_path / "whole", None, count)
    process.join()
    seconds = time.monotonic() - begin
    assert process.exitcode == 0 and count.value > 100
    expected = results(tmp_path / "whole")

    # At changes to files: each attempt comes a little further, to the end.
    draw, killed_at = random.Random(0), list[int]()
    folder = tmp_path / "killed"
    while process.exitcode or not killed_at:
        killed_at.append(draw.randint(8, 50 + 20 * len(killed_at)))
        process = start(folder, killed_at[-1])
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL) and len(killed_at) < 30
    assert len(killed_at) > 4
    assert results(folder) == expected, killed_at

    # At any time, from the first line to the last.
    folder = tmp_path / "timed"
    for share in (0.9, 0.6, 0.5, 0.3):
        process = start(folder)
        process.join(share * seconds * draw.uniform(0.8, 1.2))
        process.kill()
        process.join()
    start(folder).join()
    assert results(folder) == expected

    files = files_of(tmp_path / "whole")
    assert files_of(tmp_path / "killed") == files
    assert files_of(tmp_path / "timed") == files
