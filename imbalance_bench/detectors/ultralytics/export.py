"""Export of a repaired YOLO: a ``.pt`` that ultralytics loads as one of its own."""

from __future__ import annotations

import copy
import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from imbalance_bench.checkpoints import own as checkpoints
from imbalance_bench.detectors import sigmoid_heads
from imbalance_bench.detectors.hosting import HostingConv
from imbalance_bench.detectors.named_state import load_named
from imbalance_bench.detectors.port import Export
from imbalance_bench.detectors.ultralytics.hosting import levels
from imbalance_bench.detectors.ultralytics.library import VERSION
from imbalance_bench.runtime.errors import InputError

if TYPE_CHECKING:
    from imbalance_bench.detectors.ultralytics.detector import Yolo

WEIGHTS = "best.pt"


def export(detector: Yolo, checkpoint: Path, folder: Path) -> Export:
    """Write the detector of a run as ultralytics saves one, in single precision, so that it scores as measured.

    Args:
        detector: the detector as its user described it.
        checkpoint: checkpoint of a run on this detector.
        folder: folder for the file.

    Raises:
        InputError: scores are not the sigmoids of a convolution, which is all that a head of ultralytics computes.
    """
    content = checkpoints.load(checkpoint)
    (classifier,) = checkpoints.classifiers_of(content, checkpoint).values()
    if not sigmoid_heads.is_linear(classifier):
        raise InputError(
            f"option '--export': the scores of {type(classifier).__name__} are not sigmoids of a linear layer, "
            "expected what the head of ultralytics computes"
        )
    model: Any = copy.deepcopy(detector.model)
    others = {name: value for name, value in content["state_dict"].items() if not checkpoints.is_classifier(name)}
    load_named(model, others, strict=False)
    own = levels(model, detector.head)
    with torch.no_grad():
        for number, layers in enumerate(own):
            weight, bias = HostingConv(classifier, layers[-1], number, len(own)).convolution()
            layers[-1].weight.copy_(weight)
            layers[-1].bias.copy_(bias)
    folder.mkdir(parents=True, exist_ok=True)
    stored = {
        "epoch": -1,
        "model": model,
        "ema": None,
        "optimizer": None,
        "train_args": detector.file.train_args,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "version": VERSION,
    }
    checkpoints.write(folder / WEIGHTS, stored)
    how = "yolo predict" if detector.head == "one2many" else "yolo predict nms=False"
    return Export((WEIGHTS,), True, f"plain ultralytics runs it ({how})")
