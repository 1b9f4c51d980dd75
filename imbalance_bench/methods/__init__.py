"""The catalogue: every method as one record.

Adding a method is one record here, and a Classifier where it scores or loses differently from those there are.
"""

from __future__ import annotations

from imbalance_bench.methods import paper_rows as paper
from imbalance_bench.methods import sigmoid_family, softmax_family
from imbalance_bench.methods.record import Method, Scope, continued, softmax_start
from imbalance_bench.runtime.errors import InputError, look_up

__all__ = [
    "METHODS",
    "Method",
    "Scope",
    "candidates",
    "continued",
    "get",
    "parse",
    "softmax_start",
]

_ALL = (*paper.METHODS, *softmax_family.METHODS, *sigmoid_family.METHODS)
METHODS: dict[str, Method] = {method.name: method for method in _ALL}


def get(name: str) -> Method:
    """The record of a method.

    Raises:
        InputError: an unknown name; the message holds the nearest one.
    """
    return look_up(METHODS, name, "method")


def candidates(names: tuple[str, ...] | None = None) -> list[Method]:
    """Methods that can be tried on a finished detector: post hoc, or training the classifier alone.

    Without names those that read what the classifier reads; ``conv``, say, is twelve times as wide.

    Raises:
        InputError: an unknown method, or one that trains more.
    """
    if names is None:
        fits = [m for m in METHODS.values() if m.trains in ("classifier", "nothing") and m.starts_from == "baseline"]
        return [method for method in fits if not method.name.endswith("-conv")]
    chosen = [get(name) for name in names]
    for method in chosen:
        if method.trains not in ("classifier", "nothing") or method.starts_from != "baseline":
            raise InputError(
                f"'{method.name}' trains more than the classifier or starts from another run than the baseline, "
                "expected a method that does neither"
            )
    return chosen


def parse(run: str) -> tuple[str, str | None]:
    """Method and variant of ``name`` or ``name:variant``."""
    name, _, variant = run.partition(":")
    return name, variant or None
