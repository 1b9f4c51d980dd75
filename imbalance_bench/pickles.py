"""Pickles of files from outside: checked before they are read, and read without executing anything in them.

Names of classes and functions mean stand-ins from a list, or the file is refused. The list serves torch's own reader
(``torch.load(weights_only=True)``) and, for pickles without torch, the one here.
"""

from __future__ import annotations

import pickle
import pickletools
import re
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from imbalance_bench.errors import InputError

MAX_NESTING = 200
"""Depth of a pickle's containers: hashing a deeper tuple overflows the stack of the interpreter, which dies of it."""
UNREADABLE = (RuntimeError, EOFError, OSError, ValueError, LookupError, AttributeError, TypeError, MemoryError,
              OverflowError, AssertionError, zipfile.BadZipFile)  # fmt: skip
"""What the readers of the standard library and of torch raise on damaged files."""


class _Inert:
    """Stands for an object whose content nobody needs: takes everything, keeps and does nothing."""

    def __new__(cls, *_: Any) -> _Inert:
        return super().__new__(cls)

    def __init__(self, *_: Any) -> None: ...

    def __setstate__(self, _: Any) -> None: ...


class _HistoryBuffer(_Inert):
    """Stands for mmengine's log buffer."""


class _Dtype(_Inert):
    """Stands for ``numpy.dtype``: its code, e.g. ``f4``, and byte order."""

    def __init__(self, code: Any = "", *_: Any) -> None:
        self.code, self.order = code.decode() if isinstance(code, bytes) else str(code), "|"

    def __setstate__(self, state: Any) -> None:
        self.order = state[1].decode() if isinstance(state[1], bytes) else str(state[1])


class Array(_Inert):
    """Stands for ``numpy.ndarray`` and its constructor, which would allocate what it is told; see numpy's pickles."""

    state: tuple[Any, ...] | None = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def tensor(self) -> Tensor | None:
        """The numbers, None where it holds no numbers; ValueError where shape and bytes do not fit."""
        if not isinstance(self.state, tuple) or len(self.state) != 5:
            raise ValueError("not numpy's state of an array")
        _, shape, dtype, fortran, raw = self.state
        # Pickles of Python 2 hold bytes as text.
        raw = raw.encode("latin1") if isinstance(raw, str) else raw
        if not isinstance(dtype, _Dtype) or not re.fullmatch(r"f[248]|[iu][1248]|b1", dtype.code):
            return None
        array = np.frombuffer(raw, np.dtype(dtype.order + dtype.code))
        array = array.reshape(shape, order="F" if fortran else "C")
        return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), order="C"))


def _history_method(owner: Any, name: Any) -> _Inert:
    """Stands for ``getattr``, with which mmengine pickles its log buffers: of those and of nothing else."""
    if owner is not _HistoryBuffer or name not in ("min", "max", "current", "mean"):
        raise pickle.UnpicklingError("Unsupported global: GLOBAL builtins.getattr of something else")
    return _Inert()


def _from_buffer(raw: Any, dtype: Any, shape: Any, order: Any) -> Array:
    """Stands for numpy's constructor in pickles of protocol 5."""
    array = Array()
    array.state = (1, shape, dtype, order == "F", bytes(raw))
    return array


def _encode(text: str, _: Any) -> bytes:
    """Stands for ``_codecs.encode``, which protocol 2 writes bytes with."""
    return text.encode("latin1")


STAND_INS: dict[str, Any] = {
    "numpy.core.multiarray._reconstruct": Array,
    "numpy._core.multiarray._reconstruct": Array,
    "numpy.ndarray": Array,
    "numpy.dtype": _Dtype,
    "numpy.core.multiarray.scalar": _Inert,
    "numpy._core.multiarray.scalar": _Inert,
    "mmengine.logging.history_buffer.HistoryBuffer": _HistoryBuffer,
    "builtins.getattr": _history_method,
}
"""What names in a checkpoint mean beside tensors and plain values. Neither numpy's nor mmengine's own are let in:
they allocate what a file tells them, and with ``getattr`` a file reaches every function there is."""
PICKLE_STAND_INS = STAND_INS | {
    "__builtin__.getattr": _history_method,
    "numpy.core.numeric._frombuffer": _from_buffer,
    "numpy._core.numeric._frombuffer": _from_buffer,
    "_codecs.encode": _encode,
    "collections.OrderedDict": OrderedDict,
}


class _Unpickler(pickle.Unpickler):
    """Plain containers and stand-ins only."""

    def find_class(self, module: str, name: str) -> Any:
        """A stand-in; UnpicklingError for every other name."""
        if f"{module}.{name}" not in PICKLE_STAND_INS:
            raise pickle.UnpicklingError(f"GLOBAL {module}.{name}")
        return PICKLE_STAND_INS[f"{module}.{name}"]


def load(file: IO[bytes], path: Path) -> Any:
    """A pickle of plain containers and numpy arrays (as ``Array``), read whole.

    Raises:
        InputError: damaged, or naming anything else.
    """
    start = file.tell()
    check(file, path)
    file.seek(start)
    try:
        return _Unpickler(file, encoding="latin1").load()
    except pickle.UnpicklingError as error:
        raise InputError(refusal(error, path)) from error
    except UNREADABLE as error:
        raise InputError(f"{path}: not readable as a checkpoint, it may be truncated") from error


def refusal(error: pickle.UnpicklingError, path: Path) -> str:
    """One line on a pickle that was refused: for the object it names, or as damaged."""
    found = re.search(r"GLOBAL (\S+)", str(error))
    what = f"it holds an object of {found.group(1)}" if found else "it is not a torch file, or truncated"
    return f"{path}: expected a checkpoint of tensors and plain values, but {what}"


def check(file: IO[bytes], path: Path) -> None:
    """Walk a pickle's opcodes without reading it, keeping the depth of each object on its stack.

    Raises:
        InputError: truncated, containers that nest too deep, or a memo index (room is made for it) beyond the file.
    """
    mark, depths, memo = -1, list[int](), dict[int, int]()
    try:
        for operation, argument, position in pickletools.genops(file):
            before = operation.stack_before
            if operation.name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
                index = len(memo) if operation.name == "MEMOIZE" else int(argument or 0)
                if index > (position or 0):
                    raise InputError(f"{path}: its pickle has memo index {index}, expected at most {position}")
                memo[index] = depths[-1]
            elif operation.name in ("GET", "BINGET", "LONG_BINGET"):
                depths.append(memo[int(argument or 0)])
            elif operation.name == "MARK":
                depths.append(mark)
            else:
                inner = []
                if pickletools.markobject in before:
                    while (depth := depths.pop()) != mark:
                        inner.append(depth)
                    before = before[: before.index(pickletools.markobject)]
                inner += [depths.pop() for _ in before]
                grows = operation.name in ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD")
                container = inner.pop() if grows else 0
                depth = max(container, 1 + max(inner, default=-1))
                if depth > MAX_NESTING:
                    raise InputError(f"{path}: its pickle nests more than {MAX_NESTING} containers")
                depths += [depth] * len(operation.stack_after)
    except InputError:
        raise
    except UNREADABLE as error:
        raise InputError(f"{path}: not readable as a checkpoint, it may be truncated") from error
