"""Checks that stop a training whose loss or weights are not finite, before a checkpoint is saved."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from imbalance_bench.runtime.errors import InputError

MAX_LOSS = 1e6
"""Losses of detectors start below a hundred; a training with a loss above this limit does not recover."""


def check_losses(losses: Mapping[str, float], iteration: int, epoch: int, kept: str) -> None:
    """Raise an error if a loss is NaN, infinite or greater than ``MAX_LOSS``.

    Args:
        losses: by name.
        iteration: counted from 1, over all epochs.
        epoch: counted from 1.
        kept: text for the message that says which state is kept.

    Raises:
        InputError: training diverged; the message holds the iteration, the losses and a hint.
    """
    if any(not math.isfinite(value) or value > MAX_LOSS for value in losses.values()):
        stated = ", ".join(f"{name} {value:.4g}" for name, value in losses.items())
        raise _diverged(f"at iteration {iteration} (epoch {epoch}): {stated}", kept)


def check_weights(state: Mapping[str, Any], iteration: int, epoch: int, kept: str) -> None:
    """Raise an error if a tensor to be saved holds NaN or infinity, which the last step may have caused.

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
