"""Settings of a method: the kinds of its options, how a value is read from text, how it is written into a name."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from imbalance_bench.runtime.errors import InputError

WORDS = ("n", "all", "lvis")
"""Values of a number that may be a word too (``float | str``), such as ``beta`` of BAGS or ``threshold`` of RFS."""


@dataclass(frozen=True)
class Option:
    """One option.

    Attributes:
        name: left of ``=``.
        default: its value where a variant does not set it; values are of its kind.
        takes_words: a number that may also be one of ``WORDS``.
    """

    name: str
    default: Any
    takes_words: bool = False

    def read(self, text: str, source: str) -> Any:
        """Read a value: a finite number, true or false, or a word that may name a folder.

        Raises:
            InputError: not a value of this option; the message begins with ``source``.
        """
        try:
            if isinstance(self.default, bool):
                return {"true": True, "false": False}[text.lower()]
            if self.takes_words and text in WORDS:
                return text
            if isinstance(self.default, str) and not self.takes_words:
                return _matching(r"[A-Za-z0-9_. -]*", text)
            # Python takes blanks, underscores, digits of all scripts, NaN and infinity besides.
            number = float if self.takes_words else type(self.default)
            value = number(_matching(r"[-+.0-9eE]+", text))
            if not math.isfinite(value):
                raise ValueError(text)
            return value + 0  # no negative zero, which is a name of its own
        except (KeyError, ValueError, OverflowError) as error:
            like = text_of(self.default) or "a word"
            raise InputError(f"{source}: '{text}' is not a value like {like}") from error


def _matching(pattern: str, text: str) -> str:
    if re.fullmatch(pattern, text) is None:
        raise ValueError(text)
    return text


def text_of(value: Any) -> str:
    """Write a value as ``Option.read`` reads it: two values never have one text, as it is a run folder's name."""
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def keyword_options(function: Callable[..., Any]) -> dict[str, Option]:
    """List the keyword-only arguments of a function as options, by name."""
    return {
        argument.name: Option(argument.name, argument.default, takes_words=argument.annotation == "float | str")
        for argument in inspect.signature(function).parameters.values()
        if argument.kind is inspect.Parameter.KEYWORD_ONLY
    }
