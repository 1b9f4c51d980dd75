"""One folder a run: locked while in use, with a record that says what was run, on what, and whether it is done."""

from __future__ import annotations

import contextlib
import datetime
import errno
import fcntl
import json
import os
import platform
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from imbalance_bench.categories import read_json
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.files import json_text, numbers_of, sha256, write_json

PACKAGES = ("imbalance-bench", "torch", "torchvision", "onedl-mmdetection", "onedl-mmcv", "onedl-mmengine",
            "faster-coco-eval", "numpy", "pillow")  # fmt: skip


@dataclass(frozen=True)
class RunFolder:
    """A run's folder.

    Files: ``settings.json`` (there once the run has begun), ``record.json`` (settings, provenance, metrics, checksums
    of the following; there once it is done), ``checkpoint.pth``, ``per_category.csv``, ``detections.npz``; logs.

    Example:
        >>> run = RunFolder(Path("work_dirs/emoji-lt-small/tiny/seed0/bags"))
        >>> run.is_done, run.per_category.name
        (False, 'per_category.csv')
    """

    path: Path

    @property
    def checkpoint(self) -> Path:
        """The detector with its classifier."""
        return self.path / "checkpoint.pth"

    def newest_checkpoint(self) -> Path | None:
        """The finished run's, else that of the last epoch; None where there is neither."""
        if self.checkpoint.exists():
            return self.verified(self.checkpoint)
        epochs = [path for path in self.path.glob("epoch_*.pth") if path.stem[6:].isdecimal()]
        return max(epochs, key=lambda path: int(path.stem[6:]), default=None)

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
        """Settings, provenance and metrics of a finished run; a metric of nothing (``null``) is NaN.

        Raises:
            InputError: not a finished run.
        """
        record = read_json(self.path / "record.json")
        for field in ("settings", "provenance", "metrics"):
            if not isinstance(record.get(field), dict):
                raise InputError(f"{self.path / 'record.json'}: field '{field}' is missing, expected an object")
        record["metrics"] = numbers_of(record["metrics"])
        return record

    def verified(self, path: Path) -> Path:
        """One of the files of a run; where it is done, it must be there and, by its checksum in the record, unchanged.

        Raises:
            InputError: it was changed, cut short or deleted since.
        """
        sums = self.record().get("sha256") if self.is_done else None
        expected = sums.get(path.name) if isinstance(sums, dict) else None
        what = None
        if self.is_done and not path.is_file():
            what = "is not there, though its record.json is ('export' leaves checkpoints and detections behind)"
        elif expected is not None and sha256(path) != expected:
            what = "was changed or damaged since the run was done (field 'sha256' of record.json)"
        if what is not None:
            raise InputError(f"{path}: {what}; name the --work-dir that has it, or delete the folder to run it again")
        return path

    def begin(self, settings: dict[str, Any]) -> bool:
        """Begin a run, or go on with an interrupted or finished one if it has these settings; a finished one is only
        read.

        Returns:
            Whether it is finished.

        Raises:
            InputError: it has others; the message names the first that differs.
        """
        done, path = self.is_done, self.path / "settings.json"
        if not done and not path.exists():
            write_json(path, settings)
        stored = self.record()["settings"] if done else read_json(path)
        for name, value in json.loads(json_text(settings)).items():
            if stored.get(name) != value:
                raise InputError(
                    f"{self.path}: was run with {name} = {_short(stored.get(name))}, now it is {_short(value)}; "
                    "choose another folder (--work-dir, --out), or delete this one to run it again"
                )
        return done

    def finish(self, settings: dict[str, Any], metrics: dict[str, Any], seconds: dict[str, float]) -> None:
        """Write the record: from here on the run is done."""
        files = (self.checkpoint, self.per_category, self.detections)
        record = {
            "settings": settings,
            "provenance": provenance() | {"seconds": seconds},
            "metrics": metrics,
            "sha256": {path.name: sha256(path) for path in files if path.exists()},
        }
        write_json(self.path / "record.json", record)

    @contextlib.contextmanager
    def lock(self, part: str = "run", wait: bool = False, say: Callable[[str], None] | None = None) -> Iterator[None]:
        """Hold the folder, or a part of it; it is free again when the process ends, however it ends.

        Args:
            part: parts are held independently of each other.
            wait: for another process to let go.
            say: is told for whom.

        Raises:
            InputError: another process holds it (the message says which), and ``wait`` is False; or the file system
                has no locks.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        path = self.path / f".{part}.lock"
        with path.open("a+", encoding="utf-8") as file:
            if not _flock(file, path, fcntl.LOCK_EX | fcntl.LOCK_NB):
                in_use = f"{self.path}: in use by {_holder(path)}"
                if not wait:
                    raise InputError(in_use)
                if say is not None:
                    say(f"  {in_use}; waiting for it")
                _flock(file, path, fcntl.LOCK_EX)
            now = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")
            file.truncate(0)
            file.write(f"process {os.getpid()} on {platform.node()} since {now} ({command()})\n")
            file.flush()
            _held.append(file)
            try:
                yield
            finally:
                _held.remove(file)

    def is_held(self) -> bool:
        """Whether a process holds the folder."""
        path = self.path / ".run.lock"
        if not path.exists():
            return False
        with path.open(encoding="utf-8") as file:
            return not _flock(file, path, fcntl.LOCK_SH | fcntl.LOCK_NB)


_held: list[IO[str]] = []


def _let_go() -> None:
    """Processes that load images must not hold their parent's run on when the parent is killed."""
    for file in _held:
        file.close()


os.register_at_fork(after_in_child=_let_go)


def _flock(file: IO[str], path: Path, operation: int) -> bool:
    """Take a lock; False where another process has it.

    Raises:
        InputError: the file system has no locks.
    """
    try:
        fcntl.flock(file, operation)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL):
            raise
        raise InputError(
            f"{path}: its file system has no file locks ({error.strerror}), which keep two processes out of one run "
            "folder; choose a --work-dir on another disk"
        ) from error
    return True


def _holder(path: Path) -> str:
    """Who holds a lock, as the holder wrote it there."""
    return path.read_text(encoding="utf-8", errors="replace").strip() or "another process"


def provenance() -> dict[str, Any]:
    """Who, when, with what: versions, machine, date and command."""
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
    """The command line of this process, as a shell takes it; of the program's path its name alone."""
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


def _short(value: Any) -> str:
    text = repr(value)  # a stored file may hold what JSON does not
    return text if len(text) <= 60 else text[:57] + "..."
