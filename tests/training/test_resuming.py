"""A stopped or killed training resumes to the same result, with and without loading processes."""

import io
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from imbalance_bench.checkpoints import own as checkpoints
from imbalance_bench.datasets.generated import generate
from imbalance_bench.datasets.registry import DataSet
from imbalance_bench.detectors.mmdet import catalogue
from imbalance_bench.experiments.benchmark import Benchmark
from imbalance_bench.experiments.setup import Setup
from imbalance_bench.runtime.progress import Reporter
from imbalance_bench.runtime.signals import Stopped, stoppable
from imbalance_bench.schedule import Schedule
from imbalance_bench.training.end_to_end import ProgressHook
from imbalance_bench.training.resuming import STOPPED, latest_checkpoint

SHORT = Schedule(epochs=2, lr=0.02, batch_size=2, warmup_iterations=3)
State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    return generate(tmp_path_factory.mktemp("data"), classes=8, train_images=6, val_images=2, size=(96, 128))


@pytest.fixture(autouse=True)
def heeded() -> Iterator[None]:
    """Ctrl-C is ignored where tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, "put back"
    signal.signal(signal.SIGINT, before)


def bench_of(data: DataSet, work_dir: Path, workers: int = 0) -> Benchmark:
    detector = replace(catalogue.get("tiny"), num_workers=workers)
    return Benchmark(Setup(data, detector), work_dir, schedule=SHORT, views=1)


def signal_after(monkeypatch: pytest.MonkeyPatch, iteration: int, number: int) -> None:
    """Send the process a signal in an iteration, counted from 0 over all epochs."""
    original = ProgressHook.after_train_iter

    def after_train_iter(self: ProgressHook, runner: Any, *args: Any, **kwargs: Any) -> None:
        original(self, runner, *args, **kwargs)
        if runner.iter == iteration:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(ProgressHook, "after_train_iter", after_train_iter)


def weights(bench: Benchmark, method: str = "baseline") -> State:
    return checkpoints.load(bench.run(method).checkpoint)["state_dict"]


def equal(state: State, other: State) -> bool:
    return all(torch.equal(state[name], other[name]) for name in other)


@pytest.fixture(scope="module", params=[0, 2], ids=["no workers", "two workers"])
def whole(request: pytest.FixtureRequest, data: DataSet, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, State]:
    """Number of loading processes, and what an uninterrupted training with them gives."""
    return request.param, weights(bench_of(data, tmp_path_factory.mktemp("whole"), request.param))


# Three iterations an epoch: within the first, at the end of it, within the second.
@pytest.mark.parametrize("iteration", [1, 2, 3])
def test_a_training_that_is_asked_to_stop_goes_on_to_the_same_result(
    whole: tuple[int, State], data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, iteration: int
) -> None:
    workers, expected = whole
    bench = bench_of(data, tmp_path, workers)
    folder = bench.folder("baseline").path
    with monkeypatch.context() as patch, stoppable(), pytest.raises(Stopped) as stop:
        signal_after(patch, iteration, signal.SIGTERM)
        bench.run("baseline")
    assert stop.value.status == 143
    assert (folder / STOPPED).exists() == (iteration != 2), "at the end of an epoch its own checkpoint is there"
    assert not bench.folder("baseline").is_held()
    assert equal(weights(bench), expected)
    assert not (folder / STOPPED).exists()


def test_without_a_terminal_it_says_a_line_an_epoch(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the detector and of a classifier, each epoch once, whether it was interrupted or not."""
    console = Console(file=io.StringIO(), width=200)
    bench = bench_of(replace(data, photographs=True), tmp_path)
    bench.setup.reporter = Reporter(console)
    with monkeypatch.context() as patch, stoppable(), pytest.raises(Stopped):
        signal_after(patch, 3, signal.SIGTERM)
        bench.run("baseline")
    bench.run("x2-cls")
    lines = [line.strip().partition(", loss ")[0] for line in console.file.getvalue().splitlines() if ", loss " in line]
    assert console.file.getvalue().count("starts from random weights") == 2, "of the detector, at each of its starts"
    assert lines == ["epoch 1 of 2", "epoch 2 of 2", *(f"epoch {number} of 12" for number in range(1, 13))]


def test_frozen_parts_stay_frozen_in_an_epoch_that_is_resumed(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = bench_of(data, tmp_path)
    before, folder = weights(bench), bench.folder("bags-head").path
    expected = weights(bench, "bags-head")
    folder.rename(tmp_path / "whole")
    with monkeypatch.context() as patch, stoppable(), pytest.raises(Stopped):
        signal_after(patch, 1, signal.SIGINT)
        bench.run("bags-head")
    assert (folder / STOPPED).exists()
    resumed = weights(bench, "bags-head")
    assert equal(resumed, expected)
    assert torch.equal(resumed["backbone.bn1.running_mean"], before["backbone.bn1.running_mean"])


def test_a_damaged_checkpoint_is_passed_over(data: DataSet, tmp_path: Path) -> None:
    said: list[str] = []
    assert latest_checkpoint(tmp_path, said.append) is None
    for name in ("epoch_2.pth", "epoch_9.pth", "epoch_10.pth"):
        checkpoints.write(tmp_path / name, {"state_dict": {"weight": torch.zeros(10_000)}})
    assert latest_checkpoint(tmp_path, said.append) == tmp_path / "epoch_10.pth"
    os.truncate(tmp_path / "epoch_10.pth", 20_000)
    (tmp_path / STOPPED).write_bytes(b"")
    (tmp_path / "last_checkpoint").write_text("")
    assert not said
    assert latest_checkpoint(tmp_path, said.append) == tmp_path / "epoch_9.pth"
    assert [STOPPED in said[0], "epoch_10.pth" in said[1], len(said)] == [True, True, 2]


def test_a_second_signal_stops_at_once() -> None:
    from imbalance_bench.runtime.signals import deferred

    with stoppable(), pytest.raises(Stopped) as stop, deferred() as asked:
        assert asked() is None
        os.kill(os.getpid(), signal.SIGINT)
        assert asked() == signal.SIGINT
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("not stopped")
    assert stop.value.status == 143
    with stoppable(), pytest.raises(Stopped) as stop:
        with deferred():
            os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("what was put off is delivered")
    assert stop.value.status == 130


def test_what_is_ignored_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with stoppable():
        os.kill(os.getpid(), signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
