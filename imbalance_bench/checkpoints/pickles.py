"""Pickles from untrusted files: checked before they are read, and read without executing anything in them.

Names of classes and functions are replaced by stand-ins from a list; a file with any other name is refused. The list
is used by torch's reader (``torch.load(weights_only=True)``) and, for pickles without torch, by the reader here.
"""

from __future__ import annotations

import pickle
import pickletools
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np

from imbalance_bench.runtime.errors import InputError

MAX_NESTING = 200
"""Depth of a pickle's containers: hashing a deeper tuple overflows the stack of the interpreter, which dies of it."""
UNREADABLE = (RuntimeError, EOFError, OSError, ValueError, LookupError, AttributeError, TypeError, MemoryError,
              OverflowError, AssertionError, zipfile.BadZipFile)  # fmt: skip
"""What the readers of the standard library and of torch raise on damaged files."""


class _Inert:
    """A stand-in for an object whose content is not needed: it accepts everything and keeps nothing."""

    def __new__(cls, *_: Any) -> _Inert:
        return super().__new__(cls)

    def __init__(self, *_: Any) -> None: ...

    def __setstate__(self, _: Any) -> None: ...


class _HistoryBuffer(_Inert):
    """A stand-in for mmengine's log buffer."""


class _Dtype(_Inert):
    """A stand-in for ``numpy.dtype``: its code, e.g. ``f4``, and byte order."""

    def __init__(self, code: Any = "", *_: Any) -> None:
        self.code, self.order = code.decode() if isinstance(code, bytes) else str(code), "|"

    def __setstate__(self, state: Any) -> None:
        self.order = state[1].decode() if isinstance(state[1], bytes) else str(state[1])


class Array(_Inert):
    """A stand-in for ``numpy.ndarray`` and its constructor, which would allocate any size that a pickle asks for."""

    state: tuple[Any, ...] | None = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def numbers(self) -> np.ndarray | None:
        """Return the array as numpy's, None if it holds no numbers; ValueError if shape and bytes do not fit."""
        if not isinstance(self.state, tuple) or len(self.state) != 5:
            raise ValueError("not numpy's state of an array")
        _, shape, dtype, fortran, raw = self.state
        # Pickles of Python 2 hold bytes as text.
        raw = raw.encode("latin1") if isinstance(raw, str) else raw
        if not isinstance(dtype, _Dtype) or not re.fullmatch(r"[<>|=](f[248]|[iu][1248]|b1)", dtype.order + dtype.code):
            return None
        array = np.frombuffer(raw, np.dtype(dtype.order + dtype.code))
        array = array.reshape(shape, order="F" if fortran else "C")
        return array.astype(array.dtype.newbyteorder("="), order="C")


class Object(_Inert):
    """A stand-in for an object whose class is not imported: its name, and what the pickle says it holds, as data."""

    kind = ""
    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class Objects(dict[str, Any]):
    """Stand-ins, and an ``Object`` for each class whose name matches a pattern, made when a pickle names it.

    Args:
        known: the other stand-ins.
        pattern: of full names.
    """

    def __init__(self, known: Mapping[str, Any], pattern: re.Pattern[str]) -> None:
        super().__init__(known)
        self.pattern = pattern

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or (isinstance(name, str) and self.pattern.fullmatch(name) is not None)

    def __missing__(self, name: str) -> Any:
        self[name] = type("Object", (Object,), {"kind": name})
        return self[name]


F = TypeVar("F", bound=Callable[..., Any])


def stand_in(function: F) -> F:
    """Protect a function that pickles may call: without its own ``__setstate__`` a pickle could change it."""

    def refuse(_: Any) -> None:
        raise pickle.UnpicklingError(f"a state for the function {function.__name__}")

    vars(function)["__setstate__"] = refuse
    return function


@stand_in
def _no_items(*_: Any) -> dict[Any, Any]:
    """Replace ``collections.defaultdict``, which calls a factory for missing items, by a plain dictionary."""
    return {}


