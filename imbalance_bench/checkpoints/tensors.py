"""Tensors in torch's files and pickles as numpy arrays, without torch and without executing anything.

A tensor is a view of a storage: an offset, a size and strides. Storages lie beside the pickle (an entry of the zip
file, or behind it in the format before torch 1.6) or, where ``pickle`` wrote a tensor, in a whole file of the old
format within the pickle. Views are checked against their storage when their numbers are asked for.
"""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from imbalance_bench.checkpoints import pickles
from imbalance_bench.checkpoints.formats import LEGACY_MAGIC
from imbalance_bench.checkpoints.pickles import UNREADABLE
from imbalance_bench.runtime.errors import InputError

_BFLOAT16 = "bfloat16"
_STORAGES = {
    f"torch.{name}Storage": dtype
    for name, dtype in {
        "Double": "<f8", "Float": "<f4", "Half": "<f2", "BFloat16": _BFLOAT16, "Long": "<i8", "Int": "<i4",
        "Short": "<i2", "Char": "i1", "Byte": "u1", "Bool": "?",
    }.items()
}  # fmt: skip
"""What the names of torch's storages mean: types of numpy, which a pickle cannot change as they are text."""


class _Unchangeable:
    """An object that a pickle cannot change once it is made."""

    def __setstate__(self, _: Any) -> None:
        raise pickle.UnpicklingError(f"a state for a {type(self).__name__}")


class Storage(_Unchangeable):
    """The numbers of one or more tensors."""

    def __init__(self, dtype: str, count: int) -> None:
        self.dtype, self.count, self.raw = dtype, count, b""

    def fill(self, raw: bytes) -> None:
        """Set the bytes; raises ValueError if they are not as many as the pickle says."""
        if len(raw) != self.count * self.itemsize:
            raise ValueError(f"{len(raw)} bytes of a storage of {self.count}")
        self.raw = raw

    @property
    def itemsize(self) -> int:
        """Bytes of a number."""
        return 2 if self.dtype == _BFLOAT16 else np.dtype(self.dtype).itemsize

    def numbers(self) -> np.ndarray:
        """Return the (count,) numbers."""
        if self.dtype == _BFLOAT16:  # the upper half of single precision
            return (np.frombuffer(self.raw, "<u2").astype(np.uint32) << 16).view(np.float32)
        return np.frombuffer(self.raw, self.dtype)


class Tensor(_Unchangeable):
    """A stand-in for ``torch.Tensor``."""

    def __init__(self, storage: Any, offset: Any, size: Any, stride: Any) -> None:
        if not isinstance(storage, Storage) or not isinstance(size, tuple) or not isinstance(stride, tuple):
            raise pickle.UnpicklingError("a tensor that is no view of a storage")
        self.storage, self.offset, self.size, self.stride = storage, offset, size, stride

    def numbers(self) -> np.ndarray:
        """Return the numbers as an array; ValueError if they are not within the storage."""
        values, offset, size, stride = self.storage.numbers(), self.offset, self.size, self.stride
        if not all(type(n) is int and 0 <= n < 1 << 48 for n in (offset, *size, *stride)):
            raise ValueError("its offset, size or strides are no whole numbers")
        if len(size) != len(stride) or math.prod(size) > len(values):
            raise ValueError(f"of shape {size} only {len(values)} values are stored")
        if math.prod(size) == 0:
            return np.empty(size, values.dtype)
        if offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) >= len(values):
            raise ValueError(f"shape {size} leaves the {len(values)} values that are stored")
        steps = [step * values.itemsize for step in stride]
        return np.lib.stride_tricks.as_strided(values[offset:], size, steps, writeable=False).copy()


