"""A diverged loss, not finite or too large, stops a training with one line and never gets into a checkpoint."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from imbalance_bench.checkpoints import own as checkpoints
from imbalance_bench.classifiers import GroupSoftmaxClassifier
from imbalance_bench.datasets.generated import generate
from imbalance_bench.detectors.mmdet import catalogue
from imbalance_bench.experiments.benchmark import Benchmark
from imbalance_bench.experiments.setup import Setup
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.schedule import Schedule
from imbalance_bench.training.divergence import check_losses, check_weights
from imbalance_bench.training.end_to_end import ProgressHook

SHORT = Schedule(epochs=2, lr=0.02, batch_size=2, warmup_iterations=3)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    """Three iterations an epoch."""
    folder = tmp_path_factory.mktemp("divergence")
    data = generate(folder / "data", classes=8, train_images=6, val_images=2, size=(96, 128))
    return Benchmark(Setup(data, catalogue.get("tiny")), folder / "work", schedule=SHORT, views=1)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 2e6])
def test_losses(value: float) -> None:
    check_losses({"loss_cls": 0.5, "loss_bbox": 99_999.0}, 3, 1, "nothing is kept")
    stated = re.escape(f"at iteration 3 (epoch 1): loss_cls 0.5, loss_bbox {value:.4g}; nothing is kept.")
    with pytest.raises(InputError, match=stated):
        check_losses({"loss_cls": 0.5, "loss_bbox": value}, 3, 1, "nothing is kept")


def test_weights() -> None:
    check_weights({"weight": torch.ones(3), "count": torch.ones(3, dtype=torch.int64), "meta": {}}, 3, 1, "")
    with pytest.raises(InputError, match="bias holds NaN"):
        check_weights({"weight": torch.ones(3), "bias": torch.tensor([1, torch.inf])}, 3, 1, "")


def test_on_the_cache(bench: Benchmark, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, original = 0, GroupSoftmaxClassifier.loss

    def loss(self: GroupSoftmaxClassifier, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        nonlocal calls
        calls += 1
        losses = original(self, logits, labels)
        # The second iteration of the second epoch.
        return {name: value * (torch.nan if calls == 5 else 1) for name, value in losses.items()}

    with monkeypatch.context() as patch, pytest.raises(InputError) as error:
        patch.setattr(GroupSoftmaxClassifier, "loss", loss)
        bench.run("bags")
    message = str(error.value)
    assert "training diverged at iteration 5 (epoch 2): " in message and " nan" in message and "\n" not in message
    assert "the state after epoch 1 is kept" in message and "--batch-size" in message
    folder = bench.folder("bags")
    state = torch.load(folder.path / "classifier0_epoch.pth", weights_only=True)
    assert len(state["losses"]) == 1
    assert all(torch.isfinite(value).all() for value in state["classifier"].values())
    assert not folder.checkpoint.exists() and not folder.is_done
    assert bench.run("bags").is_done, "and it goes on from there"


@pytest.mark.parametrize("what", ["loss", "weight"])
def test_end_to_end(bench: Benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    bench = replace(bench, work_dir=tmp_path)
    original = ProgressHook.after_train_iter

    def spoil(self: ProgressHook, runner: Any, *args: Any, **kwargs: Any) -> None:
        original(self, runner, *args, **kwargs)
        # In the last iteration of the second epoch only the weights can tell.
        if runner.iter == (3 if what == "loss" else 5):
            with torch.no_grad():
                runner.model.roi_head.bbox_head.fc_reg.bias[0] = torch.nan

    with monkeypatch.context() as patch, pytest.raises(InputError) as error:
        patch.setattr(ProgressHook, "after_train_iter", spoil)
        bench.run("baseline")
    message = str(error.value)
    if what == "loss":
        assert "at iteration 5 (epoch 2): " in message and "loss_bbox nan" in message and "loss_rpn_cls 0." in message
    else:
        assert "at iteration 6 (epoch 2): roi_head.bbox_head.fc_reg.bias holds NaN" in message
    assert "the checkpoint after epoch 1 is kept" in message and "--batch-size" in message and "\n" not in message
    folder = bench.folder("baseline")
    kept = checkpoints.load(folder.path / "epoch_1.pth")
    assert not (folder.path / "epoch_2.pth").exists() and not folder.is_done
    assert all(torch.isfinite(value).all() for value in kept["state_dict"].values() if value.is_floating_point())
