"""Checkpoint files of any framework as tensors by name: torch, safetensors, and pickled numpy arrays.

Nothing in a file is executed, and nothing in it is believed before it is checked: sizes against the size of the file,
nesting before a pickle is read, names of classes against a list of stand-ins. Torch's zip format and safetensors are
memory-mapped, so that only the tensors somebody looks at are read. The torch format before 1.6 and pickles cannot be:
they are read whole.
"""

from __future__ import annotations

import io
import json
import math
import mmap
import pickle
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from imbalance_bench.checkpoints import pickles
from imbalance_bench.checkpoints.pickles import UNREADABLE
from imbalance_bench.runtime.equality import ByValue
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.files import kind_of

MAX_METADATA = 64 << 20
"""Bytes of a file that describe its tensors; real ones have less than one MiB."""
LEGACY_MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
"""How torch's format before 1.6 begins."""
CONTAINERS = ("state_dict", "model", "model_state_dict", "blobs", "module", "net", "network", "weights", "checkpoint")
"""Keys below which frameworks keep their weights; those below any other key come after them."""
AVERAGED = ("ema_state_dict", "state_dict_ema", "model_ema", "ema")
"""Keys of averaged weights, which come last."""
SAFETENSORS_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "I64": torch.int64, "I32": torch.int32,
    "I16": torch.int16, "I8": torch.int8, "U64": torch.uint64, "U32": torch.uint32, "U16": torch.uint16,
    "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Checkpoint(ByValue):
    """A file as tensors by name.

    Attributes:
        path: of the file.
        states: tensors by name, by the place of their dictionary in the file: ``""`` at the top, ``"state_dict."``,
            ``"ema.module."``; in order of preference.
        meta: mmdet's and this suite's ``meta``; empty where there is none.
    """

    path: Path
    states: dict[str, dict[str, Tensor]]
    meta: dict[str, Any]


def read(path: str | Path) -> Checkpoint:
    """A checkpoint, its format told by its content.

    Raises:
        InputError: missing, damaged, hostile, or without a tensor.
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
    """What ``torch.save`` wrote; memory-mapped where it is a zip file (torch 1.6 and later).

    Raises:
        InputError: missing, damaged, or holding more than tensors, arrays and plain values.
    """
    with _opened(path) as file:
        head = file.read(len(LEGACY_MAGIC))
        zipped, legacy = head.startswith(b"PK"), head == LEGACY_MAGIC
        file.seek(0)
        # The old format: magic number, version, system, content and keys of the storages, a pickle each.
        for pickled in _pickles_of_zip(path) if zipped else [file] * (5 if legacy else 1):
            pickles.check(pickled, path)
    try:
        with torch.serialization.safe_globals([(stand_in, name) for name, stand_in in pickles.STAND_INS.items()]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        raise InputError(pickles.refusal(error, path)) from error
    except UNREADABLE as error:
        raise InputError(f"{path}: not readable as a checkpoint, it may be truncated") from error


def values(tensor: Tensor, name: str, path: Path) -> Tensor:
    """A tensor's values in single precision, read from the file now.

    Raises:
        InputError: not plain floating-point values, NaN or infinite ones, or fewer stored than its shape says.
    """
    plain = tensor.layout is torch.strided and tensor.device.type == "cpu"
    if not plain or tensor.is_nested or not tensor.is_floating_point():
        raise InputError(f"{path}: field '{name}' is of {tensor.dtype}, expected a plain floating-point tensor")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise InputError(f"{path}: field '{name}' has shape {tuple(tensor.shape)}, but fewer values are stored")
    tensor = tensor.detach().float()
    if not tensor.isfinite().all():
        bad = int((~tensor.isfinite()).sum())
        raise InputError(f"{path}: field '{name}' holds {bad} values that are NaN or infinite, expected numbers")
    return tensor


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
    """The pickles in a torch zip file, which torch never compresses, nor makes large: it holds names and shapes."""
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
    """What an archive of such entries is; None where torch may have made it."""
    if any(re.search(r"(^|/)code/.*\.py$", name) for name in names):
        return "a scripted module (torch.jit), whose weights 'torch.jit.load(FILE).state_dict()' gives"
    if not any(re.search(r"(^|/)data\.pkl$", name) for name in names):
        inside = ", ".join(name[:60] for name in names[:3]) or "nothing"
        return f"an archive (zip) of {' '.join(inside.split())}, unpack it first"
    return None


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    """The safetensors format: length of the header (8 bytes), header (JSON), data; memory-mapped."""
    try:
        with _opened(path) as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        length = int.from_bytes(mapped[:8], "little")
        start = 8 + length
        if length > MAX_METADATA or start > len(mapped):
            raise ValueError(f"its header has {length} bytes, the file {len(mapped)}")
        header = json.loads(mapped[8:start], object_pairs_hook=_unique)
        header.pop("__metadata__", None)
        position, tensors = 0, {}
        for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            dtype, shape, (begin, end) = SAFETENSORS_DTYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
            if len(shape) > 64 or not all(type(n) is int and 0 <= n < 1 << 63 for n in (*shape, begin, end)):
                raise ValueError(f"'{name}' has a size or offset that is no count")
            size = math.prod(shape)
            if begin != position or end - begin != size * dtype.itemsize or start + end > len(mapped):
                raise ValueError(f"'{name}' has data_offsets [{begin}, {end}] that overlap, leave a gap or do not fit")
            position = end
            flat = torch.frombuffer(mapped, dtype=dtype, count=size, offset=start + begin) if size else torch.empty(0)
            tensors[name] = flat.to(dtype).reshape(shape)
        if start + position != len(mapped):
            raise ValueError(f"{len(mapped) - start} bytes of data, its header describes {position}")
        return tensors
    except InputError:
        raise
    except UNREADABLE as error:
        raise InputError(f"{path}: not readable as safetensors ({error})") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) != len(dict(pairs)):
        raise ValueError("a name stands twice in its header")
    return dict(pairs)


def _states(content: dict[Any, Any], path: Path, place: str = "") -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Dictionaries of tensors at the top and below the keys where frameworks put them, two levels down."""
    tensors = {}
    for name, value in content.items():
        try:
            tensor = value.tensor() if isinstance(value, pickles.Array) else value
        except UNREADABLE as error:
            raise InputError(f"{path}: field '{place}{name}' is not an array of numpy ({error})") from error
        if isinstance(name, str) and isinstance(tensor, Tensor):
            tensors[name] = tensor
    if tensors:
        yield place, tensors
    others = [key for key in content if isinstance(key, str) and key not in (*CONTAINERS, *AVERAGED)]
    for key in (*CONTAINERS, *others, *AVERAGED):
        inner = content.get(key)
        if isinstance(inner, dict) and place.count(".") < 2:
            yield from _states(inner, path, f"{place}{key}.")
