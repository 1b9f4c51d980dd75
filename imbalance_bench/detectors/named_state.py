"""Tensors of a hosted detector by names that no reader of checkpoints shortens."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from imbalance_bench.runtime.errors import InputError

PREFIX = "detector."
"""Before the names of a model's tensors in checkpoints of this package: some begin as those of wrappers do."""


def load_named(model: nn.Module, state: Mapping[str, Tensor], *, strict: bool = True) -> None:
    """Load all tensors of a model, whose names begin with ``PREFIX``; not ``strict``: those that are there.

    Raises:
        InputError: a tensor is missing, unknown or of another shape; the message is the reason.
    """
    try:
        model.load_state_dict({name.removeprefix(PREFIX): value for name, value in state.items()}, strict)
    except RuntimeError as error:
        raise InputError(" ".join(str(error).split())) from error
