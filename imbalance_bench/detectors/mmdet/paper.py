"""The paper's detectors (Tables 1, 2, 3 and 6): mmdet's shipped models under the paper's protocol, for GPUs.

Where today's configurations differ from the study's (mmdet 1.0rc0), the study's values stand: losses of boxes, which
proposals and anchors are trained on. What stays is mmdet's geometry of today: box sides without the one pixel more, and
RoIAlign whose pixel centres are at .5, with as many samples as a cell has pixels (two by two in the study).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from imbalance_bench.detectors.mmdet.detector import Detector
from imbalance_bench.detectors.mmdet.hosting import evaluate_as_lvis, heads
from imbalance_bench.detectors.mmdet.pipelines import MULTI_SCALE, SHORT_800
from imbalance_bench.schedule import Schedule

if TYPE_CHECKING:
    from mmengine.config import ConfigDict

SCHEDULE = Schedule(epochs=12, milestones=(8, 11), lr=0.01, batch_size=16)
"""Section 5.1."""

LONG_SCHEDULE = Schedule(epochs=20, milestones=(16, 19), lr=0.01, batch_size=16)
"""mmdet's schedule of Hybrid Task Cascade, at the paper's rate."""

WORKERS = min(4, os.cpu_count() or 1)
"""Processes that load images."""


def protocol(model: ConfigDict) -> None:
    """Change the model, in place, to the settings of the study; scores and detections as on LVIS.

    Boxes are learned with smooth L1 (beta 1, in the RPN 1/9), where some of mmdet's have L1 today. Anchors that leave
    the image are not trained on, each box takes its best proposal whatever else that overlaps (IoU at the stage's
    threshold or more), and there are 2000 training proposals.
    """
    from mmengine.config import ConfigDict

    model.rpn_head.loss_bbox = ConfigDict(type="SmoothL1Loss", beta=1 / 9, loss_weight=1.0)
    for head in heads(model.roi_head.bbox_head):
        head.loss_bbox = ConfigDict(type="SmoothL1Loss", beta=1.0, loss_weight=1.0)
    model.train_cfg.rpn.allowed_border = 0
    model.train_cfg.rpn_proposal.update(nms_pre=2000, max_per_img=2000)
    for stage in heads(model.train_cfg.rcnn):
        stage.assigner.match_low_quality = True
    evaluate_as_lvis(model)


def _detector(name: str, framework: str, description: str, config: str, **options: object) -> Detector:
    options = {
        "schedule": SCHEDULE,
        "train_resize": SHORT_800,
        "test_resize": SHORT_800,
        "num_workers": WORKERS,
        "backbone": "resnet50" if "r50" in name else "resnext101_64x4d",
        **options,
    }
    return Detector(name, framework, "paper", description, config, protocol, **options)  # type: ignore[arg-type]


DETECTORS = (
    _detector(
        "faster-rcnn-r50", "Faster R50", "Faster R-CNN, ResNet-50, FPN; class-specific boxes",
        "faster_rcnn/faster-rcnn_r50_fpn_1x_coco",
    ),
    _detector(
        "faster-rcnn-x101", "Faster X101", "Faster R-CNN, ResNeXt-101-64x4d, FPN; class-specific boxes",
        "faster_rcnn/faster-rcnn_x101-64x4d_fpn_1x_coco",
    ),
    _detector(
        "cascade-rcnn-x101", "Cascade X101", "Cascade R-CNN, ResNeXt-101-64x4d, FPN; three classifiers",
        "cascade_rcnn/cascade-rcnn_x101-64x4d_fpn_1x_coco",
    ),
    _detector(
        "mask-rcnn-r50", "Mask R50", "Mask R-CNN, ResNet-50, FPN; class-specific boxes and masks",
        "mask_rcnn/mask-rcnn_r50_fpn_1x_coco",
    ),
    _detector(
        "htc-x101", "HTC X101", "Hybrid Task Cascade, ResNeXt-101-64x4d, FPN; three classifiers",
        "htc/htc_x101-64x4d_fpn_16xb1-20e_coco", schedule=LONG_SCHEDULE,
    ),
    _detector(
        "htc-x101-ms-dcn", "HTC X101-MS-DCN", "as htc-x101, with deformable convolutions and multi-scale training",
        "htc/htc_x101-64x4d-dconv-c3-c5_fpn_ms-400-1400-16xb1-20e_coco",
        schedule=LONG_SCHEDULE, train_resize=MULTI_SCALE,
    ),
)  # fmt: skip
"""One framework for each row of Tables 2 and 3."""
