"""Values as JSON has them: which are whole numbers, numbers or coordinates, and how a wrong one is shown."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

MAX_COORDINATE = 1e12
"""Beyond this no value is of pixels, and products of two would leave what numbers can hold."""


def whole(value: Any) -> int | None:
    """A whole number of 64 bits, also written as 3.0 (pandas does); None for anything else, text included."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return int(value) if integer and abs(int(value)) < 2**63 else None


def number(value: Any) -> float | None:
    """A finite number; None for anything else, text, true and false included."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def coordinate(value: Any) -> float | None:
    """A number of a size that pixels can have; None for anything else."""
    found = number(value)
    return found if found is not None and abs(found) < MAX_COORDINATE else None


def box(value: Any) -> list[float] | None:
    """Four coordinates; None for anything else."""
    if not isinstance(value, list | tuple) or len(value) != 4:
        return None
    numbers = [n for n in map(coordinate, value) if n is not None]
    return numbers if len(numbers) == 4 else None


def shown(value: Any) -> str:
    """A value in a few words, for a message; of one that holds others the kind alone, as it may be deep."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return f"text {value!r:.40}"
    if isinstance(value, list | tuple):
        plain = len(value) <= 6 and not any(isinstance(item, list | tuple | dict) for item in value)
        return f"{value!r:.60}" if plain else f"a list of {len(value)}"
    return "an object" if isinstance(value, dict) else f"{value!r:.40}"
