"""Arrays and tensors that users hand in, of whatever library, checked."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from imbalance_bench.runtime.errors import InputError

Kind = Literal["integers", "numbers"]
_DTYPES = {"integers": "iu", "numbers": "iuf"}


def numpy_of(value: Any) -> np.ndarray:
    """Return an array, a list, or a tensor on whatever device as a NumPy array, which is not copied if it need not be.

    Raises:
        ValueError: rows of different lengths.
    """
    if hasattr(value, "detach"):  # torch, which is not imported for it
        value = value.detach().cpu()
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
    return np.asarray(value)


def as_array(name: str, value: Any, shape: tuple[int | None, ...], kind: Kind) -> np.ndarray:
    """Return what a user gave as an array, or say what is wrong with it.

    Args:
        name: of the argument, for messages.
        value: array, list or tensor; what is empty may be of any type.
        shape: expected; None for any length.
        kind: of its values.

    Raises:
        InputError: another shape or another kind of values.

    Example:
        >>> as_array("labels", [0, 2], (2,), "integers")
        array([0, 2])
        >>> as_array("labels", [0.5, 2], (2,), "integers")
        Traceback (most recent call last):
        imbalance_bench.runtime.errors.InputError: labels: values are float64, expected integers
    """
    try:
        array = numpy_of(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: not an array ({error})") from error
    if array.size == 0 and array.ndim == 1 and len(shape) > 1 and shape[0] in (0, None):
        array = array.reshape(0, *(length or 0 for length in shape[1:]))
    expected = ", ".join("any" if length is None else str(length) for length in shape)
    if array.ndim != len(shape) or any(
        own != wanted for own, wanted in zip(array.shape, shape, strict=True) if wanted is not None
    ):
        raise InputError(f"{name}: shape is {array.shape}, expected ({expected}{',' * (len(shape) == 1)})")
    if array.size and array.dtype.kind not in _DTYPES[kind]:
        raise InputError(f"{name}: values are {array.dtype}, expected {kind}")
    return array if array.size else array.astype(np.int64 if kind == "integers" else np.float64)