@stand_in
def _no_bytes(*_: Any) -> bytes:
    """Replace ``bytes``, used by protocol 2 for empty bytes; called with a number the real one would allocate."""
    return b""


_INERT = (
    "argparse.Namespace",
    *(f"pathlib.{name}" for name in ("Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath",
                                     "PureWindowsPath")),
    *(f"pathlib._local.{name}" for name in ("Path", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")),
    *(f"datetime.{name}" for name in ("datetime", "date", "time", "timedelta", "timezone")),
    "uuid.UUID",
    "decimal.Decimal",
    "random.Random",
    *(f"builtins.{name}" for name in ("int", "float", "str", "bool", "list", "dict", "tuple", "slice", "range")),
    "numpy.random._pickle.__randomstate_ctor",
    "numpy.random._pickle.__generator_ctor",
    "numpy.random._pickle.__bit_generator_ctor",
    *(f"numpy.random.{module}.{name}" for module, name in (
        ("_mt19937", "MT19937"), ("_pcg64", "PCG64"), ("_pcg64", "PCG64DXSM"), ("_philox", "Philox"),
        ("_sfc64", "SFC64"), ("bit_generator", "SeedSequence"), ("bit_generator", "__pyx_unpickle_SeedSequence"))),
)  # fmt: skip
"""What training scripts write beside the weights: options, paths, times, factories of defaults, random generators."""


@stand_in
def _history_method(owner: Any, name: Any) -> _Inert:
    """Replace ``getattr``, used in pickles of mmengine's log buffers; it works on log buffers only."""
    if owner is not _HistoryBuffer or name not in ("min", "max", "current", "mean"):
        raise pickle.UnpicklingError("Unsupported global: GLOBAL builtins.getattr of something else")
    return _Inert()


@stand_in
def _from_buffer(raw: Any, dtype: Any, shape: Any, order: Any) -> Array:
    """Replace numpy's constructor in pickles of protocol 5."""
    array = Array()
    array.state = (1, shape, dtype, order == "F", bytes(raw))
    return array


@stand_in
def _encode(text: str, _: Any) -> bytes:
    """Replace ``_codecs.encode``, used by protocol 2 for bytes."""
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
    "collections.defaultdict": _no_items,
    "builtins.frozenset": frozenset,
    "builtins.bytes": _no_bytes,
} | dict.fromkeys(_INERT, _Inert)
"""What names in a checkpoint mean beside tensors and plain values. Neither numpy's nor mmengine's own are let in:
they allocate what a file tells them, and with ``getattr`` a file reaches every function there is."""
PICKLE_STAND_INS = STAND_INS | {
    "numpy.core.numeric._frombuffer": _from_buffer,
    "numpy._core.numeric._frombuffer": _from_buffer,
    "_codecs.encode": _encode,
    "collections.OrderedDict": OrderedDict,
    "collections.Counter": _Inert,
    "builtins.bytearray": _Inert,
    "builtins.complex": _Inert,
    "builtins.set": set,
}
"""The same where torch does not read, which has some of its own."""
_OF_PYTHON_2 = {"__builtin__.long": "builtins.int", "__builtin__.unicode": "builtins.str",
                "__builtin__.xrange": "builtins.range"}  # fmt: skip


class _Unpickler(pickle.Unpickler):
    """An unpickler of plain containers and stand-ins only."""

    def __init__(self, file: IO[bytes], stand_ins: Mapping[str, Any], stored: Callable[[Any], Any] | None) -> None:
        super().__init__(file, encoding="latin1")
        self.stand_ins, self.stored = stand_ins, stored

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in for a name; UnpicklingError for names without one."""
        full = f"{module}.{name}"
        known = _OF_PYTHON_2.get(full, re.sub(r"^__builtin__\.", "builtins.", full))
        if known not in self.stand_ins:
            raise pickle.UnpicklingError(f"GLOBAL {full}")
        return self.stand_ins[known]

    def persistent_load(self, identity: Any) -> Any:
        """Return what a pickle says is stored outside of it; UnpicklingError where nothing is."""
        if self.stored is None:
            raise pickle.UnpicklingError("a part that is stored elsewhere")
        return self.stored(identity)


def load(
    file: IO[bytes],
    path: Path,
    *,
    stand_ins: Mapping[str, Any] = PICKLE_STAND_INS,
    stored: Callable[[Any], Any] | None = None,
    what: str = "a checkpoint",
) -> Any:
    """Read a whole pickle of plain containers and numpy arrays (as ``Array``).

    Args:
        file: at the start of the pickle; left at its end.
        path: for messages.
        stand_ins: what the names in the pickle mean; any other name is refused.
        stored: returns what is stored outside of the pickle, by its identity.
        what: the file is taken for, for messages.

    Raises:
        InputError: the pickle is damaged, or names anything else.
    """
    start = file.tell()
    check(file, path, what)
    file.seek(start)
    try:
        return _Unpickler(file, stand_ins, stored).load()
    except pickle.UnpicklingError as error:
        raise InputError(refusal(error, path, what)) from error
    except UNREADABLE as error:
        raise InputError(f"{path}: not readable as {what}, it may be truncated") from error


def refusal(error: pickle.UnpicklingError, path: Path, what: str = "a checkpoint") -> str:
    """Return the error line for a refused pickle: the object that it names, or that it is damaged."""
    found = re.search(r"GLOBAL (\S+)", str(error))
    but = f"it holds an object of {found.group(1)}" if found else "it is not a torch file, or truncated"
    if found and found.group(1).startswith("torch.nn."):
        but += " (a whole module; save its state_dict())"
    if "torch.distributed.tensor" in str(error):
        but = "its tensors are shards of several processes (DTensor)"
    return f"{path}: expected {what} of tensors and plain values, but {but}"


_PUT, _GET = ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), ("GET", "BINGET", "LONG_BINGET")
_GROWING = ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD")


def _effect(operation: pickletools.OpcodeInfo) -> tuple[bool, int, bool, int]:
    """Return what an opcode does to the stack.

    Does it take all to the last mark; how many it takes below; is the last of these a container that it adds to and
    leaves there; how many it puts there.
    """
    before, grows = operation.stack_before, operation.name in _GROWING
    marked = pickletools.markobject in before
    below = before.index(pickletools.markobject) if marked else len(before)
    return marked, below - grows, grows, len(operation.stack_after)


_EFFECTS = {operation.name: _effect(operation) for operation in pickletools.opcodes}


def check(file: IO[bytes], path: Path, what: str = "a checkpoint") -> None:
    """Check a pickle's opcodes without loading it, and follow the nesting depth of each object on its stack.

    Raises:
        InputError: the pickle is truncated, nests containers too deep, or has a memo index (for which the reader
            allocates) beyond the size of the file.
    """
    mark, depths, memo = -1, list[int](), dict[int, int]()
    try:
        for operation, argument, position in pickletools.genops(file):
            name = operation.name
            if name in _PUT:
                index = len(memo) if name == "MEMOIZE" else int(argument or 0)
                if index > (position or 0):
                    raise InputError(f"{path}: its pickle has memo index {index}, expected at most {position}")
                memo[index] = depths[-1]
            elif name in _GET:
                depths.append(memo[int(argument or 0)])
            elif name == "MARK":
                depths.append(mark)
            else:
                marked, below, grows, put = _EFFECTS[name]
                deepest = -1
                if marked:
                    while (depth := depths.pop()) != mark:
                        deepest = max(deepest, depth)
                for _ in range(below):
                    deepest = max(deepest, depths.pop())
                depth = max(depths.pop(), deepest + 1) if grows else deepest + 1
                if depth > MAX_NESTING:
                    raise InputError(f"{path}: its pickle nests more than {MAX_NESTING} containers")
                depths += [depth] * put
    except InputError:
        raise
    except UNREADABLE as error:
        raise InputError(f"{path}: not readable as {what}, it may be truncated") from error
