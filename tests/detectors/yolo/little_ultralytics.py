"""Small YOLOs of ultralytics with random weights, and their files."""

import copy
from pathlib import Path
from typing import Any

import torch
from torch import nn

from imbalance_bench.detectors.ultralytics import library  # before ultralytics itself, which else looks at the network
from imbalance_bench.runtime.files import write_atomically

CLASSES = 5
SIZE = 96
NAMES = tuple(f"class {label}" for label in range(CLASSES))
HEADS = {"yolov8": "one2many", "yolo11": "one2many", "yolo26": "one2many", "yolo26 one2one": "one2one"}
"""Of a kind of model, the head that is served."""


def make(kind: str, classes: int = CLASSES, task: str = "DetectionModel", **settings: Any) -> Any:
    """A model of an eighth of the width, with scores and boxes all over."""
    from ultralytics.nn import tasks

    yaml = tasks.yaml_model_load(f"{kind.split()[0]}n{settings.pop('suffix', '')}.yaml")
    yaml["scales"] = {"n": [0.33, 0.125, 256]}
    torch.manual_seed(0)
    model = getattr(tasks, task)({**yaml, **settings}, nc=classes, verbose=False)
    for name, value in model.state_dict().items():
        if "cv3" in name and name.endswith(".2.bias"):
            value.normal_(-2, 0.5)
        elif "cv3" in name and name.endswith(".2.weight"):
            value.normal_(0, 2.0)
        elif name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif name.endswith(("running_mean", "bn.bias")):
            value.normal_(0, 0.3)
    # As ultralytics saves it.
    return model.half().float().eval()


def save(model: nn.Module, path: Path, /, names: tuple[str, ...] = NAMES, **more: Any) -> Path:
    """Write a model as ultralytics' trainer does when it has ended."""
    saved: Any = copy.deepcopy(model).half()
    saved.names = dict(enumerate(names))
    saved.args = {"imgsz": SIZE, "task": "detect"}
    content = {
        "epoch": -1, "best_fitness": None, "model": saved, "ema": None, "updates": None, "optimizer": None,
        "train_args": {"imgsz": SIZE, "task": "detect", "save_dir": Path("runs"), "classes": None},
        "version": "8.4.190", **more,
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda partial: torch.save(content, partial))
    return path


__all__ = ["CLASSES", "HEADS", "NAMES", "SIZE", "library", "make", "save"]
