"""COCO results as the json module writes them, read into arrays block by block: six million fit into half a gigabyte.

As objects of Python they take four, and somewhat longer.

All objects of such a file have the same four fields in the same order with the same spaces, so what is left of it
without its numbers is one text over and over. Where anything is otherwise, nothing is read here, and the file goes the
usual way, which says what is wrong with it. (Numbers that JSON forbids, such as ``01`` or ``.5``, are read.)
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from imbalance_bench.evaluation.result_files.found import Column, Found, Keys, Rows
from imbalance_bench.runtime.json_values import MAX_COORDINATE

FIELDS = {"image_id": 1, "category_id": 1, "bbox": 4, "score": 1}
"""How many numbers each has."""
LEAST = 1 << 24
"""Bytes of a file from which it is worth to look."""
BLOCK = 1 << 25
"""Bytes that are read at a time."""
_OF_NUMBERS = b"0123456789.-+eE"
_IS_OF_NUMBER = np.isin(np.arange(256), np.frombuffer(_OF_NUMBERS, np.uint8))
_ALL_ELSE = bytes.maketrans(bytes(set(range(256)) - {*_OF_NUMBERS}), b" " * (256 - len(_OF_NUMBERS)))
_PLAIN = {"image_id": b"i", "category_id": b"c", "bbox": b"b", "score": b"s"}
"""Names of fields without letters of numbers."""
_LARGEST = float(1 << 53)
"""Ids are read in double precision, which is exact below."""


class _Irregular(Exception):
    """The file is not of this kind."""


def read(path: Path) -> Found | None:
    """Read a file of results; None if it is not of this kind, for whatever reason."""
    try:
        if path.stat().st_size < LEAST:
            return None
        with path.open("rb") as file:
            return _found(file, path)
    except (OSError, ValueError, _Irregular):
        return None


def _found(file: IO[bytes], path: Path) -> Found:
    order, blocks = _blocks(file)
    table = np.concatenate(list(blocks))
    ends = np.cumsum([FIELDS[name] for name in order]).tolist()
    columns = {name: table[:, end - FIELDS[name] : end] for name, end in zip(order, ends, strict=True)}
    boxes, scores = columns["bbox"].copy(), columns["score"][:, 0].copy()
    ids = [columns[name][:, 0] for name in ("image_id", "category_id")]
    if not (np.isfinite(scores).all() and (np.abs(boxes) < MAX_COORDINATE).all()):
        raise _Irregular
    if not all((np.abs(column) < _LARGEST).all() and (column == np.floor(column)).all() for column in ids):
        raise _Irregular
    boxes[:, 2:] += boxes[:, :2]
    keys = []
    for name, column in zip(("image_id", "category_id"), ids, strict=True):
        values, codes = np.unique(column.astype(np.int64), return_inverse=True)
        keys.append(Keys(name, values.tolist(), codes))
    none = Column("", [])
    rows = Rows("COCO results", lambda row: f"{path}: results[{row}]", none, none, form="xywh")
    return Found(rows, boxes, scores, keys[0], None, keys[1], None, None, ())


def _blocks(file: IO[bytes]) -> tuple[list[str], Iterator[np.ndarray]]:
    """Return the order of the fields, and the numbers of the objects, block by block.

    Raises:
        _Irregular: at once, or from the iterator.
    """
    content = file.read(BLOCK).lstrip()
    start, stop, after = content.find(b"{"), content.find(b"}") + 1, content.find(b"{", 1 + content.find(b"{"))
    if content[:1] != b"[" or content[1:start].strip() or not 0 < start < stop < after:
        raise _Irregular
    one, between = content[start:stop], content[stop:after]
    order = re.findall(rb'"([a-z_]+)"', one)
    if sorted(order) != sorted(name.encode() for name in FIELDS) or between.strip() != b",":
        raise _Irregular
    spelt = re.sub(rb"[0-9.eE+-]+", b"#", re.sub(rb'"[a-z_]+"', b'"', re.sub(rb"\s", b"", one)))
    expected = ",".join('":' + ("[#,#,#,#]" if name == b"bbox" else "#") for name in order)
    if spelt != b"{" + expected.encode() + b"}":
        raise _Irregular

    def numbers() -> Iterator[np.ndarray]:
        rest = content[start:]
        while True:
            end = rest.rfind(b"}") + 1
            whole, left = rest[:end], rest[end:]
            if whole:
                yield _numbers(whole, one, between)
            block = file.read(BLOCK)
            if not block:
                if left.strip() != b"]":
                    raise _Irregular
                return
            rest = left + block
            if whole:
                if not rest.startswith(between) and rest.strip() != b"]":
                    raise _Irregular
                rest = rest.removeprefix(between)

    return [name.decode() for name in order], numbers()


def _numbers(content: bytes, one: bytes, between: bytes) -> np.ndarray:
    """Return the (n, 7) numbers of some objects; ``one`` of them, and what is ``between`` two.

    Raises:
        _Irregular: something else is among them.
    """
    count, width = content.count(b"{"), sum(FIELDS.values())
    for name in FIELDS:  # their letters e would be parts of numbers
        one, content = (text.replace(b'"%b"' % name.encode(), b'"%b"' % _PLAIN[name]) for text in (one, content))
    plain, separator = (text.translate(None, _OF_NUMBERS) for text in (one, between))
    if content.translate(None, _OF_NUMBERS) != separator.join([plain] * count):
        raise _Irregular
    # In each place there are letters of numbers alone; so there is a number in each if there are as many runs of them.
    inside = _IS_OF_NUMBER[np.frombuffer(content, np.uint8)]
    if np.count_nonzero(inside[1:] & ~inside[:-1]) != count * width:
        raise _Irregular
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            values = np.fromstring(content.translate(_ALL_ELSE), sep=" ")
        except DeprecationWarning as warning:
            raise _Irregular from warning
    if len(values) != count * width:
        raise _Irregular
    return values.reshape(count, width)
