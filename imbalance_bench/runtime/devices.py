"""Where tensors are computed and in which precision, by the names that a user gives."""

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


PRECISIONS = ("auto", "fp32", "bf16", "fp16")
"""Names of precisions of end-to-end training."""


def resolve_precision(precision: str, device: str) -> str:
    """Return the precision that ``auto`` stands for on a device, any other as it is.

    On a GPU it is fp16, on a processor that multiplies bf16 that, else fp32.

    Raises:
        InputError: another name.

    Example:
        >>> resolve_precision("auto", "cuda"), resolve_precision("fp32", "cpu")
        ('fp16', 'fp32')
    """
    if precision not in PRECISIONS:
        raise InputError(f"precision: '{precision}', expected {', '.join(PRECISIONS[:-1])} or {PRECISIONS[-1]}")
    if precision == "auto":
        return "fp16" if device.startswith("cuda") else "bf16" if _multiplies_bf16() else "fp32"
    return precision


def check_precision(precision: str, device: str) -> str | None:
    """Check that a device computes in a precision; return a warning where it does so slowly, else None.

    Raises:
        InputError: it does not.
    """
    import torch

    on_gpu = device.startswith("cuda")
    if precision == "fp16" and not on_gpu:
        raise InputError("precision: 'fp16' needs a GPU, expected fp32 or bf16 here")
    if precision == "bf16" and on_gpu and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise InputError("precision: 'bf16' is not in this GPU's hardware, expected fp32 or fp16 here")
    if precision == "bf16" and not on_gpu and not _multiplies_bf16():
        return "this processor does not multiply bf16 (avx512_bf16, amx_bf16): expect fp32 to be faster"
    return None


def _multiplies_bf16() -> bool:
    import torch

    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
