"""A user's mmdet configuration: read, and what of it a diagnosis needs.

The configuration is Python code and is executed, as in mmdet.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from mmengine.config import Config

from imbalance_bench.detectors.port import CLASSIFIER_SCHEDULE
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.progress import logged_to
from imbalance_bench.schedule import Schedule


def read_config(path: Path) -> Config:
    """Read an mmdet configuration file.

    Raises:
        InputError: missing, or it does not run.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file, expected an mmdet configuration")
    try:
        with logged_to(None):
            return Config.fromfile(path)
    except Exception as error:
        raise InputError(f"{path}: not an mmdet configuration: {' '.join(str(error).split())[:200]}") from error


def image_transforms(pipeline: Any) -> list[dict[str, Any]]:
    """Return the transforms of the image, without those that load annotations or pack."""
    names = [transform["type"] if isinstance(transform["type"], str) else transform["type"].__name__
             for transform in pipeline]  # fmt: skip
    if "TestTimeAug" in names or "MultiScaleFlipAug" in names:
        raise InputError("the test pipeline augments images, expected the plain one")
    return [
        dict(transform)
        for name, transform in zip(names, pipeline, strict=True)
        if not name.startswith(("LoadAnnotations", "PackDetInputs", "LoadPanopticAnnotations"))
    ]


def pixels_of(transforms: tuple[dict[str, Any], ...]) -> int:
    """Return the approximate number of pixels after the transforms; that of the paper's scale if it is unknown."""
    for transform in transforms:
        scale = transform.get("scale")
        if isinstance(scale, (list, tuple)) and len(scale) == 2 and all(isinstance(side, int) for side in scale):
            return max(1, scale[0] * scale[1])
    return 800 * 1333


def remove_downloads(part: Any) -> None:
    """Remove, in place, the sources of initial weights, and batch norm over several processes."""
    if isinstance(part, dict):
        for name in ("init_cfg", "pretrained"):
            part.pop(name, None)
        if part.get("type") in ("SyncBN", "MMSyncBN"):
            part["type"] = "BN"
        part = part.values()
    elif not isinstance(part, (list, tuple)):
        return
    for value in part:
        remove_downloads(value)


def schedule_of(config: Config) -> Schedule:
    """Return 12 epochs with the learning rate of the configuration's SGD, else with the paper's."""
    optimizer = (config.get("optim_wrapper") or {}).get("optimizer") or config.get("optimizer") or {}
    loader = config.get("train_dataloader") or {}
    rate, images = optimizer.get("lr"), loader.get("batch_size")
    if optimizer.get("type") != "SGD" or not isinstance(rate, float):
        return CLASSIFIER_SCHEDULE
    scaling = config.get("auto_scale_lr") or {}
    images = scaling.get("base_batch_size") or images
    if not isinstance(images, int) or images < 1:
        return CLASSIFIER_SCHEDULE
    return replace(CLASSIFIER_SCHEDULE, lr=rate * CLASSIFIER_SCHEDULE.batch_size / images)
