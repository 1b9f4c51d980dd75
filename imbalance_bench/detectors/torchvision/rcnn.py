"""torchvision's R-CNNs behind the port: Faster and Mask R-CNN of any backbone.

A proposal is a box of the region proposal network; background is a class of the softmax, torchvision's label 0, and
last here. Labels are torchvision's minus one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork

from imbalance_bench.classifiers import Classifier, SoftmaxClassifier
from imbalance_bench.detectors.port import Export
from imbalance_bench.detectors.torchvision import hosting, models
from imbalance_bench.detectors.torchvision.detector import TorchvisionDetector
from imbalance_bench.detectors.torchvision.export import export
from imbalance_bench.detectors.torchvision.rcnn_source import RCNNSource
from imbalance_bench.proposals.postprocess import Postprocess
from imbalance_bench.runtime.errors import InputError


@dataclass(frozen=True)
class RCNN(TorchvisionDetector):
    """A user's two-stage detector (``port.UserDetector``)."""

    model: GeneralizedRCNN
    layer = models.CLS_SCORE
    kind = "an R-CNN"

    proposal_kind = "RoIs"
    """What its classifier scores."""

    @classmethod
    def of(cls, source: str, model: GeneralizedRCNN) -> RCNN:
        """Check a model.

        Raises:
            InputError: its classifier cannot be found, or its parts are none of torchvision's.
        """
        detector = cls(source, model.eval())
        if not isinstance(model.roi_heads, RoIHeads) or not isinstance(model.rpn, RegionProposalNetwork):
            raise InputError(f"{detector.where}: its rpn or roi_heads are none of torchvision's, expected those")
        predictor = model.roi_heads.box_predictor
        layers = [getattr(predictor, name, None) for name in ("cls_score", "bbox_pred")]
        if not all(isinstance(layer, nn.Linear) for layer in layers):
            raise InputError(
                f"{detector.where}: its box_predictor is {type(predictor).__name__}, expected one with the linear "
                "layers cls_score and bbox_pred"
            )
        rows, boxes = predictor.cls_score.out_features, predictor.bbox_pred.out_features
        if boxes != 4 * rows:
            raise InputError(
                f"{detector.where}: its bbox_pred has {boxes} rows, expected 4 of each in cls_score, {rows}"
            )
        return detector

    @property
    def _predictor(self) -> Any:
        return self.model.roi_heads.box_predictor

    @property
    def num_classes(self) -> int:
        """C, without background."""
        return int(self._predictor.cls_score.out_features) - 1

    @property
    def rows(self) -> int:
        """torchvision's ``num_classes``: with background."""
        return self.num_classes + 1

    @property
    def tap_dims(self) -> dict[str, int]:
        """The output of the box head, and of the pooling of RoIs."""
        dims = {"fc": int(self._predictor.cls_score.in_features)}
        size = getattr(self.model.roi_heads.box_roi_pool, "output_size", None)
        channels = getattr(self.model.backbone, "out_channels", None)
        if size is not None and channels is not None:
            dims["conv"] = int(channels * np.prod(size))
        return dims

    @property
    def num_blocks(self) -> int:
        """One."""
        return 1

    @property
    def first_label(self) -> int:
        """One, after background."""
        return 1

    def refusal(self, classifier: Classifier) -> str | None:
        """None: the predictor hosts any classifier."""
        return None

    @property
    def has_class_boxes(self) -> bool:
        """True: each class has a box regressor."""
        return True

    @property
    def postprocess(self) -> Postprocess:
        """The model's own suppression, on all scores and up to 300 detections, as every detector is measured."""
        return Postprocess(iou_threshold=self.model.roi_heads.nms_thresh, min_size=hosting.MIN_SIZE)

    @property
    def own_postprocess(self) -> Postprocess:
        """What the model itself does: thresholds of .05 and .5, and 100 detections, if its user changed nothing."""
        heads = self.model.roi_heads
        return Postprocess(heads.score_thresh, heads.nms_thresh, heads.detections_per_img, hosting.MIN_SIZE)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is measured otherwise than the model itself detects."""
        own, after = self.own_postprocess, self.postprocess
        return (
            f"measured on all scores and up to {after.max_per_image} detections an image; the model itself keeps "
            f"{own.max_per_image} with scores above {own.score_threshold:g}",
        )

    def stock_classifier(self, num_classes: int, feature_dim: int) -> SoftmaxClassifier:
        """Return an untrained softmax."""
        return SoftmaxClassifier(num_classes, feature_dim)

    def rows_of(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """The row of background comes last."""
        return weight.roll(-1, 0), bias.roll(-1, 0)

    def source_of(self, model: nn.Module, classifier: Classifier) -> RCNNSource:
        """Host the classifier in the predictor."""
        assert isinstance(model, GeneralizedRCNN)
        hosting.host(model, classifier, self.postprocess)
        return RCNNSource(model)

    def export(self, checkpoint: Path, class_names: Sequence[str], folder: Path) -> Export:
        """Write checkpoint and loader (``export.export``)."""
        return export(self, checkpoint, class_names, folder)
