"""mmdet's transforms of training and validation images, for every detector of the suite."""

from __future__ import annotations

from typing import Any

Transforms = list[dict[str, Any]]

OWN_SIZE: dict[str, Any] = {"type": "Resize", "scale_factor": 1.0, "keep_ratio": True}
"""Images in their own size; mmdet needs the scale factor that this transform sets."""

LONG_320: dict[str, Any] = {"type": "Resize", "scale": (320, 320), "keep_ratio": True}
"""Longer side 320."""

SHORT_800: dict[str, Any] = {"type": "Resize", "scale": (1333, 800), "keep_ratio": True}
"""Shorter side 800, longer at most 1333 (section 5.1)."""

MULTI_SCALE: dict[str, Any] = {"type": "RandomResize", "scale": [(1600, 400), (1600, 1400)], "keep_ratio": True}
"""Shorter side between 400 and 1400 (*MS* in Table 3)."""

PACK: dict[str, Any] = {
    "type": "PackDetInputs",
    "meta_keys": ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
}
"""The fields that the detector receives."""


def train_pipeline(resize: dict[str, Any], flip: float, masks: bool, stuff: bool) -> Transforms:
    """Return transforms of training images: load, resize, flip with probability ``flip``; masks and stuff optional."""
    return [
        {"type": "LoadImageFromFile"},
        {"type": "LoadAnnotations", "with_bbox": True, "with_mask": masks, "with_seg": stuff},
        resize,
        {"type": "RandomFlip", "prob": flip},
        PACK,
    ]


def test_pipeline(resize: dict[str, Any]) -> Transforms:
    """Return transforms of test images: load and resize; boxes stay in the coordinates of the original image."""
    return [
        {"type": "LoadImageFromFile"},
        resize,
        {"type": "LoadAnnotations", "with_bbox": True},
        PACK,
    ]
