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


def work(data: DataSet, folder: Path, kill_at: int | None = None, count: Any = None) -> None:
    """Train the baseline, cache its proposals, train BAGS on them, evaluate both.

    Args:
        data: to train on.
        folder: takes the runs.
        kill_at: SIGKILL comes right before the file below ``folder`` is opened to be written, renamed or removed that
            is the ``kill_at``-th so.
        count: is told how many there are.
    """
    torch.set_num_threads(1)
    changes = 0

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal changes
        writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if (writes or event in CHANGES) and str(arguments[0]).startswith(str(folder)):
            changes += 1
            if changes == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

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

    count = context.Value("i", 0)
    begin = time.monotonic()
    process = start(tmp_path / "whole", None, count)
    process.join()
    seconds = time.monotonic() - begin
    assert process.exitcode == 0 and count.value > 40
    expected = results(tmp_path / "whole")

    draw, kills, changes = random.Random(0), 0, []
    folder = tmp_path / "killed"
    # Right before a change to a file: each attempt comes a little further, to the end.
    while len(changes) < 25:
        changes.append(draw.randint(count.value // 12, count.value // 3))
        process = start(folder, changes[-1])
        process.join()
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        kills += 1
    assert kills >= 5, changes
    start(folder).join()
    assert results(folder) == expected, changes

    # At any time, from the first import to the last line.
    folder = tmp_path / "timed"
    for share in (0.9, 0.7, 0.5, 0.3, 0.6):
        process = start(folder)
        process.join(share * seconds * draw.uniform(0.8, 1.2))
        process.kill()
        process.join()
    start(folder).join()
    assert results(folder) == expected

    for folder in (tmp_path / "killed", tmp_path / "timed"):
        names = {str(path.relative_to(folder)) for path in folder.rglob("*")}
        assert not [name for name in names if "partial" in name]
        runs = [name for name in names if name.endswith((".pth", ".csv", ".npz", ".json", ".npy", ".bin"))]
        assert {name for name in runs if "vis_data" not in name} == {
            str(path.relative_to(tmp_path / "whole"))
            for path in (tmp_path / "whole").rglob("*")
            if path.suffix in (".pth", ".csv", ".npz", ".json", ".npy", ".bin") and "vis_data" not in str(path)
        }
