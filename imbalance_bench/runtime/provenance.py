"""Where a number comes from: versions, machine, date and command."""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
import shlex
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("imbalance-bench", "torch", "torchvision", "onedl-mmdetection", "onedl-mmcv", "onedl-mmengine",
            "hotcoco", "numpy", "pillow")  # fmt: skip


def provenance() -> dict[str, Any]:
    """Collect versions, machine, date and command of this process."""
    import torch
    from mmengine.dist import get_world_size

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else _processor()
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "command": command(),
        "machine": f"{device}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}",
        "processes": get_world_size(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
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
