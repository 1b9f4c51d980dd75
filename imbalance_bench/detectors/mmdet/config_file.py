"""A user's mmdet configuration: read, and what of it a diagnosis needs.

The configuration is Python code and is executed, as in mmdet.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmdet.registry import MODELS
from mmdet.utils import get_test_pipeline_cfg
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope

from imbalance_bench.datasets.images import Reader
from imbalance_bench.detectors.port import CLASSIFIER_SCHEDULE
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.progress import logged_to
from imbalance_bench.schedule import Schedule


def read_config(path: Path) -> Config:
    """Read an mmdet configuration file.

    Raises:
        InputError: missing, it does not run, it is of mmdet 1 or 2, or its model has no head that classifies boxes.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file, expected an mmdet configuration")
    try:
        with logged_to(None):
            config = Config.fromfile(path)
    except Exception as error:
        raise InputError(f"{path}: not an mmdet configuration: {' '.join(str(error).split())[:200]}") from error
    model = config.get("model")
    if "test_dataloader" not in config and isinstance(config.get("data"), Mapping):
        old = 1 if "imgs_per_gpu" in config.data else 2
        raise InputError(
            f"{path}: a configuration of mmdet {old}, expected mmdet 3: take mmdet 3's own of this detector (its "
            "folder configs/), with your num_classes and image sizes"
            + "; weights of mmdet 2 fit it as they are"
            * (old == 2)
        )
    if not isinstance(model, ConfigDict) or not {"roi_head", "bbox_head"} & model.keys():
        kind = model.get("type") if isinstance(model, Mapping) else None
        raise InputError(
            f"{path}: field 'model' is {kind or 'missing'}, expected a detector with a roi_head or a bbox_head"
        )
    return config


def test_transforms(config: Config, path: Path) -> tuple[dict[str, Any], ...]:
    """Return the transforms of an image at test time (``image_transforms``).

    Raises:
        InputError: there are none, or they augment images.
    """
    try:
        return tuple(image_transforms(get_test_pipeline_cfg(config)))
    except (AttributeError, KeyError, RuntimeError, TypeError) as error:
        raise InputError(f"{path}: field 'test_dataloader.dataset.pipeline' is not found ({error})") from error


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


def reader_of(transforms: tuple[dict[str, Any], ...]) -> Reader:
    """Return how the transforms decode images."""
    loading = transforms[0] if transforms else {}
    return Reader(str(loading.get("imdecode_backend", "cv2")), str(loading.get("color_type", "color")))


def build_model(config: Config, path: Path) -> Any:
    """Build the model of a configuration, uninitialised.

    Raises:
        InputError: it cannot be built.
    """
    init_default_scope(config.get("default_scope", "mmdet"))
    try:
        with logged_to(None):
            return MODELS.build(copy.deepcopy(config.model))
    except Exception as error:
        raise InputError(f"{path}: field 'model' cannot be built: {' '.join(str(error).split())}") from error


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
