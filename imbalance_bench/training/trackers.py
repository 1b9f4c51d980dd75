"""Trackers that training curves can be sent to."""

from __future__ import annotations

import importlib.util

from imbalance_bench.runtime.errors import InputError, look_up

TRACKERS = {
    "tensorboard": ("TensorboardVisBackend", "tensorboard"),
    "wandb": ("WandbVisBackend", "wandb"),
    "mlflow": ("MLflowVisBackend", "mlflow"),
}
"""mmengine's visualizer backends and the package that each needs."""


def check_tracker(track: str | None) -> None:
    """Check that the tracker is known and that its package is installed.

    Raises:
        InputError: an unknown one, or its package is not installed.
    """
    if track is not None:
        _, package = look_up(TRACKERS, track, "tracker")
        if importlib.util.find_spec(package) is None:
            raise InputError(f"option '--track {track}' needs the package '{package}', which is not installed")
