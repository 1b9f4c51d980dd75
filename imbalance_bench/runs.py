"""One folder a run: locked while in use, with a record that says what was run, on what, and whether it is done."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from imbalance_bench.categories import read_json
from imbalance_bench.errors import InputError
from imbalance_bench.files import write_text

PACKAGES = ("imbalance-bench", "torch", "torchvision", "onedl-mmdetection", "onedl-mmcv", "onedl-mmengine",
            "faster-coco-eval", "numpy", "pillow")  # fmt: skip


@dataclass(frozen=True)
class RunFolder:
    """A run's folder.

    Files: ``settings.json`` (there once the run has begun), ``record.json`` (settings, provenance, metrics; there once
    it is done), ``checkpoint.pth``, ``per_category.csv``, ``detections.npz``, logs.
    """

    path: Path

    @property
    def checkpoint(self) -> Path:
        """The detector with its classifier."""
        return self.path / "checkpoint.pth"

    @property
    def detections(self) -> Path:
        """The 300 best of each validation image."""
        return self.path / "detections.npz"

    @property
    def per_category(self) -> Path:
        """The table that every figure is a view of."""
        return self.path / "per_category.csv"

    @property
    def is_done(self) -> bool:
        """Whether the run has been finished."""
        return (self.path / "record.json").exists()

    def record(self) -> dict[str, Any]:
        """Settings, provenance and metrics of a finished run.

        Raises:
            InputError: not a finished run.
        """
        record = read_json(self.path / "record.json")
        for field in ("settings", "provenance", "metrics"):
            if not isinstance(record.get(field), dict):
                raise InputError(f"{self.path / 'record.json'}: field '{field}' is missing, expected an object")
        return record

    def begin(self, settings: dict[str, Any]) -> bool:
        """Begin a run, or go on with an interrupted or finished one if it has these settings.

        Returns:
            Whether it is finished.

        Raises:
            InputError: it has others; the message names the first that differs.
        """
        path = self.path / "settings.json"
        if not path.exists():
            write_text(path, json.dumps(settings, indent=1) + "\n")
        stored = read_json(path)
        for name, value in json.loads(json.dumps(settings)).items():
            if stored.get(name) != value:
                raise InputError(
                    f"{self.path}: was run with {name} = {_short(stored.get(name))}, now it is {_short(value)}; "
                    "choose another --work-dir, or delete the folder to run it again"
                )
        return self.is_done

    def finish(self, settings: dict[str, Any], metrics: dict[str, Any], seconds: dict[str, float]) -> None:
        """Write the record: from here on the run is done."""
        record = {"settings": settings, "provenance": provenance() | {"seconds": seconds}, "metrics": metrics}
        write_text(self.path / "record.json", json.dumps(record, indent=1) + "\n")

    @contextlib.contextmanager
    def lock(self, part: str = "run", wait: bool = False) -> Iterator[None]:
        """Hold the folder, or a part of it; it is free again when the process ends, however it ends.

        Args:
            part: parts are held independently of each other.
            wait: for another process to let go.

        Raises:
            InputError: another process holds it, and ``wait`` is False.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        # Whoever holds it says so in the file.
        with (self.path / f".{part}.lock").open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except OSError as error:
                file.seek(0)
                holder = file.read().strip()
                raise InputError(f"{self.path}: the run folder is in use by another process ({holder})") from error
            file.truncate(0)
            file.write(f"{os.getpid()} on {platform.node()}\n")
            file.flush()
            yield

    def is_held(self) -> bool:
        """Whether a process holds the folder."""
        try:
            with self.lock():
                return False
        except InputError:
            return True


def provenance() -> dict[str, Any]:
    """Who, when, with what: versions, machine, date and command."""
    import torch
    from mmengine.dist import get_world_size

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else _processor()
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "machine": f"{device}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}",
        "processes": get_world_size(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
    }


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


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
