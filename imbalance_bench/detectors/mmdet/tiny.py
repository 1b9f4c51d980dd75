"""Tiny detectors of every framework for drawn images, minutes on two CPU cores: mmdet's shipped models, shrunk.

Boxes and masks are class-agnostic throughout: the embedded set has too few instances of its rare classes to train a
box regressor each, and what is compared here are classifiers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from imbalance_bench.detectors.mmdet.detector import Detector
from imbalance_bench.detectors.mmdet.hosting import Change, evaluate_as_lvis, heads
from imbalance_bench.detectors.mmdet.pipelines import OWN_SIZE
from imbalance_bench.schedule import Schedule

if TYPE_CHECKING:
    from mmengine.config import ConfigDict

SCHEDULE = Schedule(epochs=12, lr=0.04, batch_size=8, policy="cosine", warmup_iterations=120, warmup_ratio=0.1)
CHANNELS = 64
"""Channels of the feature pyramid and of everything above it."""

_RPN_NMS = {"nms_pre": 400, "max_per_img": 300, "nms": {"type": "nms", "iou_threshold": 0.7}, "min_bbox_size": 0}


def shrink(width: int = 32, depth: int = 18) -> Change:
    """Return a change that makes a model tiny: thin backbone, 64 channels, 128 RoIs and 300 proposals per image.

    Args:
        width: channels of the backbone's first stage.
        depth: of the ResNet.
    """

    def change(model: ConfigDict) -> None:
        from mmengine.config import ConfigDict

        out = [width * 2**level * (4 if depth >= 50 else 1) for level in range(4)]
        backbone = {name: model.backbone[name] for name in ("dcn", "stage_with_dcn") if name in model.backbone}
        model.backbone = ConfigDict(
            type="ResNet", depth=depth, base_channels=width, stem_channels=width, num_stages=4,
            out_indices=(0, 1, 2, 3), frozen_stages=1, norm_cfg={"type": "BN", "requires_grad": True},
            norm_eval=True, style="pytorch", **backbone,
        )  # fmt: skip
        model.neck.update(in_channels=out, out_channels=CHANNELS, num_outs=4)
        model.rpn_head.update(in_channels=CHANNELS, feat_channels=CHANNELS)
        model.rpn_head.loss_bbox = ConfigDict(type="L1Loss")
        model.rpn_head.anchor_generator.update(scales=[4, 6], ratios=[1.0], strides=[4, 8, 16, 32])
        _shrink_roi_head(model.roi_head)
        model.train_cfg.rpn.update(allowed_border=-1)
        model.train_cfg.rpn.sampler.update(num=128)
        model.train_cfg.rpn_proposal, model.test_cfg.rpn = ConfigDict(_RPN_NMS), ConfigDict(_RPN_NMS)
        for stage in heads(model.train_cfg.rcnn):
            stage.sampler.update(num=128)
            stage.update({"mask_size": 14} if "mask_head" in model.roi_head else {})
        evaluate_as_lvis(model)

    return change


def _shrink_roi_head(roi_head: ConfigDict) -> None:
    from mmengine.config import ConfigDict

    def extractor(size: int) -> dict[str, Any]:
        layer = {"type": "RoIAlign", "output_size": size, "sampling_ratio": 1}
        return {"roi_layer": layer, "out_channels": CHANNELS}

    roi_head.bbox_roi_extractor.update(extractor(7), featmap_strides=[4, 8, 16], finest_scale=28)
    for head in heads(roi_head.bbox_head):
        head.update(in_channels=CHANNELS, fc_out_channels=256, reg_class_agnostic=True)
        head.loss_bbox = ConfigDict(type="L1Loss")
    if "mask_head" in roi_head:
        roi_head.mask_roi_extractor.update(extractor(7), featmap_strides=[4, 8, 16], finest_scale=28)
        for head in heads(roi_head.mask_head):
            head.update(num_convs=2, in_channels=CHANNELS, conv_out_channels=CHANNELS, class_agnostic=True,
                        roi_feat_size=7)  # fmt: skip
    if "semantic_head" in roi_head:
        roi_head.semantic_roi_extractor.update(extractor(7))
        roi_head.semantic_head.update(num_ins=4, num_convs=2, in_channels=CHANNELS, conv_out_channels=CHANNELS)


def _detector(name: str, framework: str, description: str, config: str, **shrunk: int) -> Detector:
    return Detector(name, framework, "tiny", description, config, shrink(**shrunk), SCHEDULE, OWN_SIZE, OWN_SIZE)


DETECTORS = (
    _detector(
        "tiny", "Faster R50", "Faster R-CNN, half-width ResNet-18, FPN", "faster_rcnn/faster-rcnn_r50_fpn_1x_coco",
    ),
    _detector(
        "tiny-wide", "Faster X101", "as tiny, ResNet-18 of full width",
        "faster_rcnn/faster-rcnn_r50_fpn_1x_coco", width=64,
    ),
    _detector(
        "tiny-cascade", "Cascade X101", "Cascade R-CNN, half-width ResNet-18, FPN; three classifiers",
        "cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco",
    ),
    _detector(
        "tiny-mask", "Mask R50", "Mask R-CNN, half-width ResNet-18, FPN", "mask_rcnn/mask-rcnn_r50_fpn_1x_coco",
    ),
    _detector(
        "tiny-htc", "HTC X101", "Hybrid Task Cascade, half-width ResNet-18, FPN; three classifiers",
        "htc/htc_r50_fpn_1x_coco",
    ),
    _detector(
        "tiny-htc-dcn", "HTC X101-MS-DCN", "as tiny-htc, eighth-width ResNet-50 with deformable convolutions",
        "htc/htc_x101-64x4d-dconv-c3-c5_fpn_ms-400-1400-16xb1-20e_coco", width=8, depth=50,
    ),
)  # fmt: skip
"""One for each framework of the paper."""
