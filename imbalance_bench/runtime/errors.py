"""The exception for bad user input, a look-up that raises it, and a helper for its messages."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


class InputError(ValueError):
    """Bad input from the user: a file, an option, a checkpoint.

    The message is one line that names the file, the field and what was expected; the command line prints it
    as it is and exits with status 2. Names and other packages' messages that break lines are joined.

    Example:
        >>> look_up({"bags": 1, "eqlv2": 2}, "bag", "method")
        Traceback (most recent call last):
        imbalance_bench.runtime.errors.InputError: unknown method 'bag', did you mean 'bags'? (known: bags, eqlv2)
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.splitlines()))


def look_up(records: Mapping[str, T], name: str, kind: str) -> T:
    """Look up a record by name.

    Args:
        records: by name.
        name: what the user asked for.
        kind: what the records are, for the message.

    Raises:
        InputError: an unknown name; the message holds one that is near, if any, and all that are known.
    """
    if name not in records:
        near = difflib.get_close_matches(name, records, n=1)
        meant = f", did you mean '{near[0]}'?" if near else ""
        raise InputError(f"unknown {kind} '{name}'{meant} (known: {', '.join(records)})")
    return records[name]


def first(values: Sequence[Any], count: int = 3) -> str:
    """Join the first few values of a list for a one-line message."""
    texts = (text if text.isprintable() else ascii(text)[1:-1] for text in map(str, values[:count]))
    return ", ".join(texts) + (", ..." if len(values) > count else "")
