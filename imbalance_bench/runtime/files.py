"""Atomic file writes, strict JSON, checksums, and clear errors of full or read-only disks."""

from __future__ import annotations

import contextlib
import errno
import functools
import gc
import gzip
import hashlib
import io
import json
import math
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from imbalance_bench.runtime.errors import InputError

DISK_PROBLEMS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file grows beyond what is allowed (ulimit -f)",
    errno.EROFS: "the disk is read-only",
    errno.EACCES: "no permission",
    errno.EPERM: "no permission",
    errno.EIO: "the disk failed to read or write",
}
"""What is wrong with a disk or a folder, not with the program."""

MAX_PACKED = 200
"""Times that packed text may grow: numbers grow three to ten times."""
KINDS = {
    b"version https://git-lfs": "a Git LFS pointer; 'git lfs pull' brings the file itself",
    b"\x1f\x8b": "an archive (gzip), unpack it first",
    b"BZh": "an archive (bzip2), unpack it first",
    b"\xfd7zXZ": "an archive (xz), unpack it first",
    b"7z\xbc\xaf": "an archive (7z), unpack it first",
    b"(\xb5/\xfd": "an archive (zstd), unpack it first",
    b"\x89HDF": "an HDF5 file (Keras)",
}
"""How files begin that somebody takes for data, and what they are."""


def kind_of(head: bytes) -> str | None:
    """Recognise by its first 512 bytes a kind of file that is never the expected one; return None if unknown."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if not head:
        return "empty"
    if text[:9].lower() == b"<!doctype" or text[:5].lower() in (b"<html", b"<?xml"):
        return "a page of a website (HTML), as a download that failed leaves it"
    if head[257:262] == b"ustar":
        return "an archive (tar), unpack it first"
    return next((kind for start, kind in KINDS.items() if head.startswith(start)), None)


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Write a file to a temporary path with ``write``, then move it into place; on failure nothing changes.

    Raises:
        OSError: of the disk; it names ``path``, whatever ``write`` made of it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with naming(path, instead=True):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.partial-", suffix=path.suffix)
        os.close(handle)
        partial = Path(name)
        try:
            write(partial)
            with partial.open("rb") as file:
                os.fsync(file.fileno())
            partial.chmod(0o644)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replace a text file atomically."""

    def write(partial: Path) -> None:
        partial.write_text(text, encoding="utf-8")

    write_atomically(path, write)


def load_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file: UTF-8, UTF-16 or UTF-32, with or without a byte-order mark, gzipped or not.

    Told by the content, whatever the name: PowerShell and Excel write marks, exports are packed.

    Raises:
        InputError: missing, empty, unreadable, or not JSON.
    """
    content = b""
    try:
        content = Path(path).read_bytes()
        content = unpacked(content)
        if not content.strip():
            raise InputError(f"{path}: not readable as JSON (the file is empty)")
        return parse_json(content)
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file, expected a JSON file") from error
    except (OSError, ValueError, RecursionError) as error:
        kind = "an archive (zip), unpack it first" if content.startswith(b"PK\x03\x04") else kind_of(content[:512])
        if content.startswith(b"\x1f\x8b"):  # the error says what is wrong with it
            kind = None
        raise InputError(f"{path}: not readable as JSON ({f'it is {kind}' if kind else error})") from error


def unpacked(content: bytes) -> bytes:
    """Return what is packed by gzip; anything else as it is.

    Raises:
        ValueError: it is damaged, or grows to more than text does, to fill the memory.
    """
    if not content.startswith(b"\x1f\x8b"):
        return content
    most = max(64 << 20, MAX_PACKED * len(content))
    try:
        text = gzip.GzipFile(fileobj=io.BytesIO(content)).read(most + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"its gzip is damaged: {error}") from error
    if len(text) > most:
        raise ValueError(f"unpacked it is more than {MAX_PACKED} times as large")
    return text


def parse_json(text: str | bytes) -> Any:
    """Parse JSON without the collector of cycles, which would look through millions of objects that have none.

    It halves the time of a file of a million detections. Raises ValueError or RecursionError, as ``json.loads``.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        return json.loads(text)
    finally:
        if collects:
            gc.enable()


def write_json(path: Path, content: Any, *, compact: bool = False) -> None:
    """Replace a JSON file atomically; see ``json_text``."""
    try:
        text = json_text(content, compact=compact)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    write_text(path, text)


def json_text(content: Any, *, compact: bool = False) -> str:
    """Write a value as strict JSON, in which NaN becomes ``null``.

    Args:
        content: dictionaries, lists, numbers, strings.
        compact: without spaces and line breaks.

    Raises:
        ValueError: it holds an infinity.
    """
    layout: dict[str, Any] = {"separators": (",", ":")} if compact else {"indent": 1}
    try:
        text = json.dumps(content, allow_nan=False, **layout)
    except ValueError:
        text = json.dumps(_without_nan(content), allow_nan=False, **layout)
    return text if compact else f"{text}\n"


def _without_nan(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _without_nan(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_without_nan(value) for value in content]
    return None if isinstance(content, float) and math.isnan(content) else content


def numbers_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Turn the ``null`` values of a record of numbers, as ``json_text`` writes them, back into NaN."""
    return {name: math.nan if value is None else value for name, value in record.items()}


def remove_partials(folder: Path) -> None:
    """Delete the temporary files that a killed process left in a folder; no other process may be writing there."""
    for partial in folder.glob(".*.partial-*"):
        partial.unlink(missing_ok=True)


def feed(digest: hashlib._Hash, path: Path) -> None:
    """Update a checksum with the content of a file, which may be larger than memory."""
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)


def sha256(path: Path) -> str:
    """Compute the SHA-256 of a file as hex; an unchanged file is read once per process."""
    status = path.stat()
    return _sha256(path.resolve(), status.st_size, status.st_mtime_ns, status.st_ino)


@functools.lru_cache(maxsize=1024)
def _sha256(path: Path, *_: int) -> str:
    digest = hashlib.sha256()
    feed(digest, path)
    return digest.hexdigest()


@contextlib.contextmanager
def naming(path: Path, instead: bool = False) -> Iterator[None]:
    """Add the path to errors of the disk, because a write to an open file does not name it.

    Args:
        path: what.
        instead: also of errors that name another file.
    """
    try:
        yield
    except Exception as error:
        of_disk = _of_disk(error)
        if of_disk is None or (of_disk is error and of_disk.filename is not None and not instead):
            raise
        raise OSError(of_disk.errno, os.strerror(of_disk.errno or 0), str(path)) from error


def disk_problem(error: BaseException) -> str | None:
    """Describe an error of the disk in one line: path, reason, free space, what to do; None for other errors."""
    of_disk = _of_disk(error)
    if of_disk is None:
        return None
    full = of_disk.errno in (errno.ENOSPC, errno.EDQUOT)
    advice = "make room" if full else "make it writable"
    line = f"{DISK_PROBLEMS[of_disk.errno or 0]}; {advice} and give the same command again, or name another folder"
    if of_disk.filename is None:
        return line
    path = Path(os.fsdecode(of_disk.filename))
    return f"{path}: {line} ({free(path) / 2**30:.1f} GiB are free there)"


def free(path: Path) -> int:
    """Return the free bytes on the disk of a path, which need not exist yet."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def _of_disk(error: BaseException) -> OSError | None:
    """Find the disk error behind an exception; ``torch.save`` wraps it in one of its own."""
    for candidate in (error, error.__context__ if isinstance(error, RuntimeError) else None):
        if isinstance(candidate, OSError) and candidate.errno in DISK_PROBLEMS:
            return candidate
    return None
