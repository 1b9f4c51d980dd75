"""From mmdet's shipped configurations to detectors whose box heads host a Classifier."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from mmengine.config import Config, ConfigDict

# mmdet's box heads by what their class names fix; the hosting head takes it as arguments.
_LAYERS = {
    "ConvFCBBoxHead": {},
    "Shared2FCBBoxHead": {"num_shared_fcs": 2},
    "Shared4Conv1FCBBoxHead": {"num_shared_convs": 4, "num_shared_fcs": 1},
}


def shipped(name: str) -> ConfigDict:
    """Load the model of a configuration that mmdet ships, e.g. ``faster_rcnn/faster-rcnn_r50_fpn_1x_coco``."""
    return copy.deepcopy(_shipped(name).model)


def shipped_config(name: str) -> Config:
    """Load the whole of a configuration that mmdet ships."""
    return copy.deepcopy(_shipped(name))


@cache
def _shipped(name: str) -> Config:
    from mmengine.hub import get_config

    return get_config(f"mmdet::{name}.py")  # reads all of mmdet's model index, half a second


def heads(part: Any) -> list[ConfigDict]:
    """Return the configurations of a head as a list: one for each stage of a cascade, else one."""
    return list(part) if isinstance(part, list) else [part]


def host(model: ConfigDict, num_classes: int, classifier: dict[str, Any]) -> None:
    """Give every box head of a model the classifier, and every head the number of classes.

    Raises:
        ValueError: a box head whose layers are not known.
    """
    for head in heads(model.roi_head.bbox_head):
        # A class in mmengine's new configurations, with its scope before it in others.
        name = head.type.split(".")[-1] if isinstance(head.type, str) else head.type.__name__
        if name not in _LAYERS:
            raise ValueError(f"box head {name} cannot host a classifier, expected one of {', '.join(_LAYERS)}")
        head.update(_LAYERS[name], type="ClassifierBBoxHead", classifier=classifier)
        head.pop("loss_cls", None)
    set_classes(model, num_classes)


def set_classes(model: ConfigDict, num_classes: int) -> None:
    """Give every head of a model, as mmdet ships it, the number of classes."""
    for head in (*heads(model.roi_head.bbox_head), *heads(model.roi_head.get("mask_head", []))):
        head.num_classes = num_classes


def quicken(model: ConfigDict) -> None:
    """Replace parts of mmdet's by ours that compute the same in less time on a CPU."""
    for name, part in model.roi_head.items():
        for extractor in heads(part) if name.endswith("_roi_extractor") else []:
            if extractor.type == "SingleRoIExtractor" and extractor.roi_layer.type == "RoIAlign":
                extractor.type = "AllLevelsRoIExtractor"
    if model.rpn_head.type == "RPNHead":
        model.rpn_head.type = "AllImagesRPNHead"
    for stage in (model.train_cfg.rpn, *heads(model.train_cfg.rcnn)):
        if stage.assigner.type == "MaxIoUAssigner":
            stage.assigner.iou_calculator = {"type": "OverlapsByCoordinate"}


def evaluate_as_lvis(model: ConfigDict) -> None:
    """Set the paper's protocol for all rows: no score threshold, 300 detections for each image."""
    model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=300, nms={"type": "nms", "iou_threshold": 0.5})


def thaw(model: ConfigDict) -> None:
    """Prepare a model for training from scratch: nothing is frozen, batch norm is trained."""
    model.backbone.update(frozen_stages=-1, norm_eval=False)


def drop_pretrained_backbone(model: ConfigDict) -> None:
    """Remove the download of backbone weights; weights only come from a checkpoint of a whole detector."""
    model.backbone.pop("init_cfg", None)


def without_stuff(model: ConfigDict) -> None:
    """Remove the semantic branch of a Hybrid Task Cascade, for data without stuff maps."""
    for name in ("semantic_head", "semantic_roi_extractor"):
        model.roi_head.pop(name, None)


Change: TypeAlias = "Callable[[ConfigDict], None]"
"""What a detector changes in the shipped model, in place."""
