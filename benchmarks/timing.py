"""Shared parts of the benchmarks: two ways timed in turns, memory of a process, rows of results."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import torch

COLUMNS = ("benchmark", "case", "ours_s", "alternative", "alternative_s", "ratio", "note")
Rows = list[dict[str, Any]]


def row(
    benchmark: str, case: str, ours: float, alternative: str = "", theirs: float = float("nan"), note: str = ""
) -> dict[str, Any]:
    """Return one result: seconds of ours and of the named alternative, and how many times as fast ours is."""
    values = (benchmark, case, ours, alternative, theirs, theirs / ours, note)
    return dict(zip(COLUMNS, values, strict=True))


def show(rows: Rows) -> None:
    """Print results as a table."""
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    print(frame.to_string(index=False, float_format=lambda value: f"{value:.3g}", na_rep="-"))


def in_turns(ours: Callable[[], object], theirs: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Time both functions in turns and return the median seconds of each; the first turn is a warm-up.

    Turns share the load of other programs between both."""
    spent: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats + 1):
        for function, seconds in zip((ours, theirs), spent, strict=True):
            _finish()
            start = time.perf_counter()
            function()
            _finish()
            seconds.append(time.perf_counter() - start)
    return statistics.median(spent[0][1:]), statistics.median(spent[1][1:])


def _finish() -> None:
    """Wait until the GPU has finished its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def alone(function: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """Run a function in its own process; return its result and the peak memory of that process in MiB."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_with_memory, function, arguments).result()


def _with_memory(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, float]:
    result = function(*arguments)
    # Not getrusage's maximum, which a process inherits from the one that started it.
    (peak,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return result, int(peak.split()[1]) / 1024
