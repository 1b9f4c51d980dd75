"""SIGKILL at any moment, then the same command: the result equals that of an uninterrupted run."""

import json
import multiprocessing
import os
import random
import re
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from imbalance_bench.datasets.generated import generate
from imbalance_bench.datasets.registry import DataSet
from imbalance_bench.detectors.mmdet import catalogue, tiny
from imbalance_bench.experiments.benchmark import Benchmark
from imbalance_bench.experiments.setup import Setup
from imbalance_bench.schedule import Schedule

RUNS = ("baseline", "bags")
SMALL = replace(catalogue.get("tiny"), change=tiny.shrink(width=8))  # its files are written often
SHORT = Schedule(epochs=2, lr=0.02, batch_size=2, warmup_iterations=3)
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate")
"""What Python tells its audit hooks of files, beside that they are opened."""
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def work(data: DataSet, folder: Path, target: str | None = None, listing: Path | None = None) -> None:
    """Train the baseline, cache its proposals, train BAGS on them, evaluate both.

    Args:
        data: to train on.
        folder: takes the runs.
        target: SIGKILL comes in the middle of writing this file.
        listing: takes the names of all files that are written.
    """
    torch.set_num_threads(1)
    written, names = "", dict[str, None]()

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal written
        path, opened = str(arguments[0]) if arguments else "", event == "open"
        if not path.startswith(str(folder)) or not (event in CHANGES or (opened and arguments[2] & WRITING)):
            return
        before, written = written, path if opened and not arguments[2] & os.O_APPEND else ""
        if before and (size := os.path.getsize(before)) > 0:
            # It is whole by now, at the next change of any file.
            name = final_name(before, folder)
            names[name] = None
            if name == target:
                written = ""
                os.truncate(before, size // 2)
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    bench = Benchmark(Setup(data, SMALL), folder, schedule=SHORT, views=1)
    for run in RUNS:
        bench.run(run)
    if listing is not None:
        listing.write_text(json.dumps(list(names)))


def final_name(path: str, folder: Path) -> str:
    """What a file below a folder will be called when it is whole."""
    return re.sub(r"\.([^/]+)\.partial-[^/]*$", r"\1", os.path.relpath(path, folder))


def results(folder: Path) -> dict[str, Any]:
    """Metrics, and checksums of weights, detections and tables, of each run."""
    records = {run: json.loads(next(folder.glob(f"*/*/*/{run}/record.json")).read_text()) for run in RUNS}
    return {run: (record["metrics"], record["sha256"]) for run, record in records.items()}


def files_of(folder: Path) -> set[Path]:
    """All but mmengine's logs."""
    files = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    return {path for path in files if not is_log(path)}


def is_log(path: Path) -> bool:
    """Whether a file is of mmengine's logs, which each attempt begins in a folder named by the time."""
    return any(part[:8].isdecimal() for part in path.parts)


def test_killed_at_any_moment_the_same_command_gives_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = generate(tmp_path / "data", classes=8, train_images=6, val_images=2, size=(96, 128))
    # Every trial is forked from one process that has imported everything and has no threads.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["imbalance_bench.experiments.benchmark"])

    def start(folder: Path, target: str | None = None, listing: Path | None = None) -> Any:
        process = context.Process(target=work, args=(data, folder, target, listing))
        process.start()
        return process

    first = context.Process(target=time.sleep, args=(0,))  # waits for the imports
    first.start()
    first.join()
    listing, begin = tmp_path / "written.json", time.monotonic()
    process = start(tmp_path / "whole", None, listing)
    process.join()
    seconds = time.monotonic() - begin
    assert process.exitcode == 0
    expected = results(tmp_path / "whole")

    # In the middle of every file that is written, one after the other.
    targets = [name for name in json.loads(listing.read_text()) if not is_log(Path(name))]
    written = {Path(name).name for name in targets}
    assert written > {"settings.json", "epoch_1.pth", "epoch_2.pth", "checkpoint.pth", "classifier0_epoch.pth",
                      "detections.npz", "per_category.csv", "record.json"}  # fmt: skip
    folder = tmp_path / "killed"
    for target in targets:
        process = start(folder, target)
        process.join()
        assert process.exitcode == -signal.SIGKILL, target
    process = start(folder)
    process.join()
    assert process.exitcode == 0
    assert results(folder) == expected

    # At any time, from the first line to the last.
    folder, draw = tmp_path / "timed", random.Random(0)
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
