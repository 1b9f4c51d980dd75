"""Small detectors for photographs, an hour or two on two CPU cores: mmdet's shipped models on MobileNetV2."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imbalance_bench.detectors.mmdet.detector import Detector
from imbalance_bench.detectors.mmdet.hosting import evaluate_as_lvis, heads
from imbalance_bench.detectors.mmdet.pipelines import LONG_320
from imbalance_bench.schedule import Schedule

if TYPE_CHECKING:
    from mmengine.config import ConfigDict

SCHEDULE = Schedule(
    epochs=12, lr=0.01, batch_size=8, policy="cosine", warmup_iterations=200, warmup_ratio=0.1, max_norm=5
)
"""With a rate of .02, or gradients clipped as ``tiny``'s, a backbone with frozen statistics diverges on some sets."""
CHANNELS = 96
"""Channels of the feature pyramid and of everything above it."""

_RPN_NMS = {"nms_pre": 500, "max_per_img": 300, "nms": {"type": "nms", "iou_threshold": 0.7}, "min_bbox_size": 0}


def shrink(model: ConfigDict) -> None:
    """Change a model, in place, to MobileNetV2 and images of 320 pixels: anchors from 16 pixels, 128 RoIs an image.

    Boxes are class-agnostic: rare classes have too few instances to train a regressor each.
    """
    from mmengine.config import ConfigDict

    # Strides 4 to 32, frozen to stride 4 as ResNet is; the last map is the one of 1,280 channels that ImageNet's
    # classifier reads. Statistics of batches of eight would be worse than ImageNet's: batch norm is not trained.
    model.backbone = ConfigDict(type="MobileNetV2", out_indices=(1, 2, 4, 7), frozen_stages=2, norm_eval=True)
    model.neck.update(in_channels=[24, 32, 96, 1280], out_channels=CHANNELS)
    model.rpn_head.update(in_channels=CHANNELS, feat_channels=CHANNELS)
    model.rpn_head.anchor_generator.update(scales=[4])
    model.train_cfg.rpn.sampler.update(num=128)
    model.train_cfg.rpn_proposal, model.test_cfg.rpn = ConfigDict(_RPN_NMS), ConfigDict(_RPN_NMS)
    model.roi_head.bbox_roi_extractor.update(out_channels=CHANNELS, finest_scale=28)
    for head in heads(model.roi_head.bbox_head):
        head.update(in_channels=CHANNELS, fc_out_channels=256, reg_class_agnostic=True)
    for stage in heads(model.train_cfg.rcnn):
        stage.sampler.update(num=128)
    evaluate_as_lvis(model)


def _detector(name: str, framework: str, description: str, config: str) -> Detector:
    return Detector(
        name, framework, "small", description, config, shrink, SCHEDULE, LONG_320, LONG_320, backbone="mobilenet_v2"
    )


DETECTORS = (
    _detector(
        "small", "Faster R50", "Faster R-CNN, MobileNetV2, FPN; images of 320 pixels",
        "faster_rcnn/faster-rcnn_r50_fpn_1x_coco",
    ),
    _detector(
        "small-cascade", "Cascade X101", "Cascade R-CNN, MobileNetV2, FPN; three classifiers",
        "cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco",
    ),
)  # fmt: skip
"""Of the paper's frameworks, those whose heads a CPU trains in time."""
