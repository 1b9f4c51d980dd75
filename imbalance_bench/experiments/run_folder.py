"""The folder of a run: locked while in use, with a record of settings, provenance and metrics."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imbalance_bench.categories import read_json
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.files import json_text, numbers_of, sha256, write_json
from imbalance_bench.runtime.locks import is_locked, locked
from imbalance_bench.runtime.provenance import provenance

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class RunFolder:
    """A run's folder.

    Files: ``settings.json`` (there once the run has begun), ``record.json`` (settings, provenance, metrics, checksums
    of the following; there once it is done), ``checkpoint.pth``, ``per_category.csv``, ``detections.npz``; logs;
    ``curve.csv``, if it was asked for.

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
        """Return the finished run's checkpoint, else that of the last epoch; None if there is none."""
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
        """The per-category table, of which every figure is a view."""
        return self.path / "per_category.csv"

    def table(self) -> pd.DataFrame:
        """Read the per-category table of a finished run: measures and weight norm of each class, background last.

        Raises:
            InputError: it is missing, damaged, or no such table.
        """
        from imbalance_bench.evaluation import per_category

        return per_category.read(self.verified(self.per_category))

    @property
    def curve(self) -> Path:
        """AP on validation by epoch: columns ``epoch``, ``mAP``, ``AP1``..; only of a run with a learning curve."""
        return self.path / "curve.csv"

    @property
    def is_done(self) -> bool:
        """Whether the run has been finished."""
        return (self.path / "record.json").exists()

    def record(self) -> dict[str, Any]:
        """Read settings, provenance and metrics of a finished run; a metric without a value (``null``) is NaN.

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
        """Return one of the run's files after checking that a finished run still has it, unchanged since.

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
        """Begin a run, or continue one with the same settings; a finished run is only read.

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
            if name == "options":  # one that came later is at its default, as the variant names what is not
                value = {option: setting for option, setting in value.items() if option in stored.get(name, {})}
            if stored.get(name) != value:
                raise InputError(
                    f"{self.path}: was run with {name} = {_short(stored.get(name))}, now it is {_short(value)}; "
                    "choose another folder (--work-dir, --output), or delete this one to run it again"
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

    def lock(self) -> AbstractContextManager[None]:
        """Hold the folder, as ``runtime.locks.locked`` does; a second process is refused.

        Raises:
            InputError: another process holds it, or the file system has no locks.
        """
        return locked(self._lock_file, self.path)

    def is_held(self) -> bool:
        """Tell whether a process holds the folder."""
        return is_locked(self._lock_file)

    @property
    def _lock_file(self) -> Path:
        return self.path / ".run.lock"


def _short(value: Any) -> str:
    text = repr(value)  # a stored file may hold what JSON does not
    return text if len(text) <= 60 else text[:57] + "..."
