"""Where a number comes from: versions, machine, date and command."""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("imbalance-bench", "torch", "torchvision", "onedl-mmdetection", "onedl-mmcv", "onedl-mmengine",
            "transformers", "ultralytics", "hotcoco", "numpy", "pillow")  # fmt: skip
READERS = ("imbalance-bench", "hotcoco", "numpy", "pandas", "scipy")


def provenance() -> dict[str, Any]:
    """Collect versions, machine, date and command of this process, and how many work with it."""
    import torch

    from imbalance_bench.runtime.processes import world_size

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {**reading(device, PACKAGES), "processes": world_size()}


def reading(device: str | None = None, packages: Sequence[str] = READERS) -> dict[str, Any]:
    """Collect the same of a process that only reads files, without torch.

    Args:
        device: what computes; None: the processor.
        packages: whose versions.
    """
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "command": command(),
        "machine": f"{device or _processor()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in packages},
    }


def command() -> str:
    """Return the command line of this process, quoted for a shell; the program by its name alone."""
    program = Path(sys.argv[0]).name
    return shlex.join([*(["python"] if program.endswith(".py") else []), program, *sys.argv[1:]])


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown processor"
