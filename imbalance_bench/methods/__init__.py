"""The catalogue: every method as one record.

Adding a method is one record here, and a Classifier where it scores or loses differently from those there are.
"""

from __future__ import annotations

from imbalance_bench.errors import look_up
from imbalance_bench.methods import paper, sigmoid_family, softmax_family
from imbalance_bench.methods.record import TAIL_BINS, Method, Scope, continued, softmax_start, tail_labels

__all__ = ["METHODS", "TAIL_BINS", "Method", "Scope", "continued", "get", "parse", "softmax_start", "tail_labels"]

_ALL = (*paper.METHODS, *softmax_family.METHODS, *sigmoid_family.METHODS)
METHODS: dict[str, Method] = {method.name: method for method in _ALL}


def get(name: str) -> Method:
    """The record of a method.

    Raises:
        InputError: an unknown name; the message holds the nearest one.
    """
    return look_up(METHODS, name, "method")


def parse(run: str) -> tuple[str, str | None]:
    """Method and variant of ``name`` or ``name:variant``."""
    name, _, variant = run.partition(":")
    return name, variant or None
