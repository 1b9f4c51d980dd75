"""Learning curves: what is measured of each epoch, and that an interruption or the curve itself changes nothing."""

import io
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from rich.console import Console

from analyses import outputs
from imbalance_bench.checkpoints import own as checkpoints
from imbalance_bench.datasets.generated import generate
from imbalance_bench.datasets.registry import DataSet
from imbalance_bench.detectors.mmdet import catalogue
from imbalance_bench.experiments import curve
from imbalance_bench.experiments.benchmark import Benchmark
from imbalance_bench.experiments.setup import Setup
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.progress import Reporter
from imbalance_bench.schedule import Schedule
from imbalance_bench.training.end_to_end import EpochSeedHook

SHORT = Schedule(epochs=2, lr=0.02, batch_size=2, warmup_iterations=3)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    return generate(tmp_path_factory.mktemp("data"), classes=8, train_images=6, val_images=2, size=(96, 128))


def bench_of(data: DataSet, work_dir: Path, said: io.StringIO | None = None, **options: bool) -> Benchmark:
    setup = Setup(data, catalogue.get("tiny"), reporter=Reporter(Console(file=said or io.StringIO(), width=500)))
    return Benchmark(setup, work_dir, schedule=SHORT, views=1, **options)  # type: ignore[arg-type]


def test_each_epoch_is_measured_as_a_checkpoint_is(mini: DataSet, tmp_path: Path) -> None:
    bench = Benchmark(Setup(mini, catalogue.get("tiny")), tmp_path, curve=True)
    bench.schedule = replace(bench.setup.detector.schedule, epochs=2, warmup_iterations=2)
    run = bench.run("baseline")
    measured = pd.read_csv(run.curve)
    names = ["mAP", "AP1", "AP2", "AP3", "AP4"]
    assert measured.columns.tolist() == ["epoch", *names] and measured["epoch"].tolist() == [1, 2]
    record = run.record()["metrics"]
    assert measured[names].iloc[1].tolist() == pytest.approx([record[name] for name in names], abs=1e-12)
    assert record["mAP"] > 0
    _, first, _ = bench.measurer.checkpoint(run.path / "epoch_1.pth")  # mmengine's own, of the same weights
    assert measured[names].iloc[0].tolist() == pytest.approx([first[name] for name in names], abs=1e-12)
    assert measured.loc[0, "mAP"] != measured.loc[1, "mAP"]
    assert not (run.path / "epochs").exists()
    curves = outputs.learning_curves(bench.root.parent)
    assert curves[["run", "seed", "epoch"]].to_numpy().tolist() == [
        ["Softmax baseline", 0, 1],
        ["Softmax baseline", 0, 2],
    ]


def test_the_run_is_the_same_and_goes_on_when_interrupted(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = bench_of(data, tmp_path / "plain").run("baseline")
    bench = bench_of(data, tmp_path / "curve", curve=True)
    folder = bench.folder("baseline")
    begin_epoch, measure, asked = EpochSeedHook.before_train_epoch, curve._measured, []

    def stop_in_epoch_two(self: EpochSeedHook, runner: object) -> None:
        begin_epoch(self, runner)  # type: ignore[arg-type]
        if runner.epoch == 1:  # type: ignore[attr-defined]
            raise KeyboardInterrupt

    def stop_at_the_second(weights: Path, measurer: object) -> dict[str, float]:
        asked.append(weights.stem)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return measure(weights, measurer)  # type: ignore[arg-type]

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(EpochSeedHook, "before_train_epoch", stop_in_epoch_two)
        bench.run("baseline")
    monkeypatch.setattr(curve, "_measured", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        bench.run("baseline")
    assert folder.is_done and not folder.is_held() and pd.read_csv(folder.curve)["epoch"].tolist() == [1]
    bench.run("baseline")
    assert asked == ["epoch_1", "epoch_2", "epoch_2"], "an epoch that was measured is not measured again"
    assert pd.read_csv(folder.curve)["epoch"].tolist() == [1, 2]
    assert not (folder.path / "epochs").exists()
    weights = [checkpoints.load(run.checkpoint)["state_dict"] for run in (plain, folder)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert plain.record()["settings"] == folder.record()["settings"]


def test_what_was_trained_without_it_is_said(data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = io.StringIO()
    done = bench_of(data, tmp_path / "done").run("baseline")
    bench = bench_of(data, tmp_path / "done", said, curve=True)
    assert bench.run("baseline") == done
    assert f"{done.path}: no curve, its training kept no epoch's weights; delete the folder" in said.getvalue()
    assert not done.curve.exists()
    bench.run("tau-norm")
    assert not bench.folder("tau-norm").curve.exists(), "nothing is trained end to end there"
    # Of a run that began without it, the rest.
    begun = bench_of(data, tmp_path / "begun")
    begin_epoch = EpochSeedHook.before_train_epoch

    def stop_in_epoch_two(self: EpochSeedHook, runner: object) -> None:
        begin_epoch(self, runner)  # type: ignore[arg-type]
        if runner.epoch == 1:  # type: ignore[attr-defined]
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(EpochSeedHook, "before_train_epoch", stop_in_epoch_two)
        begun.run("baseline")
    folder = bench_of(data, tmp_path / "begun", said, curve=True).run("baseline")
    assert pd.read_csv(folder.curve)["epoch"].tolist() == [2]
    assert "curve: epochs 1 were trained without it and are missing" in said.getvalue()


@pytest.mark.parametrize("command", [("run-baseline",), ("run-all", "--table", 5)])
def test_the_commands_ask_for_it(
    command: tuple[object, ...], mini: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run
) -> None:  # type: ignore[no-untyped-def]
    asked = []

    def refuse(self: Benchmark, of: object) -> None:
        asked.append(self.curve)
        raise InputError("not now")

    monkeypatch.setattr(Benchmark, "run", refuse)
    where = ("--dataset", mini.name, "--data-dir", mini.train_images.parents[1], "--work-dir", tmp_path)
    for options, expected in (((), False), (("--curve",), True)):
        asked.clear()
        assert run(*command, *where, *options)[0] == 2
        assert set(asked) == {expected}
