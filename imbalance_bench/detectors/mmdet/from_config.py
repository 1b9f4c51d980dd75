"""A two-stage detector that somebody else trained: an mmdet configuration as a detector of this suite.

The configuration is Python code and is executed, as in mmdet; no code in a checkpoint is executed.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from mmdet.models.task_modules.samplers import OHEMSampler
from mmengine.config import Config, ConfigDict

from imbalance_bench.classifiers import Classifier, LinearClassifier, SigmoidClassifier, SoftmaxClassifier
from imbalance_bench.datasets.images import Reader
from imbalance_bench.detectors.mmdet import adoption, config_file, hosting, pipelines
from imbalance_bench.detectors.mmdet.detector import Detector
from imbalance_bench.detectors.mmdet.export import export
from imbalance_bench.detectors.mmdet.passes import box_heads, check_cacheable
from imbalance_bench.detectors.mmdet.source import TwoStageSource
from imbalance_bench.detectors.port import PIXELS_AT_ONCE, Export
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.files import sha256


@dataclass(frozen=True)
class ForeignDetector(Detector):
    """A detector from a user's mmdet configuration; only its classifiers are exchanged (``port.UserDetector``).

    Attributes:
        user_config: the whole configuration.
        transforms: of an image at test time, such as loading and resizing, without loading boxes and packing.
        pixels: approximate number of pixels of an image in the network.
    """

    user_config: Config = field(default_factory=Config)
    transforms: tuple[dict[str, Any], ...] = ()
    pixels: int = 800 * 1333

    proposal_kind = "RoIs"
    """What its classifier scores."""

    @classmethod
    def from_config(cls, path: Path, config: Config) -> ForeignDetector:
        """Check a configuration that was read (``config_file.read_config``).

        Raises:
            InputError: of a detector whose proposals cannot be cached or whose heads cannot host a classifier; the
                message names what it is.
        """
        model = config.model
        if not model.get("train_cfg"):
            raise InputError(f"{path}: field 'model.train_cfg' is missing, expected the settings of training proposals")
        transforms = config_file.test_transforms(config, path)
        config_file.remove_downloads(model)
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
            schedule=config_file.schedule_of(config),
            train_resize={},
            test_resize={},
            user_config=config,
            transforms=transforms,
            pixels=config_file.pixels_of(transforms),
        )
        detector.check()
        return detector

    def check(self) -> None:
        """Check that the model of the configuration can be built, and that its proposals can be cached.

        Raises:
            InputError: it cannot be built, or its proposals cannot be cached.
        """
        model = self._stock
        try:
            check_cacheable(model)
        except InputError as error:
            raise InputError(f"{self.config}: field 'model': {error}") from error
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
        return config_file.build_model(self.user_config, Path(self.config))

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

    @property
    def reader(self) -> Reader:
        """How the configured pipeline decodes images."""
        return config_file.reader_of(self.transforms)

    @property
    def source(self) -> str:
        """Path of the configuration."""
        return self.config

    @property
    def identity(self) -> str:
        """Checksum of the configuration file."""
        return sha256(Path(self.config))

    @property
    def first_label(self) -> int | None:
        """None: mmdet numbers categories in the order of the file."""
        return None

    @property
    def notes(self) -> tuple[str, ...]:
        """None."""
        return ()

    def refusal(self, classifier: Classifier) -> str | None:
        """None: a box head hosts any classifier."""
        return None

    def check_weights(self, path: Path) -> Mapping[Any, Any]:
        """Check the classifiers of a checkpoint (``adoption.check_weights``)."""
        return adoption.check_weights(self, path)

    def adopt(self, path: Path) -> TwoStageSource:
        """Load the user's checkpoint (``adoption.adopt``)."""
        return adoption.adopt(self, path)

    def export(self, checkpoint: Path, class_names: Sequence[str], folder: Path) -> Export:
        """Write configuration and checkpoint (``export.export``)."""
        return export(self, checkpoint, class_names, folder)

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
        return max(1, min(self.schedule.batch_size, PIXELS_AT_ONCE // self.pixels))

    def train_pipeline(self, flip: float, stuff: bool = False) -> pipelines.Transforms:
        """Return the test transforms with boxes added, and a flip with probability ``flip``."""
        loading, *rest = self.transforms
        boxes = {"type": "LoadAnnotations", "with_bbox": True}
        return [loading, boxes, *rest, {"type": "RandomFlip", "prob": flip}, pipelines.PACK]

    @property
    def test_pipeline(self) -> pipelines.Transforms:
        """The configured test transforms; boxes stay in the coordinates of the original image."""
        return [*self.transforms, {"type": "LoadAnnotations", "with_bbox": True}, pipelines.PACK]
