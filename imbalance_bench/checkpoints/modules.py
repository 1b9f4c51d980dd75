"""Whole modules in files of ``torch.save(model)``, as data: no class in them is imported, nothing is called."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imbalance_bench.checkpoints import tensors
from imbalance_bench.checkpoints.pickles import Object, Objects
from imbalance_bench.checkpoints.tensors import Tensor
from imbalance_bench.runtime.errors import InputError

MOST_MODULES, LONGEST_NAME = 10_000, 500
"""Of a module, counted where it stands: a file may name one in itself, or twice in each of many."""


def load(path: Path, package: str, what: str) -> Any:
    """Read a file of ``torch.save`` in which objects of torch's layers and of a package are ``pickles.Object``.

    Args:
        path: of the file.
        package: whose classes may be named.
        what: the file is taken for, for messages.

    Raises:
        InputError: the file is damaged, or holds objects of other packages.
    """
    pattern = re.compile(rf"(torch\.nn\.modules|{re.escape(package)})(\.\w+)+")
    return tensors.load_torch(path, what, Objects(tensors.STAND_INS, pattern))


def fields(found: Object, path: Path, name: str) -> Mapping[Any, Any]:
    """Return the attributes of an object.

    Raises:
        InputError: it has none.
    """
    if not isinstance(found.state, dict):
        raise InputError(f"{path}: field '{name}' is a {found.kind} without attributes, expected a module")
    return found.state


def state_of(module: Object, path: Path) -> dict[str, Tensor]:
    """Return the tensors of a module and of those in it by the names of its ``state_dict``; their numbers are not read.

    Raises:
        InputError: what is no module, parameter or buffer is in the place of one, or there are too many.
    """
    found: dict[str, Tensor] = {}
    waiting = [("", module)]
    for seen in range(MOST_MODULES + 1):
        if not waiting:
            return found
        prefix, own = waiting.pop()
        if len(prefix) > LONGEST_NAME or seen == MOST_MODULES:
            break
        held = fields(own, path, prefix or "model")
        left_out = held.get("_non_persistent_buffers_set")
        for part in ("_parameters", "_buffers", "_modules"):
            for name, value in _items(held, part, path, prefix):
                place = f"{prefix}{name}"
                if part == "_modules" and isinstance(value, Object):
                    waiting.append((f"{place}.", value))
                elif part != "_modules" and isinstance(value, Tensor):
                    if part == "_parameters" or not isinstance(left_out, set) or name not in left_out:
                        found[place] = value
                elif value is not None:
                    expected = "a module" if part == "_modules" else "a tensor"
                    raise InputError(f"{path}: field '{place}' is a {type(value).__name__}, expected {expected}")
    raise InputError(f"{path}: its model has more than {MOST_MODULES:,} modules, or one within itself")


def _items(held: Mapping[Any, Any], part: str, path: Path, prefix: str) -> list[tuple[str, Any]]:
    """Return the named parts of a module."""
    own = held.get(part)
    if not isinstance(own, dict) or not all(isinstance(name, str) for name in own):
        raise InputError(f"{path}: field '{prefix}{part}' is no dictionary of names, expected a module of torch")
    return list(own.items())
