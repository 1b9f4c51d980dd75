"""A detector of the suite: a model that mmdet ships, what is changed in it, and how it is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from imbalance_bench.detectors.mmdet import hosting, pipelines
from imbalance_bench.schedule import Schedule

if TYPE_CHECKING:
    import numpy as np
    from mmengine.config import ConfigDict
    from torch import Tensor

    from imbalance_bench.classifiers import Classifier
    from imbalance_bench.datasets.registry import DataSet
    from imbalance_bench.detectors.mmdet.annotation_dataset import AnnotationDataset
    from imbalance_bench.detectors.mmdet.source import TwoStageSource
    from imbalance_bench.proposals.postprocess import Postprocess


@dataclass(frozen=True)
class Detector:
    """A detector as mmdet configures it, with its training schedule (``port.HostsClassifier``).

    Attributes:
        name: on the command line.
        framework: as the paper's tables call it; a tiny and a paper-scale detector share one.
        scale: ``tiny`` (minutes on a CPU), ``small`` (an hour or two) or ``paper``.
        description: one line.
        config: name of the configuration that mmdet ships.
        change: function that changes the shipped model in place.
        schedule: end-to-end training.
        train_resize: mmdet transform of training images.
        test_resize: mmdet transform of validation images.
        num_workers: data loading processes.
        backbone: torchvision's name of the backbone, whose ImageNet weights may be loaded.
    """

    name: str
    framework: str
    scale: Literal["tiny", "small", "paper"]
    description: str
    config: str
    change: hosting.Change
    schedule: Schedule
    train_resize: dict[str, Any]
    test_resize: dict[str, Any]
    num_workers: int = 0
    backbone: str | None = None

    def model(
        self, num_classes: int, classifier: dict[str, Any], *, stuff: bool = False, pretrained: bool = False
    ) -> ConfigDict:
        """Return mmdet's model configuration.

        Args:
            num_classes: C.
            classifier: configuration of the Classifier that every box head hosts.
            stuff: the data has stuff maps, which Hybrid Task Cascade trains on.
            pretrained: weights will be loaded, so that the first stages stay frozen as shipped.
        """
        model = self._changed()
        hosting.host(model, num_classes, classifier)
        if not stuff:
            hosting.without_stuff(model)
        hosting.drop_pretrained_backbone(model)
        hosting.quicken(model)
        if not pretrained:
            hosting.thaw(model)
        return model

    def stock_model(self, num_classes: int, *, stuff: bool = False) -> ConfigDict:
        """Return mmdet's model configuration with mmdet's own heads, for weights that will be loaded."""
        model = self._changed()
        hosting.set_classes(model, num_classes)
        if not stuff:
            hosting.without_stuff(model)
        hosting.drop_pretrained_backbone(model)
        return model

    def _changed(self) -> ConfigDict:
        model = hosting.shipped(self.config)
        self.change(model)
        return model

    @cached_property
    def _shape(self) -> ConfigDict:
        return self._changed()

    @property
    def num_stages(self) -> int:
        """The number of classifiers: 3 for a cascade, else 1."""
        return len(hosting.heads(self._shape.roi_head.bbox_head))

    @property
    def has_class_boxes(self) -> bool:
        """Whether each class has its own box regressor."""
        return not hosting.heads(self._shape.roi_head.bbox_head)[0].reg_class_agnostic

    @property
    def has_masks(self) -> bool:
        """Whether the detector predicts masks."""
        return "mask_head" in self._shape.roi_head

    @property
    def takes_stuff(self) -> bool:
        """Whether the detector has a semantic branch, used if the data has stuff maps."""
        return "semantic_head" in self._shape.roi_head

    @property
    def anchor_generator(self) -> ConfigDict:
        """The configuration of the RPN's anchors."""
        return self._shape.rpn_head.anchor_generator

    @property
    def tap_dims(self) -> dict[str, int]:
        """The width of each feature that a classifier may read."""
        head = hosting.heads(self._shape.roi_head.bbox_head)[0]
        fc = head.fc_out_channels
        return {"fc": fc, "fc_pre_relu": fc, "conv": head.in_channels * head.roi_feat_size**2}

    @property
    def images_at_once(self) -> int:
        """The number of images in one pass of the network without training."""
        return self.schedule.batch_size

    def train_pipeline(self, flip: float, stuff: bool = False) -> pipelines.Transforms:
        """Return transforms of training images, with a flip; masks and stuff maps if the detector uses them."""
        return pipelines.train_pipeline(self.train_resize, flip, self.has_masks, stuff and self.takes_stuff)

    @property
    def test_pipeline(self) -> pipelines.Transforms:
        """The transforms of validation images."""
        return pipelines.test_pipeline(self.test_resize)

    @property
    def num_blocks(self) -> int:
        """One."""
        return 1

    @property
    def postprocess(self) -> Postprocess:
        """The paper's protocol for all rows, whatever the configuration has: ``hosting.evaluate_as_lvis``."""
        from imbalance_bench.proposals.postprocess import DEFAULT

        return DEFAULT

    def images(
        self,
        dataset: DataSet,
        category_ids: Sequence[int] | np.ndarray,
        *,
        training: bool,
        flip: float = 0.0,
        keep_labels: Sequence[int] | None = None,
        stuff: bool = False,
    ) -> AnnotationDataset:
        """Open the images of a split through the detector's pipeline."""
        from imbalance_bench.detectors.mmdet.annotation_dataset import build_dataset

        if not training:
            annotations, images = dataset.val_annotations, dataset.val_images
            return build_dataset(annotations, images, category_ids, self.test_pipeline, training=False)
        return build_dataset(
            dataset.train_annotations,
            dataset.train_images,
            category_ids,
            self.train_pipeline(flip, stuff),
            training=True,
            keep_labels=keep_labels,
            stuff_maps=dataset.stuff_maps if stuff else None,
        )

    def host(
        self, classifiers: Sequence[Classifier], state: Mapping[str, Tensor], *, stuff: bool = False
    ) -> TwoStageSource:
        """Load the detector with the given classifiers (``source.host``)."""
        from imbalance_bench.detectors.mmdet import source

        return source.host(self, classifiers, state, stuff=stuff)
