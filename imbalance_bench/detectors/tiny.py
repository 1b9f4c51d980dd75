"""Tiny Faster R-CNN: half-width ResNet-18 with FPN, from scratch, minutes on two CPU cores."""

from __future__ import annotations

from typing import Any

from imbalance_bench.schedule import Schedule

NAME = "tiny"
TAP_DIMS = {"fc": 256, "fc_pre_relu": 256, "conv": 64 * 7 * 7}
NUM_WORKERS = 0
SCHEDULE = Schedule(epochs=12, lr=0.04, batch_size=16, policy="cosine", warmup_iterations=60, warmup_ratio=0.1)

# At the image's own size; mmdet asks for the scale factor that this transform leaves.
_RESIZE = {"type": "Resize", "scale_factor": 1.0, "keep_ratio": True}
_META_KEYS = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")

TEST_PIPELINE: list[dict[str, Any]] = [
    {"type": "LoadImageFromFile"},
    _RESIZE,
    {"type": "LoadAnnotations", "with_bbox": True},
    {"type": "PackDetInputs", "meta_keys": _META_KEYS},
]


def train_pipeline(flip: float) -> list[dict[str, Any]]:
    """Images at their own size, flipped with probability ``flip``."""
    return [
        {"type": "LoadImageFromFile"},
        {"type": "LoadAnnotations", "with_bbox": True},
        _RESIZE,
        {"type": "RandomFlip", "prob": flip},
        {"type": "PackDetInputs", "meta_keys": _META_KEYS},
    ]


def model(num_classes: int, classifier: dict[str, Any]) -> dict[str, Any]:
    """Class-agnostic boxes, 128 RoIs an image, at most 300 proposals; thresholds as the paper's R50-FPN."""
    assigner = {"type": "MaxIoUAssigner", "ignore_iof_thr": -1}
    rpn_nms = {"nms_pre": 400, "max_per_img": 300, "nms": {"type": "nms", "iou_threshold": 0.7}, "min_bbox_size": 0}
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
            "depth": 18,
            "base_channels": 32,
            "stem_channels": 32,
            "num_stages": 4,
            "out_indices": (0, 1, 2, 3),
            "frozen_stages": -1,
            "norm_cfg": {"type": "BN", "requires_grad": True},
            "norm_eval": False,
            "style": "pytorch",
        },
        "neck": {"type": "FPN", "in_channels": [32, 64, 128, 256], "out_channels": 64, "num_outs": 4},
        "rpn_head": {
            "type": "RPNHead",
            "in_channels": 64,
            "feat_channels": 64,
            "anchor_generator": {
                "type": "AnchorGenerator",
                "scales": [4, 6],
                "ratios": [1.0],
                "strides": [4, 8, 16, 32],
            },
            "bbox_coder": {"type": "DeltaXYWHBBoxCoder", "target_stds": [1.0, 1.0, 1.0, 1.0]},
            "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": True},
            "loss_bbox": {"type": "L1Loss"},
        },
        "roi_head": {
            "type": "StandardRoIHead",
            "bbox_roi_extractor": {
                "type": "SingleRoIExtractor",
                "roi_layer": {"type": "RoIAlign", "output_size": 7, "sampling_ratio": 1},
                "out_channels": 64,
                "featmap_strides": [4, 8, 16],
                "finest_scale": 28,
            },
            "bbox_head": {
                "type": "ClassifierBBoxHead",
                "classifier": classifier,
                "num_shared_fcs": 2,
                "in_channels": 64,
                "fc_out_channels": 256,
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
                    "num": 128,
                    "pos_fraction": 0.5,
                    "neg_pos_ub": -1,
                    "add_gt_as_proposals": False,
                },
                "allowed_border": -1,
                "pos_weight": -1,
            },
            "rpn_proposal": rpn_nms,
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
                    "num": 128,
                    "pos_fraction": 0.25,
                    "neg_pos_ub": -1,
                    "add_gt_as_proposals": True,
                },
                "pos_weight": -1,
            },
        },
        "test_cfg": {
            "rpn": rpn_nms,
            "rcnn": {"score_thr": 0.0, "nms": {"type": "nms", "iou_threshold": 0.5}, "max_per_img": 300},
        },
    }
