"""torchvision's dense heads behind the port: RetinaNet and FCOS.

A proposal is an anchor: a point of a feature map and one of the A anchor shapes there (FCOS has one). Its features are
the 3 x 3 patch that the last convolution reads, 9 times as many as the map has channels; the A filters of a class are
the A blocks of one classifier. Scores are sigmoids, and nothing scores background: it is what no class claims. Labels
are torchvision's, whose label 0 is of no category where its user counts background.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torchvision.models.detection import FCOS, RetinaNet

from imbalance_bench.classifiers import Classifier, SigmoidClassifier
from imbalance_bench.detectors.port import Export
from imbalance_bench.detectors.sigmoid_heads import refusal_in_maps
from imbalance_bench.detectors.torchvision import models
from imbalance_bench.detectors.torchvision.dense_hosting import host
from imbalance_bench.detectors.torchvision.dense_source import DenseSource
from imbalance_bench.detectors.torchvision.detector import TorchvisionDetector
from imbalance_bench.detectors.torchvision.export import export_dense
from imbalance_bench.proposals import blocks
from imbalance_bench.proposals.postprocess import Postprocess
from imbalance_bench.runtime.errors import InputError


@dataclass(frozen=True)
class Dense(TorchvisionDetector):
    """A user's dense detector (``port.UserDetector``)."""

    model: RetinaNet | FCOS
    layer = models.CLS_LOGITS
    kind = "RetinaNet or FCOS"

    proposal_kind = "anchors"
    """What its classifier scores."""

    @classmethod
    def of(cls, source: str, model: RetinaNet | FCOS) -> Dense:
        """Check a model.

        Raises:
            InputError: its classifier cannot be found, or is no plain convolution.
        """
        detector = cls(source, model.eval())
        head = getattr(model.head, "classification_head", None)
        conv = getattr(head, "cls_logits", None)
        if not isinstance(conv, nn.Conv2d) or not hasattr(head, "num_anchors"):
            kind = type(head).__name__
            raise InputError(f"{detector.where}: its classification_head is {kind}, expected torchvision's")
        plain = {conv.stride, conv.dilation, (conv.groups, conv.groups)} == {(1, 1)} and conv.bias is not None
        if not plain or conv.padding != tuple(side // 2 for side in conv.kernel_size):
            raise InputError(f"{detector.where}: its cls_logits is {conv}, expected a plain convolution with a bias")
        return detector

    @property
    def _head(self) -> Any:
        return self.model.head.classification_head

    @property
    def num_classes(self) -> int:
        """C: torchvision's ``num_classes``, which may count a background that no anchor is labelled with."""
        return int(self._head.num_classes)

    @property
    def rows(self) -> int:
        """torchvision's ``num_classes``."""
        return self.num_classes

    @property
    def num_blocks(self) -> int:
        """Anchor shapes A at a point."""
        return int(self._head.num_anchors)

    @property
    def tap_dims(self) -> dict[str, int]:
        """The patch that the last convolution reads, in its block."""
        return {"fc": blocks.width(self._head.cls_logits.weight[0].numel(), self.num_blocks)}

    @property
    def postprocess(self) -> Postprocess:
        """The model's own suppression, on all scores and up to 300 detections, as every detector is measured."""
        return Postprocess(iou_threshold=self.model.nms_thresh, power=0.5 if isinstance(self.model, FCOS) else 1.0)

    @property
    def own_postprocess(self) -> Postprocess:
        """What the model itself does, but for its limit of pairs at each level (1,000) before suppression."""
        model = self.model
        return Postprocess(model.score_thresh, model.nms_thresh, model.detections_per_img, power=self.postprocess.power)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is measured otherwise than the model itself detects."""
        own, after = self.own_postprocess, self.postprocess
        return (
            f"measured on all scores of the anchors that are kept, up to {after.max_per_image} detections an image; "
            f"the model itself keeps {own.max_per_image} with scores above {own.score_threshold:g}",
        )

    def stock_classifier(self, num_classes: int, feature_dim: int) -> SigmoidClassifier:
        """Return untrained sigmoids without background."""
        return SigmoidClassifier(num_classes, feature_dim)

    def refusal(self, classifier: Classifier) -> str | None:
        """Return why a classifier cannot take the place of its convolutions (``sigmoid_heads``)."""
        return refusal_in_maps(classifier)

    def rows_of(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """The filters of all anchor shapes become one classifier."""
        shape = (self.num_blocks, self.num_classes)
        return blocks.join_rows(weight.flatten(1).unflatten(0, shape), bias.unflatten(0, shape))

    def source_of(self, model: nn.Module, classifier: Classifier) -> DenseSource:
        """Host the classifier in the last convolution."""
        assert isinstance(model, (RetinaNet, FCOS))
        host(model, classifier)
        return DenseSource(model, self.own_postprocess)

    def export(self, checkpoint: Path, class_names: Sequence[str], folder: Path) -> Export:
        """Write checkpoint and loader (``export.export_dense``)."""
        return export_dense(self, checkpoint, class_names, folder)
