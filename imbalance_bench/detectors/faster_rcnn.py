"""Faster R-CNN, ResNet-50 with FPN, as the paper trains it (class-agnostic boxes), for a GPU."""

from __future__ import annotations

from typing import Any

from imbalance_bench.schedule import Schedule

NAME = "faster-rcnn-r50"
TAP_DIMS = {"fc": 1024, "fc_pre_relu": 1024, "conv": 256 * 7 * 7}
NUM_WORKERS = 4
SCHEDULE = Schedule(epochs=12, milestones=(8, 11), lr=0.01, batch_size=16)

_RESIZE = {"type": "Resize", "scale": (1333, 800), "keep_ratio": True}
_META_KEYS = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")

TEST_PIPELINE: list[dict[str, Any]] = [
    {"type": "LoadImageFromFile"},
    _RESIZE,
    {"type": "LoadAnnotations", "with_bbox": True},
    {"type": "PackDetInputs", "meta_keys": _META_KEYS},
]


def train_pipeline(flip: float) -> list[dict[str, Any]]:
    """1333 x 800, flipped with probability ``flip``."""
    return [
        {"type": "LoadImageFromFile"},
        {"type": "LoadAnnotations", "with_bbox": True},
        _RESIZE,
        {"type": "RandomFlip", "prob": flip},
        {"type": "PackDetInputs", "meta_keys": _META_KEYS},
    ]


def model(num_classes: int, classifier: dict[str, Any]) -> dict[str, Any]:
    """Frozen stage 1, batch norm in evaluation mode, 512 RoIs an image, 1000 test proposals (section 5.1)."""
    assigner = {"type": "MaxIoUAssigner", "ignore_iof_thr": -1}
    nms = {"type": "nms", "iou_threshold": 0.7}
    return {
        "type": "FasterRCNN",
        "data_preprocessor": {
            "type": "DetDataPreprocessor",
            "mean": [123.675, 116.28, 103.53],
            "std": [58.395, 57.12, 57.375],
            "bgr_to_rgb": True,
            "pad_size_divisor": 32,
        },
        "backbone": {
            "type": "ResNet",
            "depth": 50,
            "num_stages": 4,
            "out_indices": (0, 1, 2, 3),
            "frozen_stages": 1,
            "norm_cfg": {"type": "BN", "requires_grad": True},
            "norm_eval": True,
            "style": "pytorch",
        },
        "neck": {"type": "FPN", "in_channels": [256, 512, 1024, 2048], "out_channels": 256, "num_outs": 5},
        "rpn_head": {
            "type": "RPNHead",
            "in_channels": 256,
            "feat_channels": 256,
            "anchor_generator": {
                "type": "AnchorGenerator",
                "scales": [8],
                "ratios": [0.5, 1.0, 2.0],
                "strides": [4, 8, 16, 32, 64],
            },
            "bbox_coder": {"type": "DeltaXYWHBBoxCoder", "target_stds": [1.0, 1.0, 1.0, 1.0]},
            "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": True},
            "loss_bbox": {"type": "L1Loss"},
        },
        "roi_head": {
            "type": "StandardRoIHead",
            "bbox_roi_extractor": {
                "type": "SingleRoIExtractor",
                "roi_layer": {"type": "RoIAlign", "output_size": 7, "sampling_ratio": 0},
                "out_channels": 256,
                "featmap_strides": [4, 8, 16, 32],
            },
            "bbox_head": {
                "type": "ClassifierBBoxHead",
                "classifier": classifier,
                "num_shared_fcs": 2,
                "in_channels": 256,
                "fc_out_channels": 1024,
                "roi_feat_size": 7,
                "num_classes": num_classes,
                "bbox_coder": {"type": "DeltaXYWHBBoxCoder", "target_stds": [0.1, 0.1, 0.2, 0.2]},
                "reg_class_agnostic": True,
                "loss_bbox": {"type": "L1Loss"},
            },
        },
        "train_cfg": {
            "rpn": {
                "assigner": {**assigner, "pos_iou_thr": 0.7, "neg_iou_thr": 0.3, "min_pos_iou": 0.3},
                "sampler": {
                    "type": "RandomSampler",
                    "num": 256,
                    "pos_fraction": 0.5,
                    "neg_pos_ub": -1,
                    "add_gt_as_proposals": False,
                },
                "allowed_border": -1,
                "pos_weight": -1,
            },
            "rpn_proposal": {"nms_pre": 2000, "max_per_img": 2000, "nms": nms, "min_bbox_size": 0},
            "rcnn": {
                "assigner": {
                    **assigner,
                    "pos_iou_thr": 0.5,
                    "neg_iou_thr": 0.5,
                    "min_pos_iou": 0.5,
                    "match_low_quality": False,
                },
                "sampler": {
                    "type": "RandomSampler",
                    "num": 512,
                    "pos_fraction": 0.25,
                    "neg_pos_ub": -1,
                    "add_gt_as_proposals": True,
                },
                "pos_weight": -1,
            },
        },
        "test_cfg": {
            "rpn": {"nms_pre": 1000, "max_per_img": 1000, "nms": nms, "min_bbox_size": 0},
            "rcnn": {"score_thr": 0.0, "nms": {"type": "nms", "iou_threshold": 0.5}, "max_per_img": 300},
        },
    }
