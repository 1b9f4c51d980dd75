"""A user's own detector: mmdet's heads, mmdet's files, unusual data."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import set_random_seed

from imbalance_bench.detectors.mmdet import hosting, tiny
from imbalance_bench.runtime.progress import logged_to

ON_SIGMOIDS = ["focal-cls", "bags", "bce", "cls-pw", "eql", "droploss", "federated", "gumbel"]
"""Methods that heads of sigmoids take."""
NAMES = ["<script>alert(1)</script>", "$x_$", "nan", "plain", "=1+1", "no train", "no val", "quote \"' & <b>"]
IDS = [90, 7, 11, 5, 30, 3, 62, 18]
MISSING = 5
PIPELINE = [
    {"type": "LoadImageFromFile"},
    {"type": "Resize", "scale": (128, 96), "keep_ratio": True},
    {"type": "LoadAnnotations", "with_bbox": True},
    {"type": "PackDetInputs", "meta_keys": ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")},
]


@dataclass(frozen=True)
class Theirs:
    """Files of a user; ``arguments`` are those of ``diagnose``."""

    root: Path
    config: Path
    checkpoint: Path

    @property
    def arguments(self) -> dict[str, Path]:
        return {
            "detector": self.config, "checkpoint": self.checkpoint, "train_annotations": self.root / "train.json",
            "val_annotations": self.root / "val.json", "images": self.root / "train",
            "val_images": self.root / "val",
        }  # fmt: skip


def plain_config(base: str, change: Callable[[Any], None] = lambda model: None) -> Config:
    """mmdet's configuration of a small detector with mmdet's own heads."""
    model = hosting.shipped(base)
    tiny.shrink(width=8)(model)
    for head in hosting.heads(model.roi_head.bbox_head):
        head.num_classes = len(NAMES)
    change(model)
    dataset = {"type": "CocoDataset", "ann_file": "val.json", "pipeline": PIPELINE, "test_mode": True}
    return Config(
        {
            "default_scope": "mmdet",
            "model": model.to_dict(),
            "test_dataloader": {"batch_size": 1, "dataset": dataset},
            "train_dataloader": {"batch_size": 4},
            "optim_wrapper": {"optimizer": {"type": "SGD", "lr": 0.01}},
        }
    )


def save(root: Path, name: str, config: Config) -> Theirs:
    """Its files; weights are random, with scores that differ."""
    config_path, checkpoint = root / f"{name}.py", root / f"{name}.pth"
    config_path.write_text(config.pretty_text)
    set_random_seed(3)
    init_default_scope("mmdet")
    with logged_to(None):
        model = MODELS.build(config.model)
        model.init_weights()
    state = model.state_dict()
    for key, value in state.items():
        if "fc_cls" in key or "fc_reg" in key:
            value.normal_(std=0.3 if key.endswith("weight") else 0.1)
    # The order of labels is the file's, whatever the ids.
    torch.save({"state_dict": state, "meta": {"dataset_meta": {"classes": tuple(NAMES)}}}, checkpoint)
    return Theirs(root, config_path, checkpoint)
