"""A detector that somebody else trained: an mmdet configuration as a detector of this suite.

The configuration is Python code and is executed, as in mmdet; no code in a checkpoint is executed.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from mmdet.models.task_modules.samplers import OHEMSampler
from mmdet.registry import MODELS
from mmdet.utils import get_test_pipeline_cfg
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope

from imbalance_bench.classifiers import LinearClassifier, SigmoidClassifier, SoftmaxClassifier
from imbalance_bench.detectors.mmdet import hosting, pipelines
from imbalance_bench.detectors.mmdet.detector import Detector
from imbalance_bench.detectors.mmdet.passes import box_heads, check_cacheable
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.progress import logged_to
from imbalance_bench.schedule import Schedule

SCHEDULE = Schedule(epochs=12, milestones=(8, 11), lr=0.01, batch_size=16)
"""Schedule of classifiers on cached proposals, if the configuration's optimizer is not SGD (section 5.1)."""

_PIXELS_AT_ONCE = 1 << 21
"""Pixels in one pass of the network; limits memory."""


@dataclass(frozen=True)
class ForeignDetector(Detector):
    """A detector from a user's mmdet configuration; only its classifiers are exchanged.

    Attributes:
        user_config: the whole configuration.
        transforms: of an image at test time, such as loading and resizing, without loading boxes and packing.
        pixels: approximate number of pixels of an image in the network.
    """

    user_config: Config = field(default_factory=Config)
    transforms: tuple[dict[str, Any], ...] = ()
    pixels: int = 800 * 1333

    @classmethod
    def from_config(cls, path: Path) -> ForeignDetector:
        """Read an mmdet configuration.

        Raises:
            InputError: not one, one of mmdet 1 or 2, or of a detector whose proposals cannot be cached or whose heads
                cannot host a classifier; the message names what it is.
        """
        config = read_config(path)
        model = config.get("model")
        if "test_dataloader" not in config and isinstance(config.get("data"), Mapping):
            old = 2 if isinstance(model, Mapping) and "roi_head" in model else 1
            raise InputError(
                f"{path}: a configuration of mmdet {old}, expected mmdet 3: take mmdet 3's own of this detector (its "
                "folder configs/), with your num_classes and image sizes"
                + "; weights of mmdet 2 fit it as they are"
                * (old == 2)
            )
        if not isinstance(model, ConfigDict) or "roi_head" not in model:
            kind = model.get("type") if isinstance(model, Mapping) else None
            raise InputError(f"{path}: field 'model' is {kind or 'missing'}, expected a two-stage detector (roi_head)")
        if not model.get("train_cfg"):
            raise InputError(f"{path}: field 'model.train_cfg' is missing, expected the settings of training proposals")
        try:
            transforms = tuple(_of_image(get_test_pipeline_cfg(config)))
        except (AttributeError, KeyError, RuntimeError, TypeError) as error:
            raise InputError(f"{path}: field 'test_dataloader.dataset.pipeline' is not found ({error})") from error
        _without_downloads(model)
        try:
            hosting.host(copy.deepcopy(model), 1, {"type": "SoftmaxClassifier"})
        except (ValueError, AttributeError, KeyError) as error:
            raise InputError(f"{path}: field 'model.roi_head.bbox_head': {error}") from error
        detector = cls(
            name=path.stem,
            framework=model.type,
            scale="paper",
            description=str(path),
            config=str(path),
            change=lambda model: None,
            schedule=_schedule(config),
            train_resize={},
            test_resize={},
            user_config=config,
            transforms=transforms,
            pixels=_pixels(transforms),
        )
        detector.check()
        return detector

    def check(self) -> None:
        """Check that the model of the configuration can be built, and that its proposals can be cached.

        Raises:
            InputError: it cannot be built, or its proposals cannot be cached.
        """
        try:
            model = self._stock
            check_cacheable(model)
        except InputError as error:
            raise InputError(f"{self.config}: field 'model': {error}") from error
        except Exception as error:
            raise InputError(f"{self.config}: field 'model' cannot be built: {' '.join(str(error).split())}") from error
        samplers = model.roi_head.bbox_sampler
        for sampler in samplers if isinstance(samplers, list) else [samplers]:
            if isinstance(sampler, OHEMSampler):
                raise InputError(
                    f"{self.config}: field 'model.train_cfg.rcnn.sampler' is OHEMSampler, which looks at losses; "
                    "expected one that proposals can be cached with, such as RandomSampler"
                )
        self.stock_classifier(1, 1)

    @cached_property
    def _stock(self) -> Any:
        """The model with mmdet's own heads, uninitialised."""
        init_default_scope(self.user_config.get("default_scope", "mmdet"))
        with logged_to(None):
            return MODELS.build(copy.deepcopy(self.user_config.model))

    def stock_classifier(self, num_classes: int, feature_dim: int) -> LinearClassifier:
        """Return an untrained classifier that computes scores as the configured mmdet head does.

        Scores are a softmax of C + 1 logits, whatever the head was trained with, unless its loss defines other scores.

        Raises:
            InputError: an unsupported classifier or loss.
        """
        head = box_heads(self._stock)[0]
        where = f"{self.config}: field 'model.roi_head.bbox_head"
        predictor = head.cls_predictor_cfg.get("type")
        if predictor != "Linear":
            raise InputError(f"{where}.cls_predictor_cfg' is {predictor}, expected Linear")
        loss = head.loss_cls
        if not getattr(loss, "custom_cls_channels", False) or (
            loss.get_cls_channels(head.num_classes) == (head.num_classes + 1)
            and not getattr(loss, "use_sigmoid", False)
        ):
            return SoftmaxClassifier(num_classes, feature_dim)
        if loss.get_cls_channels(head.num_classes) == head.num_classes:
            return SigmoidClassifier(num_classes, feature_dim)
        raise InputError(
            f"{where}.loss_cls' is {type(loss).__name__}, expected a softmax over C + 1 or a sigmoid over C logits"
        )

    @property
    def num_classes(self) -> int:
        """The number of classes C in the configuration."""
        return int(box_heads(self._stock)[0].num_classes)

    def model(
        self, num_classes: int, classifier: dict[str, Any], *, stuff: bool = False, pretrained: bool = False
    ) -> ConfigDict:
        """Return the user's model with a classifier in its box heads."""
        model = self._changed()
        hosting.host(model, num_classes, classifier)
        return model

    def _changed(self) -> ConfigDict:
        return copy.deepcopy(self.user_config.model)

    @property
    def has_class_boxes(self) -> bool:
        """Whether each class has its own box regressor."""
        return not box_heads(self._stock)[0].reg_class_agnostic

    @property
    def has_masks(self) -> bool:
        """False: only boxes are evaluated."""
        return False

    @property
    def takes_stuff(self) -> bool:
        """False: only classifiers are trained."""
        return False

    @property
    def tap_dims(self) -> dict[str, int]:
        """The width of each feature that a classifier may read."""
        head = box_heads(self._stock)[0]
        fc = head.cls_last_dim
        return {"fc": fc, "fc_pre_relu": fc, "conv": head.in_channels * head.roi_feat_area}

    @property
    def images_at_once(self) -> int:
        """The number of images in one pass of the network."""
        return max(1, min(self.schedule.batch_size, _PIXELS_AT_ONCE // self.pixels))

    def train_pipeline(self, flip: float, stuff: bool = False) -> pipelines.Transforms:
        """Return the test transforms with boxes added, and a flip with probability ``flip``."""
        loading, *rest = self.transforms
        boxes = {"type": "LoadAnnotations", "with_bbox": True}
        return [loading, boxes, *rest, {"type": "RandomFlip", "prob": flip}, pipelines.PACK]

    @property
    def test_pipeline(self) -> pipelines.Transforms:
        """The configured test transforms; boxes stay in the coordinates of the original image."""
        return [*self.transforms, {"type": "LoadAnnotations", "with_bbox": True}, pipelines.PACK]


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


def _of_image(pipeline: Any) -> list[dict[str, Any]]:
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


def _pixels(transforms: tuple[dict[str, Any], ...]) -> int:
    """Return the approximate number of pixels after the transforms; that of the paper's scale if it is unknown."""
    for transform in transforms:
        scale = transform.get("scale")
        if isinstance(scale, (list, tuple)) and len(scale) == 2 and all(isinstance(side, int) for side in scale):
            return max(1, scale[0] * scale[1])
    return 800 * 1333


def _without_downloads(part: Any) -> None:
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
        _without_downloads(value)


def _schedule(config: Config) -> Schedule:
    """Return 12 epochs with the learning rate of the configuration's SGD, else with the paper's."""
    optimizer = (config.get("optim_wrapper") or {}).get("optimizer") or config.get("optimizer") or {}
    loader = config.get("train_dataloader") or {}
    rate, images = optimizer.get("lr"), loader.get("batch_size")
    if optimizer.get("type") != "SGD" or not isinstance(rate, float):
        return SCHEDULE
    scaling = config.get("auto_scale_lr") or {}
    images = scaling.get("base_batch_size") or images
    if not isinstance(images, int) or images < 1:
        return SCHEDULE
    return replace(SCHEDULE, lr=rate * SCHEDULE.batch_size / images)
