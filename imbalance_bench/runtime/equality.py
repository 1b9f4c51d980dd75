"""Equality of records that hold arrays; the one that a dataclass generates raises an error on arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any


class ByValue:
    """Base class that compares dataclasses with arrays by value (use with ``@dataclass(eq=False)``).

    Records of one type with equal fields are equal. Arrays, tensors and tables are equal if their shapes and all
    elements are, and NaN equals NaN. Such a record has no hash, because its arrays can be changed in place.
    """

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return all(_same(getattr(self, field.name), getattr(other, field.name)) for field in fields(self))  # type: ignore[arg-type]

    __hash__ = None  # type: ignore[assignment]


def _same(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    if type(one) is not type(other):
        return bool(one == other) if not hasattr(one, "shape") and not hasattr(other, "shape") else False
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(_same, one, other))
    if hasattr(one, "equals"):  # pandas
        return bool(one.equals(other))
    if hasattr(one, "shape"):  # NumPy and torch; only NaN differs from itself
        return one.shape == other.shape and bool(((one == other) | ((one != one) & (other != other))).all())
    return bool(one == other or (one != one and other != other))
