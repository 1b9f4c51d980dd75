"""The content of a file of detections: JSON, JSON lines, CSV, Parquet, pickles and torch's files, by what it holds.

A pickle and torch's files are read without torch, and nothing in them is executed.
"""

from __future__ import annotations

import csv
import io
import json
import pickletools
import zipfile
from pathlib import Path
from typing import IO, Any, NamedTuple

import pandas as pd

from imbalance_bench.checkpoints import tensors
from imbalance_bench.checkpoints.formats import LEGACY_MAGIC
from imbalance_bench.runtime.errors import InputError, naming_extras
from imbalance_bench.runtime.files import kind_of, load_json, parse_json, unpacked

WHAT = "a results file"
TABLES = (".csv", ".tsv")
LINES = (".jsonl", ".ndjson")
PICKLES = (".pkl", ".pickle")


class Frame(NamedTuple):
    """A table, and whether all its cells are text."""

    table: pd.DataFrame
    is_text: bool


def load(path: Path) -> Any:
    """Read a file: lists and objects of JSON, the same with arrays from a pickle, or a ``Frame``.

    Raises:
        InputError: unreadable, damaged, hostile, or of another kind.
    """
    with path.open("rb") as file:
        head = file.read(512)
    suffix = _suffix(path)
    if head.startswith(b"PAR1") or suffix == ".parquet":
        return _parquet(path)
    if head.startswith((b"PK\x03\x04", LEGACY_MAGIC)):
        return tensors.load_torch(path, WHAT)
    if head.startswith(b"\x80") or suffix in PICKLES:
        if (kind := kind_of(head)) is not None:
            raise InputError(f"{path}: it is {kind}, expected {WHAT}")
        with path.open("rb") as file:
            return tensors.load_pickle(file, path, WHAT)
    if suffix in TABLES:
        return _csv(path)
    if suffix in LINES or _is_lines(path):
        return _json_lines(path)
    return load_json(path)


def is_torch(path: Path) -> bool:
    """Tell whether a zip file was written by ``torch.save``; False for a damaged file."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name == "data.pkl" or name.endswith("/data.pkl") for name in archive.namelist())
    except Exception:  # a damaged archive raises whatever zipfile chooses to
        return False


def is_results(path: Path) -> bool:
    """Tell whether a file of torch holds a list, as results are; a checkpoint is a dictionary."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                (name,) = [name for name in archive.namelist() if name.endswith("data.pkl")]
                with archive.open(name) as file:
                    return _first(file) == "EMPTY_LIST"
        with path.open("rb") as file:
            for _ in range(3):  # before the content come magic number, version and system
                for _ in pickletools.genops(file):
                    pass
            return _first(file) == "EMPTY_LIST"
    except Exception:  # a damaged file raises whatever zipfile and pickletools choose to
        return False


def _first(file: IO[bytes]) -> str:
    """Return the name of a pickle's first opcode that makes something."""
    return next(op.name for op, _, _ in pickletools.genops(file) if op.name not in ("PROTO", "FRAME"))


def _suffix(path: Path) -> str:
    """Return the last suffix in lower case, that before ``.gz`` if it is packed."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return next((suffix for suffix in reversed(suffixes) if suffix != ".gz"), "")


def _text(path: Path) -> str:
    """Return the text of a file, packed or not, in UTF-8, UTF-16 or UTF-32.

    Raises:
        InputError: it is no text, or empty.
    """
    try:
        content = unpacked(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable as text ({error})") from error
    try:
        decoded = content.decode(json.detect_encoding(content)).removeprefix("\ufeff")
    except ValueError as error:
        kind = kind_of(content[:512])
        raise InputError(f"{path}: not readable as text ({f'it is {kind}' if kind else error})") from error
    if not decoded.strip():
        raise InputError(f"{path}: the file is empty, expected detections")
    return decoded


def _is_lines(path: Path) -> bool:
    """Tell whether the first line of a file that is not packed is a whole object and more follow."""
    with path.open("rb") as file:
        first, second = file.readline(1 << 20), file.readline(64)
    if not first.lstrip(b"\xef\xbb\xbf").startswith(b"{") or not second.strip():
        return False
    try:
        return isinstance(json.loads(first), dict) and second.lstrip().startswith(b"{")
    except (ValueError, RecursionError):
        return False


def _json_lines(path: Path) -> list[Any]:
    """Read a file of one JSON value a line.

    Raises:
        InputError: a line is not JSON; the message gives its number.
    """
    lines = [(number, line) for number, line in enumerate(_text(path).split("\n"), start=1) if line.strip()]
    try:
        values: list[Any] = parse_json(f"[{','.join(line for _, line in lines)}]")  # at once, as there are millions
        if len(values) == len(lines):
            return values
    except (ValueError, RecursionError):
        pass
    for number, line in lines:
        try:
            json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}: line {number}: not readable as JSON ({error})") from error
    raise InputError(f"{path}: has lines of several values, expected one a line")


def _csv(path: Path) -> Frame:
    """Read a table of text, whose columns are parted by comma, semicolon or tab.

    Raises:
        InputError: it is no table.
    """
    text = _text(path)
    header = text.lstrip().split("\n", 1)[0]
    separator = max(",;\t", key=header.count)
    try:
        frame = pd.read_csv(io.StringIO(text), sep=separator, dtype=str, keep_default_na=False, skipinitialspace=True)
    except (ValueError, csv.Error) as error:  # pandas' errors of parsing are such
        raise InputError(f"{path}: not readable as CSV ({str(error).strip()})") from error
    if not isinstance(frame.index, pd.RangeIndex):
        raise InputError(f"{path}: not readable as CSV (its rows have more fields than the first line names)")
    return Frame(frame, is_text=True)


def _parquet(path: Path) -> Frame:
    """Read a Parquet file.

    Raises:
        InputError: it is damaged.
        MissingDependency: the package that reads it is not installed.
    """
    with naming_extras():
        from pyarrow import parquet

    try:
        if (rows := parquet.read_metadata(path).num_rows) > max(1 << 20, path.stat().st_size):
            raise ValueError(f"{rows:,} rows in fewer bytes")
        frame = pd.read_parquet(path).astype(object)  # text that is none is found here
    except Exception as error:  # pyarrow raises a dozen kinds on a damaged file
        raise InputError(f"{path}: not readable as Parquet ({error})") from error
    frame.columns = frame.columns.map(str)
    if not frame.columns.is_unique:
        raise InputError(f"{path}: two columns have the same name, expected one each")
    return Frame(frame, is_text=False)
