"""What is used of ultralytics, imported without a look at the network, at the home folder or at what may be installed.

When it is imported, ultralytics asks whether there is a network, writes settings to the home folder, may install what
it misses, and changes ``torch.save`` and how numpy prints. It is under the AGPL: none of its code is in this package.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

_SETTINGS = tempfile.TemporaryDirectory(prefix="ultralytics-", ignore_cleanup_errors=True)
"""Of the process, which takes it away at its end."""


@contextmanager
def _quietly() -> Iterator[None]:
    """Set what ultralytics reads of the environment when it is imported; leave environment and process as they were."""
    environment, save, level = dict(os.environ), torch.save, logging.root.manager.disable
    os.environ.update(YOLO_OFFLINE="true", YOLO_AUTOINSTALL="false", YOLO_CONFIG_DIR=_SETTINGS.name)
    logging.disable(logging.CRITICAL)
    try:
        with np.printoptions():
            yield
    finally:
        logging.disable(level)
        torch.save = save
        os.environ.clear()
        os.environ.update(environment)


with _quietly():
    from ultralytics import __version__ as VERSION
    from ultralytics.cfg import DEFAULT_CFG
    from ultralytics.data.augment import LetterBox
    from ultralytics.nn.modules import block, conv
    from ultralytics.nn.modules.head import Detect, v10Detect
    from ultralytics.nn.tasks import DetectionModel, parse_model
    from ultralytics.utils.tal import make_anchors

__all__ = [
    "DEFAULT_CFG",
    "LAYERS",
    "VERSION",
    "Detect",
    "DetectionModel",
    "LetterBox",
    "make_anchors",
    "parse_model",
    "v10Detect",
]  # fmt: skip

HEADS = ("Detect", "v10Detect")
_OF_TORCH = ("Upsample", "Identity", "MaxPool2d", "AvgPool2d", "ZeroPad2d", "Conv2d", "ConvTranspose2d", "BatchNorm2d")
LAYERS = {*block.__all__, *conv.__all__, *(f"nn.{name}" for name in _OF_TORCH)} - {"TorchVision"}
"""Layers that a model's yaml may name; one of ultralytics' downloads weights, and its parser calls any name."""
