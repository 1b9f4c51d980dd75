"""The exit of a command when the disk is full or the command is asked to stop."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest

from analyses.commands import main
from imbalance_bench.commands import options
from imbalance_bench.datasets import registry
from imbalance_bench.datasets.generated import generate
from imbalance_bench.datasets.registry import DataSet
from imbalance_bench.detectors.mmdet import catalogue
from imbalance_bench.schedule import Schedule
from imbalance_bench.training import resuming

ROOT = Path(__file__).resolve().parents[2]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """``run(*arguments)`` -> (exit status, output, errors)."""

    def call(*arguments: object) -> tuple[int, str, str]:
        out, err = StringIO(), StringIO()
        monkeypatch.setattr("sys.argv", ["imbalance-bench", *map(str, arguments)])
        monkeypatch.setattr(options.console, "file", out)
        monkeypatch.setattr(options.errors, "file", err)
        with pytest.raises(SystemExit) as stop:
            main.main()
        return int(stop.value.code or 0), out.getvalue(), err.getvalue()

    return call


def test_a_disk_that_fills_up_while_training(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second checkpoint finds the disk full; nothing half-written stays, and the first is there to go on from."""
    data = generate(tmp_path / "data", classes=8, train_images=4, val_images=2, size=(96, 128))
    monkeypatch.setattr(registry, "prepare", lambda *_: data)
    short = replace(catalogue.get("tiny"), schedule=Schedule(epochs=2, lr=0.01, batch_size=2))
    monkeypatch.setitem(catalogue.DETECTORS, "tiny", short)
    original = Path.write_bytes

    def write(path: Path, content: bytes) -> int:
        if "epoch_2.pth" in path.name:
            original(path, content[: len(content) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", write)
        status, _, err = run("run-baseline", "--work-dir", tmp_path)
    folder = tmp_path / data.name / "tiny" / "seed0" / "baseline"
    assert status == 1
    assert f"{folder / 'epoch_2.pth'}: the disk is full; make room" in err and err.count("\n") == 1
    assert "GiB are free there" in err
    names = {path.name for path in folder.iterdir()}
    assert "epoch_1.pth" in names and "epoch_2.pth" not in names
    assert not [name for name in names if "partial" in name]
    assert resuming.latest_checkpoint(folder, print) == folder / "epoch_1.pth"


def test_a_read_only_disk(run: Run, mini: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = os.mkdir

    def mkdir(path: str | Path, *arguments: int) -> None:
        if str(path).startswith(str(tmp_path)):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        original(path, *arguments)

    monkeypatch.setattr(os, "mkdir", mkdir)
    where = ("--dataset", mini.name, "--data-dir", mini.train_images.parents[1], "--work-dir", tmp_path / "work")
    for command in (("run-baseline",), ("run-all", "--table", 1)):
        status, out, err = run(*command, *where)
        assert status == 1
        assert f"{tmp_path}/work" in err and "the disk is read-only; make it writable" in err and err.count("\n") == 1
        assert "failed" not in out, "one line, not one for each of the runs that would fail alike"


def start(*arguments: object) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, ROOT / "cli.py", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=ROOT,
    )  # fmt: skip


def test_sigterm_saves_and_stops(mini: DataSet, tmp_path: Path) -> None:
    """A command of its own, stopped while it trains."""
    command = ("run-baseline", "--dataset", mini.name, "--data-dir", mini.train_images.parents[1],
               "--work-dir", tmp_path, "--batch-size", 2)  # fmt: skip
    process = start(*command)
    folder = tmp_path / mini.name / "tiny" / "seed0" / "baseline"
    while not any("will be saved" in log.read_text() for log in folder.glob("*/*.log")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 143, err
    assert "of 54 of epoch 1" in out and "training saved after iteration" in out
    assert "the same command goes on from here" in out
    assert not err.strip()
    assert resuming.latest_checkpoint(folder, print) == folder / resuming.STOPPED
    assert not [path for path in folder.iterdir() if "partial" in path.name]
