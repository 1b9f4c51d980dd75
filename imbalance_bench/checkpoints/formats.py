"""Read checkpoint files of any framework as tensors by name: torch, safetensors, and pickled numpy arrays.

Nothing in a file is executed, and everything is checked before it is used: sizes against the size of the file,
nesting before a pickle is read, names of classes against a list of stand-ins. Torch's zip format and safetensors are
memory-mapped, so that only the tensors in use are read. The torch format before 1.6 and pickles cannot be mapped; they
are read whole. Torch is needed only for torch's files; the tensors of other files are numpy arrays.
"""

from __future__ import annotations

import io
import json
import pickle
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias

import numpy as np
from safetensors import SafetensorError, safe_open

from imbalance_bench.checkpoints import pickles
from imbalance_bench.checkpoints.pickles import UNREADABLE
from imbalance_bench.runtime.equality import ByValue
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.files import kind_of

if TYPE_CHECKING:
    import torch

Stored: TypeAlias = "np.ndarray | torch.Tensor"
"""A tensor in a file; both kinds have ``shape`` and ``ndim``, and ``values`` reads either."""

MAX_METADATA = 64 << 20
"""Bytes of a file that describe its tensors; real ones have less than one MiB."""
LEGACY_MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
"""How torch's format before 1.6 begins."""
CONTAINERS = ("state_dict", "model", "model_state_dict", "blobs", "module", "net", "network", "weights", "checkpoint")
"""Keys below which frameworks keep their weights; those below any other key come after them."""
AVERAGED = ("ema_state_dict", "state_dict_ema", "model_ema", "ema")
"""Keys of averaged weights, which come last."""
SAFETENSORS_DTYPES = {
    name: np.dtype(code)
    for name, code in {
        "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U64": "<u8",
        "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?", "C64": "<c8",
    }.items()
} | {
    name: np.dtype([(name, code)]) for name, code in (("BF16", "<u2"), ("F8_E4M3", "u1"), ("F8_E5M2", "u1"))
}  # fmt: skip
"""Types of safetensors in numpy. What it has no type for is kept as its bits, in a field of that name."""
_FLOAT8 = {"F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}


@dataclass(frozen=True, eq=False)
class Checkpoint(ByValue):
    """The content of a checkpoint file: tensors by name.

    Attributes:
        path: path of the file.
        states: tensors by name, for each place of a dictionary in the file (``""`` at the top, ``"state_dict."``,
            ``"ema.module."``), in order of preference.
        meta: ``meta`` of mmdet and of this suite; empty if there is none.
    """

    path: Path
    states: dict[str, dict[str, Stored]]
    meta: dict[str, Any]


def read(path: str | Path) -> Checkpoint:
    """Read a checkpoint; its content decides the format.

    Raises:
        InputError: the file is missing, damaged, hostile, or without a tensor.
    """
    path = Path(path)
    with _opened(path) as file:
        head = file.read(512)
    if head.lstrip().startswith(b"{") and head[8:9] != b"{":
        index = b'"weight_map"' in head or b'"metadata"' in head
        what = "the index of weights in several files, name the one that holds the classifier" if index else "JSON"
        raise InputError(f"{path}: it is {what}, expected a checkpoint (.pth, .pkl or .safetensors)")
    if (kind := kind_of(head)) is not None:
        raise InputError(f"{path}: it is {kind}, expected a checkpoint (.pth, .pkl or .safetensors)")
    torch_file = head.startswith((b"PK", LEGACY_MAGIC[:9]))
    if not torch_file and (path.suffix == ".safetensors" or head[8:9] == b"{"):
        content: Any = _read_safetensors(path)
    elif torch_file:
        content = read_torch(path)
    else:
        with _opened(path) as file:
            content = _read_pickle(file, path, head)
    states = dict(_states(content, path)) if isinstance(content, dict) else {}
    if not states:
        raise InputError(f"{path}: no tensors in it, expected the weights of a detector")
    meta = content.get("meta")
    return Checkpoint(path, states, meta if isinstance(meta, dict) else {})


def read_torch(path: Path) -> Any:
    """Read a file of ``torch.save``, memory-mapped if it is a zip file (torch 1.6 and later).

    Raises:
        InputError: the file is missing, damaged, or holds more than tensors, arrays and plain values.
    """
    with _opened(path) as file:
        head = file.read(len(LEGACY_MAGIC))
        zipped, legacy = head.startswith(b"PK"), head == LEGACY_MAGIC
        file.seek(0)
        # The old format: magic number, version, system, content and keys of the storages, a pickle each.
        for pickled in _pickles_of_zip(path) if zipped else [file] * (5 if legacy else 1):
            pickles.check(pickled, path)
    import torch

    try:
        with torch.serialization.safe_globals([(stand_in, name) for name, stand_in in pickles.STAND_INS.items()]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        raise InputError(pickles.refusal(error, path)) from error
    except UNREADABLE as error:
        raise InputError(f"{path}: not readable as a checkpoint, it may be truncated") from error


def values(tensor: Stored, name: str, path: Path) -> np.ndarray:
    """Read a tensor's values from the file, in single precision.

    Raises:
        InputError: the values are not plain floating-point numbers, are NaN or infinite, or are fewer than the shape
            says.
    """
    numbers = None
    if isinstance(tensor, np.ndarray):
        numbers = _single_precision(tensor)
    elif _is_plain(tensor):
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise InputError(f"{path}: field '{name}' has shape {tuple(tensor.shape)}, but fewer values are stored")
        numbers = tensor.detach().float().numpy()
    if numbers is None:
        raise InputError(f"{path}: field '{name}' is of {tensor.dtype}, expected a plain floating-point tensor")
    if not np.isfinite(numbers).all():
        bad = int((~np.isfinite(numbers)).sum())
        raise InputError(f"{path}: field '{name}' holds {bad} values that are NaN or infinite, expected numbers")
    return numbers


def _is_plain(tensor: torch.Tensor) -> bool:
    """Return whether a tensor is a dense floating-point tensor in CPU memory."""
    import torch

    dense = tensor.layout is torch.strided and tensor.device.type == "cpu" and not tensor.is_nested
    return dense and tensor.is_floating_point()


def _single_precision(array: np.ndarray) -> np.ndarray | None:
    """Convert floats to single precision, those without a numpy type from their bits; None for other types."""
    (kind,) = array.dtype.names or ("",)
    if kind == "BF16":  # the upper half of single precision
        return (array[kind].astype(np.uint32) << 16).view(np.float32)
    if kind in _FLOAT8:
        import torch

        return torch.from_numpy(array[kind].copy()).view(getattr(torch, _FLOAT8[kind])).float().numpy()
    if not np.issubdtype(array.dtype, np.floating):
        return None
    with np.errstate(over="ignore"):  # infinite then, which is told
        return array.astype(np.float32)


def _read_pickle(file: IO[bytes], path: Path, head: bytes) -> Any:
    try:
        return pickles.load(file, path)
    except InputError as error:
        # Pickles of protocol 0 are text too.
        if "truncated" in str(error) and all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head):
            raise InputError(
                f"{path}: it is a text file, expected a checkpoint (.pth, .pkl or .safetensors)"
            ) from error
        raise


def _opened(path: Path) -> IO[bytes]:
    if path.is_dir():
        what = "a folder without a checkpoint in it"
        if (path / ".metadata").is_file():
            what = (
                "a folder of torch.distributed.checkpoint, join it with 'python -m "
                "torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER FILE'"
            )
        raise InputError(f"{path}: it is {what}, expected a checkpoint (.pth, .pkl or .safetensors)")
    if not path.is_file():
        raise InputError(f"{path}: no such file, expected a checkpoint (.pth, .pkl or .safetensors)")
    try:
        return path.open("rb")
    except OSError as error:
        raise InputError(f"{path}: not readable ({error.strerror})") from error


def _pickles_of_zip(path: Path) -> list[IO[bytes]]:
    """Return the pickles of a torch zip file; compressed or large ones, which torch never writes, are refused."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if (kind := _kind_of_zip([entry.filename for entry in entries])) is not None:
                raise InputError(f"{path}: it is {kind}, expected a checkpoint (.pth, .pkl or .safetensors)")
            for entry in entries:
                if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
                    raise InputError(f"{path}: entry '{entry.filename}' is compressed, which torch.save never does")
            described = [entry for entry in entries if not re.search(r"(^|/)data/\d+$", entry.filename)]
            if (size := sum(entry.file_size for entry in described)) > MAX_METADATA:
                raise InputError(f"{path}: {size} bytes beside its tensors, expected at most {MAX_METADATA}")
            return [io.BytesIO(archive.read(entry)) for entry in described if entry.filename.endswith(".pkl")]
    except InputError:
        raise
    except UNREADABLE as error:
        raise InputError(f"{path}: not readable as a checkpoint, it may be truncated") from error


def _kind_of_zip(names: list[str]) -> str | None:
    """Describe a zip archive with these entries; None if it may be a checkpoint of torch."""
    if any(re.search(r"(^|/)code/.*\.py$", name) for name in names):
        return "a scripted module (torch.jit), whose weights 'torch.jit.load(FILE).state_dict()' gives"
    if not any(re.search(r"(^|/)data\.pkl$", name) for name in names):
        inside = ", ".join(name[:60] for name in names[:3]) or "nothing"
        return f"an archive (zip) of {' '.join(inside.split())}, unpack it first"
    return None


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of a safetensors file: its package checks the header, numpy maps the arrays."""
    try:
        with safe_open(path, framework="np"):
            pass
        with _opened(path) as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        start = 8 + length
        data = np.memmap(path, np.uint8, "c", offset=start) if path.stat().st_size > start else np.empty(0, np.uint8)
        arrays = {}
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            arrays[name] = data[begin:end].view(SAFETENSORS_DTYPES[entry["dtype"]]).reshape(entry["shape"])
        return arrays
    except InputError:
        raise
    except (SafetensorError, *UNREADABLE) as error:
        raise InputError(f"{path}: not readable as safetensors ({error})") from error


def _states(content: dict[Any, Any], path: Path, place: str = "") -> Iterator[tuple[str, dict[str, Stored]]]:
    """Yield the dictionaries of tensors at the top and below the keys that frameworks use, two levels deep."""
    tensors: dict[str, Stored] = {}
    for name, value in content.items():
        try:
            tensor: Any = value.numbers() if isinstance(value, pickles.Array) else value
        except UNREADABLE as error:
            raise InputError(f"{path}: field '{place}{name}' is not an array of numpy ({error})") from error
        if isinstance(name, str) and hasattr(tensor, "shape"):  # beside plain values and stand-ins, tensors alone
            tensors[name] = tensor
    if tensors:
        yield place, tensors
    others = [key for key in content if isinstance(key, str) and key not in (*CONTAINERS, *AVERAGED)]
    for key in (*CONTAINERS, *others, *AVERAGED):
        inner = content.get(key)
        if isinstance(inner, dict) and place.count(".") < 2:
            yield from _states(inner, path, f"{place}{key}.")
