"""A detector of the suite: a model that mmdet ships, what is changed in it, and how it is trained."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from imbalance_bench.detectors.mmdet import hosting, pipelines
from imbalance_bench.schedule import Schedule

if TYPE_CHECKING:
    from mmengine.config import ConfigDict


@dataclass(frozen=True)
class Detector:
    """A detector as mmdet configures it, with its training schedule.

    Attributes:
        name: on the command line.
        framework: as the paper's tables call it; a tiny and a paper-scale detector share one.
        scale: ``tiny`` (minutes on a CPU) or ``paper``.
        description: one line.
        config: name of the configuration that mmdet ships.
        change: function that changes the shipped model in place.
        schedule: end-to-end training.
        train_resize: mmdet transform of training images.
        test_resize: mmdet transform of validation images.
        num_workers: data loading processes.
    """

    name: str
    framework: str
    scale: Literal["tiny", "paper"]
    description: str
    config: str
    change: hosting.Change
    schedule: Schedule
    train_resize: dict[str, Any]
    test_resize: dict[str, Any]
    num_workers: int = 0

    def model(
        self, num_classes: int, classifier: dict[str, Any], *, stuff: bool = False, pretrained: bool = False
    ) -> ConfigDict:
        """Return mmdet's model configuration.

        Args:
            num_classes: C.
            classifier: configuration of the Classifier that every box head hosts.
            stuff: the data has stuff maps, which Hybrid Task Cascade trains on.
            pretrained: the weights of a detector are loaded, so that its first stages stay frozen as shipped.
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

    def _changed(self) -> ConfigDict:
        model = hosting.shipped(self.config)
        self.change(model)
        return model

    @cached_property
    def _shape(self) -> ConfigDict:
        return self._changed().roi_head

    @property
    def num_stages(self) -> int:
        """The number of classifiers: 3 for a cascade, else 1."""
        return len(hosting.heads(self._shape.bbox_head))

    @property
    def has_class_boxes(self) -> bool:
        """Whether each class has its own box regressor."""
        return not hosting.heads(self._shape.bbox_head)[0].reg_class_agnostic

    @property
    def has_masks(self) -> bool:
        """Whether the detector predicts masks."""
        return "mask_head" in self._shape

    @property
    def takes_stuff(self) -> bool:
        """Whether the detector has a semantic branch, used if the data has stuff maps."""
        return "semantic_head" in self._shape

    @property
    def tap_dims(self) -> dict[str, int]:
        """The width of each feature that a classifier may read."""
        head = hosting.heads(self._shape.bbox_head)[0]
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
