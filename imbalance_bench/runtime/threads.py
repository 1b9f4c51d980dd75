"""Threads of torch's OpenMP on a shared machine: let waiting threads sleep."""

from __future__ import annotations

import os
from pathlib import Path

SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Variables that say how OpenMP's threads wait: OpenMP's own, GNU's, and LLVM's and Intel's."""


def sleep_when_waiting() -> None:
    """Let waiting threads sleep, unless the user has set how they wait; call it before torch is imported.

    By default they spin for milliseconds at each of the thousand places of a step where threads meet. Where another
    process, or a neighbour of this virtual machine, has one of the cores, they burn the time that the last one needs.
    """
    if not any(name in os.environ for name in SETTINGS):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def spinning() -> str | None:
    """Return the user's setting that makes waiting threads spin, ``NAME=value``; None if they sleep."""
    policy, spins, blocktime = (os.environ.get(name, "") for name in SETTINGS)
    if spins or blocktime:
        name, value = ("GOMP_SPINCOUNT", spins) if spins else ("KMP_BLOCKTIME", blocktime)
        return None if value == "0" else f"{name}={value}"
    return f"OMP_WAIT_POLICY={policy}" if policy.upper() == "ACTIVE" else None


def usable_cores(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> float:
    """Return the number of cores that this process may use, or the share that its container is given.

    Args:
        quota: file of the control group: ``max 100000``, or microseconds of each so many.
    """
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    try:
        given, period = quota.read_text().split()
        return min(cores, int(given) / int(period))
    except (OSError, ValueError, ZeroDivisionError):
        return cores
