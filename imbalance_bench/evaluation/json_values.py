"""Values as JSON has them: what counts as a whole number or a coordinate, and how a wrong one is shown."""

from __future__ import annotations

import math
from typing import Any

MAX_COORDINATE = 1e12
"""Beyond this no value is of pixels, and products of two would leave what numbers can hold."""


def whole(value: Any) -> int | None:
    """A whole number of 64 bits, also written as 3.0 (pandas does); None for anything else, text included."""
    if type(value) is float and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value if type(value) is int and abs(value) < 2**63 else None


def number(value: Any) -> float | None:
    """A finite number; None for anything else, text, true and false included."""
    if type(value) not in (int, float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def box(value: Any) -> list[float] | None:
    """Four numbers that coordinates can be; None for anything else."""
    if not isinstance(value, list | tuple) or len(value) != 4:
        return None
    numbers = [number(v) for v in value]
    return numbers if all(v is not None and abs(v) < MAX_COORDINATE for v in numbers) else None  # type: ignore[return-value]


def shown(value: Any) -> str:
    """A value in a few words, for a message; of nested ones the kind alone, which is never deep."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, str):
        return f"text {value!r:.40}"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    return "an object" if isinstance(value, dict) else f"{value!r:.40}"
