"""The ``data.yaml`` of YOLO: names of classes, and where the images of each split are.

Every plain value is taken as text, as in a class named ``no`` or ``010``. No tag constructs an object of Python.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import yaml

from imbalance_bench.datasets.formats.conversion import VALIDATION, as_text, read_bytes
from imbalance_bench.runtime import json_values
from imbalance_bench.runtime.errors import InputError

LARGEST = 1 << 20
"""Bytes of a ``data.yaml``; that of 13,000 classes has a third of them."""


class _TextLoader(yaml.SafeLoader):
    """Plain values are text as they are written: not false for ``no``, nor 8 for ``010``."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}


@dataclass(frozen=True)
class Data:
    """A checked ``data.yaml``.

    Attributes:
        path: the file.
        base: absolute path of the folder that its paths are relative to.
        names: names of the classes.
        entries: by split, folders of images or files of their paths.
        poses: whether the labels are of poses, so that keypoints follow each box.
        notes: what was taken for granted, one line each.
    """

    path: Path
    base: str
    names: tuple[str, ...]
    entries: dict[str, list[str]]
    poses: bool
    notes: tuple[str, ...]


def read_yaml(root: Path) -> Data:
    """Read a ``data.yaml``, or the only YAML file of a folder.

    Raises:
        InputError: it is missing, not YAML, or a field is not what it must be.
    """
    path = root
    if root.is_dir():
        found = [file for ending in ("yaml", "yml") for file in root.glob(f"*.{ending}")]
        path = found[0] if len(found) == 1 else root / "data.yaml"
    content = read_bytes(str(path))
    if content is None:
        raise InputError(f"{path}: no such file, expected YOLO's data.yaml, which names classes and images")
    if len(content) > LARGEST:
        raise InputError(f"{path}: has {len(content):,} bytes, expected a data.yaml of at most {LARGEST:,}")
    try:
        fields = yaml.load(as_text(content, str(path)), _TextLoader)
    except InputError:
        raise
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not readable as YAML ({error!s:.200})") from error
    if not isinstance(fields, dict):
        raise InputError(f"{path}: is {json_values.shown(fields)}, expected fields 'train', 'val' and 'names'")
    base, notes = _base(fields, path)
    return Data(path, base, _names(fields, path), _entries(fields, path), bool(fields.get("kpt_shape")), notes)


def _entries(fields: dict[Any, Any], path: Path) -> dict[str, list[str]]:
    entries = {}
    for key in ("train", *VALIDATION):
        if entry := fields.get(key):
            entries[key] = entry if isinstance(entry, list) else [entry]
            if not all(isinstance(item, str) and item and "\0" not in item for item in entries[key]):
                shown = json_values.shown(entry)
                raise InputError(f"{path}: field '{key}' is {shown}, expected a path, or a list of paths")
    return entries


def _base(fields: dict[Any, Any], path: Path) -> tuple[str, tuple[str, ...]]:
    """Return the folder that paths are relative to, and a note if it is not the stated one."""
    own = os.path.abspath(path.parent)
    stated = fields.get("path") or "."
    if not isinstance(stated, str) or "\0" in stated:
        raise InputError(f"{path}: field 'path' is {json_values.shown(stated)}, expected a folder")
    base = os.path.abspath(os.path.join(own, stated))
    if os.path.isdir(base):
        return base, ()
    return own, (f"field 'path' of {path.name} is {stated:.80}, which is not there: its own folder is taken",)


def _names(fields: dict[Any, Any], path: Path) -> tuple[str, ...]:
    """Return the names of the classes; if there is only their number, ``class_0``, ``class_1``, ... as ultralytics."""
    names, stated = fields.get("names"), fields.get("nc")
    count = int(stated) if isinstance(stated, str) and stated.isdecimal() and len(stated) < 7 else None
    if stated not in (None, "") and count is None:
        raise InputError(f"{path}: field 'nc' is {json_values.shown(stated)}, expected the number of classes")
    if names in (None, "") and count:
        return tuple(f"class_{number}" for number in range(count))
    if isinstance(names, dict):
        gaps = [number for number in range(len(names)) if str(number) not in names]
        if gaps:
            raise InputError(f"{path}: field 'names' has no class {gaps[0]}, expected classes from 0 without gaps")
        names = [names[str(number)] for number in range(len(names))]
    if not isinstance(names, list) or not names:
        raise InputError(f"{path}: field 'names' is {json_values.shown(names)}, expected the names of classes")
    for number, name in enumerate(names):
        if not isinstance(name, str):
            raise InputError(f"{path}: field 'names', class {number}: is {json_values.shown(name)}, expected text")
    if count is not None and count != len(names):
        raise InputError(f"{path}: field 'nc' is {count:,}, but 'names' has {len(names):,} classes")
    return tuple(names)
