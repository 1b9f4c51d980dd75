"""Checkpoints of end-to-end training that survive a kill, and a training that goes on from the middle of an epoch.

mmengine writes a checkpoint straight to its place and resumes at the beginning of an epoch. Here every checkpoint is
whole or absent, and a training that is asked to stop saves where it is, with the state of the random numbers: it goes
on with the next batch of the same epoch, to the same result as one that never stopped.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import Hook
from mmengine.registry import LOOPS
from mmengine.runner import EpochBasedTrainLoop, Runner

from imbalance_bench.checkpoints import own as checkpoints
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.files import write_atomically
from imbalance_bench.runtime.signals import Stopped

STOPPED = "stopped.pth"
"""Checkpoint written when a training is asked to stop; deleted at the end of its epoch."""
WHOLE_FILES = {"backend": "whole-files"}
"""mmengine's ``backend_args`` of checkpoints that are whole or absent."""


class WholeFiles(LocalBackend):
    """mmengine's backend of the local disk, with atomic writes."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write a file atomically."""

        def write(partial: Path) -> None:
            partial.write_bytes(obj)

        write_atomically(Path(filepath), write)


register_backend("whole-files", WholeFiles, force=True)


def latest_checkpoint(folder: Path, say: Callable[[str], None]) -> Path | None:
    """Find the checkpoint from which training continues; None if there is none.

    Args:
        folder: of the run.
        say: receives a message for each unreadable file; the checkpoint before it is then used.
    """
    epochs = sorted(folder.glob("epoch_*.pth"), key=lambda path: checkpoints.stage_order(path.name), reverse=True)
    for path in (folder / STOPPED, *epochs):
        if path.exists():
            try:
                checkpoints.load(path)
            except InputError as error:
                say(f"  {error}; going on without it")
            else:
                return path
    return None


@LOOPS.register_module()
class ResumableLoop(EpochBasedTrainLoop):
    """mmengine's loop over epochs, able to resume inside an epoch, at the batch where it stopped.

    The earlier batches are loaded again and dropped, because the flips of the later batches depend on them if several
    processes load images.
    """

    random_state: dict[str, Any] | None = None
    """Random state of the main process before the next batch is loaded."""

    def run_epoch(self) -> None:
        """Run one epoch, or the rest of it."""
        self.runner.call_hook("before_train_epoch")
        self.runner.model.train()
        batches = iter(self.dataloader)
        done = self._iter - self._epoch * len(self.dataloader)
        for _ in range(done):
            next(batches)
        if done and self.random_state is not None:  # an epoch that begins has its own seed
            set_random_state(self.random_state)
        for index, batch in enumerate(batches, start=done):
            self.run_iter(index, batch)
        self.runner.call_hook("after_train_epoch")
        self._epoch += 1


class StopHook(Hook):
    """A hook that saves and stops after the iteration in which a stop is requested.

    Args:
        asked: gives the number of the signal, or None.
        say: is told where the training stopped.
    """

    priority = "LOWEST"  # after the learning rate has been stepped, and the epoch's checkpoint written

    def __init__(self, asked: Callable[[], int | None], say: Callable[[str], None]) -> None:
        self.asked, self.say = asked, say

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Restore the random generators."""
        runner.train_loop.random_state = checkpoint.get("random_state")

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Add the state of the random generators, needed to resume inside an epoch."""
        checkpoint["random_state"] = get_random_state()

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Save and stop if requested; after the last iteration the epoch's own checkpoint is used instead."""
        number, total = self.asked(), len(runner.train_dataloader)
        if number is None or batch_idx + 1 == total:
            return
        meta = {"epoch": runner.epoch, "iter": runner.iter + 1}
        runner.save_checkpoint(runner.work_dir, STOPPED, meta=meta, by_epoch=False, backend_args=WHOLE_FILES)
        self._stop(number, f"after iteration {batch_idx + 1} of {total} of epoch {runner.epoch + 1}")

    def after_train_epoch(self, runner: Runner) -> None:
        """Delete the checkpoint saved inside the epoch, which is now outdated, and stop if requested."""
        (Path(runner.work_dir) / STOPPED).unlink(missing_ok=True)
        number = self.asked()
        if number is not None:
            self._stop(number, f"after epoch {runner.epoch + 1}")

    def _stop(self, number: int, where: str) -> None:
        self.say(f"  training saved {where}")
        raise Stopped(number)


def get_random_state() -> dict[str, Any]:
    """Return the state of Python's, NumPy's and torch's global generators, as tensors and plain values."""
    numpy_state: Any = np.random.get_state()  # noqa: NPY002 - mmdet's transforms draw from the global generator
    name, words, *rest = numpy_state
    return {
        "python": random.getstate(),
        "numpy": [name, torch.from_numpy(words.astype(np.int64)), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Restore the state that ``get_random_state`` returned."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, words, *rest = state["numpy"]
    np.random.set_state((name, words.cpu().numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([generator.cpu() for generator in state["cuda"]])
