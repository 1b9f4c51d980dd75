"""A loss that is no longer a number stops a training, before it is in a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from imbalance_bench.runtime.errors import InputError

MAX_LOSS = 1e6
"""Losses of detectors begin below a hundred; one beyond this has left for good."""


def check_losses(losses: Mapping[str, float], iteration: int, epoch: int, kept: str) -> None:
    """Refuse to go on from a loss that is NaN, infinite or beyond ``MAX_LOSS``.

    Args:
        losses: by name.
        iteration: counted from 1, over all epochs.
        epoch: counted from 1.
        kept: what is left of the training, for the message.

    Raises:
        InputError: training diverged; the message holds the iteration, the losses and a hint.
    """
    if any(not math.isfinite(value) or value > MAX_LOSS for value in losses.values()):
        stated = ", ".join(f"{name} {value:.4g}" for name, value in losses.items())
        raise _diverged(f"at iteration {iteration} (epoch {epoch}): {stated}", kept)


def check_weights(state: Mapping[str, Any], iteration: int, epoch: int, kept: str) -> None:
    """Refuse to save tensors that hold NaN or infinity: the last step before may have made them so.

    Raises:
        InputError: as ``check_losses``; the message names the first tensor.
    """
    for name, value in state.items():
        if isinstance(value, Tensor) and value.is_floating_point() and not torch.isfinite(value).all():
            raise _diverged(f"at iteration {iteration} (epoch {epoch}): {name} holds NaN or infinity", kept)


def _diverged(where: str, kept: str) -> InputError:
    return InputError(
        f"training diverged {where}; {kept}. A lower learning rate may help: a smaller --batch-size lowers it in "
        "proportion (with another --work-dir)"
    )


class DivergenceHook(Hook):
    """Checks the losses of every iteration, and the weights of every checkpoint before it is written.

    mmdet's CheckInvalidLossHook says neither which loss nor when, and lets a checkpoint pass between its checks. Other
    hooks have read the losses off the GPU by now, so looking at each of them costs nothing.
    """

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Check the losses of the iteration."""
        losses = {name: float(value) for name, value in outputs.items() if "loss" in name}
        check_losses(losses, runner.iter + 1, runner.epoch + 1, self._kept(runner))

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Check the weights that are about to be saved."""
        iteration, epoch = checkpoint["meta"]["iter"], runner.epoch + 1
        check_weights(checkpoint["state_dict"], iteration, epoch, self._kept(runner))

    @staticmethod
    def _kept(runner: Runner) -> str:
        if runner.epoch == 0:
            return "no epoch was finished before"
        return f"{runner.work_dir}: the checkpoint after epoch {runner.epoch} is kept"
