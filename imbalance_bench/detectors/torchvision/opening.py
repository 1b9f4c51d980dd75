"""A user's torchvision detector of any kind that is hosted."""

from __future__ import annotations

from pathlib import Path

from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from imbalance_bench.detectors.port import UserDetector
from imbalance_bench.detectors.torchvision import models
from imbalance_bench.detectors.torchvision.dense import Dense
from imbalance_bench.detectors.torchvision.rcnn import RCNN
from imbalance_bench.runtime.errors import InputError


def open_model(source: str, checkpoint: Path) -> UserDetector:
    """Build the model that a user names, with as many classes as its checkpoint has.

    Raises:
        InputError: an unknown name, code that fails, or a model or a checkpoint of no such detector.
    """
    model = models.build(source, _num_classes(checkpoint))
    if isinstance(model, GeneralizedRCNN):
        return RCNN.of(source, model)
    if isinstance(model, RetinaNet | FCOS):
        return Dense.of(source, model)
    raise InputError(
        f"option '--model {source}': is {type(model).__name__}, expected Faster R-CNN, Mask R-CNN, RetinaNet or FCOS"
    )


def _num_classes(checkpoint: Path) -> int:
    """Return the number of classes of a checkpoint as torchvision counts them."""
    state, _ = models.read_state(checkpoint)
    if (rows := state.get(f"{models.CLS_SCORE}weight")) is not None:
        return len(rows)
    rows, boxes = (state.get(f"head.{name}.weight") for name in (
        "classification_head.cls_logits", "regression_head.bbox_reg"))  # fmt: skip
    if rows is None or boxes is None or not len(boxes) // 4:
        raise InputError(
            f"{checkpoint}: has neither '{models.CLS_SCORE}weight' nor '{models.CLS_LOGITS}weight' beside a regressor, "
            "expected an R-CNN, RetinaNet or FCOS of torchvision"
        )
    return len(rows) // (len(boxes) // 4)
