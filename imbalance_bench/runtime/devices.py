"""Where tensors are computed, by the name that a user gives."""

from __future__ import annotations

import re

from imbalance_bench.runtime.errors import InputError


def is_device(text: str) -> bool:
    """Tell whether a text names a device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; it need not be there."""
    return text in ("auto", "cpu") or re.fullmatch(r"cuda(:\d+)?", text) is not None


def resolve_device(device: str) -> str:
    """Return the device that ``auto`` stands for here (a GPU where there is one), any other as it is.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        InputError: another name, or a GPU that is not there.

    Example:
        >>> resolve_device("cpu")
        'cpu'
    """
    if not is_device(device):
        raise InputError(f"device: '{device}', expected auto, cpu, cuda or cuda:N")
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    number = int(device.partition(":")[2] or 0)
    if device != "cpu" and number >= torch.cuda.device_count():
        raise InputError(f"device: '{device}', but no such GPU is there")
    return device
