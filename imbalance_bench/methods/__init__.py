"""The catalogue: every method as one record.

Adding a method is one record here, and a Classifier where it scores or loses differently from those there are.
"""

from __future__ import annotations

from imbalance_bench.methods import paper_rows, recent, sigmoid_family, softmax_family
from imbalance_bench.methods.record import Method, Run, Scope
from imbalance_bench.runtime.errors import InputError, look_up

__all__ = [
    "METHODS",
    "Method",
    "Run",
    "Scope",
    "candidates",
    "get",
    "needs",
    "parse",
    "start_of",
]

_ALL = (*paper_rows.METHODS, *softmax_family.METHODS, *sigmoid_family.METHODS, *recent.METHODS)
METHODS: dict[str, Method] = {method.name: method for method in _ALL}


def get(name: str) -> Method:
    """Look up the record of a method.

    Raises:
        InputError: an unknown name; the message holds the nearest one.
    """
    return look_up(METHODS, name, "method")


def parse(run: str | Run) -> Run:
    """Resolve ``method`` or ``method:variant``.

    Raises:
        InputError: an unknown method, variant or option.
    """
    if isinstance(run, Run):
        return run
    name, _, variant = run.partition(":")
    return get(name).run(variant or None)


def start_of(run: Run) -> Run | None:
    """Find the run whose trained detector a run goes on from; None where it starts from scratch."""
    return None if run.starts_from_scratch else parse(run.method.starts_from)


def needs(run: Run) -> tuple[Run, ...]:
    """List the runs that are finished before a run begins: what it starts from, and whose proposals it has."""
    start = start_of(run)
    runs = [] if start is None else [start]
    if run.keeps_detector:
        runs.append(parse("baseline"))
    return tuple(dict.fromkeys(runs))


def candidates(names: tuple[str, ...] | None = None) -> list[Method]:
    """List the methods that can be tried on a finished detector: post hoc, or training the classifier alone.

    Without names those that read what the classifier reads; ``conv``, say, is twelve times as wide.

    Raises:
        InputError: an unknown method, or one that trains more.
    """
    if names is None:
        return [method for method in METHODS.values() if _fits(method) and not method.name.endswith("-conv")]
    chosen = [get(name) for name in names]
    for method in chosen:
        if not _fits(method):
            raise InputError(
                f"'{method.name}' trains more than the classifier or starts from another run than the baseline, "
                "expected a method that does neither"
            )
    return chosen


def _fits(method: Method) -> bool:
    return method.default.keeps_detector and method.starts_from == "baseline"