@pickles.stand_in
def _rebuild(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    """Replace ``torch._utils._rebuild_tensor_v2`` and the one before it."""
    return Tensor(storage, offset, size, stride)


@pickles.stand_in
def _parameter(tensor: Any, *_: Any) -> Tensor:
    """Replace ``torch._utils._rebuild_parameter``."""
    if not isinstance(tensor, Tensor):
        raise pickle.UnpicklingError("a parameter that is no tensor")
    return tensor


@pickles.stand_in
def _storage_within(raw: Any) -> Storage:
    """Replace ``torch.storage._load_from_bytes``, which reads a whole file of torch from within a pickle."""
    found = _legacy(io.BytesIO(raw), Path("a tensor"), _STORAGES)
    if not isinstance(found, Storage):
        raise ValueError("no storage")
    return found


STAND_INS = pickles.PICKLE_STAND_INS | _STORAGES | {
    "torch._utils._rebuild_tensor": _rebuild,
    "torch._utils._rebuild_tensor_v2": _rebuild,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.storage._load_from_bytes": _storage_within,
    "torch.Size": tuple,
    "torch.device": pickles.STAND_INS["uuid.UUID"],
}  # fmt: skip
"""What names in a pickle mean where tensors become ``Tensor``."""


def load_pickle(file: IO[bytes], path: Path, what: str) -> Any:
    """Read a pickle of plain containers, numpy arrays (as ``pickles.Array``) and tensors (as ``Tensor``).

    Args:
        file: at the start of the pickle.
        path: for messages.
        what: the file is taken for, for messages.

    Raises:
        InputError: the pickle is damaged, or names anything else.
    """
    return pickles.load(file, path, stand_ins=STAND_INS, what=what)


def load_torch(path: Path, what: str, stand_ins: Mapping[str, Any] = STAND_INS) -> Any:
    """Read a file of ``torch.save``, of either format, as ``load_pickle`` does.

    Args:
        path: of the file.
        what: the file is taken for, for messages.
        stand_ins: what the names in its pickle mean.

    Raises:
        InputError: the file is damaged, or holds more than tensors, arrays and plain values.
    """
    try:
        with path.open("rb") as file:
            if file.read(2) != b"PK":
                file.seek(0)
                return _legacy(io.BytesIO(file.read()), path, stand_ins, what)
        with zipfile.ZipFile(path) as archive:
            return _zipped(archive, path, stand_ins, what)
    except InputError:
        raise
    except UNREADABLE as error:
        raise InputError(f"{path}: not readable as {what}, it may be truncated") from error


def _zipped(archive: zipfile.ZipFile, path: Path, stand_ins: Mapping[str, Any], what: str) -> Any:
    """Read the pickle of a zip file, and its storages as the pickle names them."""
    entries = {entry.filename: entry for entry in archive.infolist()}
    if any(entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size
           for entry in entries.values()):  # fmt: skip
        raise InputError(f"{path}: it holds compressed entries, which torch.save never writes")
    if sum(entry.file_size for entry in entries.values()) > path.stat().st_size:
        raise InputError(f"{path}: its entries overlap, which torch.save never writes")
    (pickled,) = [name for name in entries if name == "data.pkl" or name.endswith("/data.pkl")]
    folder = pickled.removesuffix("data.pkl")
    if f"{folder}byteorder" in entries and archive.read(f"{folder}byteorder") != b"little":
        raise InputError(f"{path}: its numbers are big-endian, expected little-endian")
    storages: dict[Any, Storage] = {}

    def stored(identity: Any) -> Storage:
        dtype, key, count = _identified(identity)
        if key not in storages:
            storages[key] = Storage(dtype, count)
            storages[key].fill(archive.read(f"{folder}data/{key}"))
        return storages[key]

    return pickles.load(io.BytesIO(archive.read(pickled)), path, stand_ins=stand_ins, stored=stored, what=what)


def _legacy(file: io.BytesIO, path: Path, stand_ins: Mapping[str, Any], what: str = "a tensor") -> Any:
    """Read the format before torch 1.6: magic number, version, system, content, the storages' keys and bytes."""
    storages: dict[str, Storage] = {}

    def stored(identity: Any) -> Any:
        if isinstance(identity, tuple) and identity[0] == "module":  # a class beside its source text, which is not read
            return identity[1]
        dtype, key, count = _identified(identity)
        return storages.setdefault(key, Storage(dtype, count))

    if file.read(len(LEGACY_MAGIC)) != LEGACY_MAGIC:
        raise ValueError("not torch's format")
    plain: dict[str, Any] = {}
    _, system = (pickles.load(file, path, stand_ins=plain, what=what) for _ in range(2))
    if not system["little_endian"]:
        raise ValueError("its numbers are big-endian")
    content = pickles.load(file, path, stand_ins=stand_ins, stored=stored, what=what)
    for key in pickles.load(file, path, stand_ins=plain, what=what):
        storage = storages[key]
        if int.from_bytes(file.read(8), "little") != storage.count:
            raise ValueError("a storage of another size")
        storage.fill(file.read(storage.count * storage.itemsize))
    return content


def _identified(identity: Any) -> tuple[str, str, int]:
    """Return type, key and count of a storage from what a pickle calls it.

    Raises:
        ValueError: it is called anything else than torch calls it.
    """
    kind, dtype, key, _, count, *_ = identity
    if kind != "storage" or dtype not in _STORAGES.values() or not isinstance(key, str) or type(count) is not int:
        raise ValueError("a storage that torch does not write")
    if not 0 <= count < 1 << 48:
        raise ValueError(f"a storage of {count}")
    return dtype, key, count
