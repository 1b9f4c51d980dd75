"""ultralytics' YOLOs behind the port: YOLOv8, 11 and 26, and others whose head is ``Detect``.

A proposal is an anchor point: a point of one of the feature maps (levels), whose features are what the level's last
1 x 1 convolution reads. The convolutions of the levels are the blocks of one classifier. Scores are sigmoids, and
nothing scores background: it is what no class claims.
"""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from imbalance_bench.checkpoints import own as checkpoints
from imbalance_bench.classifiers import Classifier, SigmoidClassifier
from imbalance_bench.detectors.named_state import PREFIX, load_named
from imbalance_bench.detectors.one_classifier import PillowDetector
from imbalance_bench.detectors.port import Export
from imbalance_bench.detectors.sigmoid_heads import refusal_in_maps
from imbalance_bench.detectors.ultralytics import file as files
from imbalance_bench.detectors.ultralytics import hosting
from imbalance_bench.detectors.ultralytics.export import export
from imbalance_bench.detectors.ultralytics.source import KEPT, PointSource
from imbalance_bench.proposals import blocks
from imbalance_bench.proposals.postprocess import Postprocess
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.files import json_text

NMS_IOU, MIN_STRIDE = 0.7, 32
"""ultralytics' own: of suppression, and of the padding of images, where a model's is less."""


def open_file(head: str, checkpoint: Path) -> Yolo:
    """Open the YOLO of a checkpoint.

    Args:
        head: of ``hosting.HEADS``; empty: ``one2many``, which ultralytics predicts with.
        checkpoint: a ``.pt``.

    Raises:
        InputError: an unknown head, or a checkpoint of no YOLO that is served.
    """
    chosen = head or hosting.HEADS[0]
    if chosen not in hosting.HEADS:
        raise InputError(f"option '--model {head}': expected {' or '.join(hosting.HEADS)}, a head of the checkpoint")
    file = files.read(checkpoint)
    return Yolo.of(file, chosen, file.build())


@dataclass(frozen=True)
class Yolo(PillowDetector):
    """A user's YOLO (``port.UserDetector``).

    Attributes:
        file: its checkpoint, without the numbers of tensors.
        head: which of its heads is served.
        model: in evaluation mode.
    """

    file: files.File
    head: str
    model: nn.Module

    pixels = torch.uint8

    proposal_kind = "anchors"
    """What its classifier scores."""

    @classmethod
    def of(cls, file: files.File, head: str, model: Any) -> Yolo:
        """Check a model.

        Raises:
            InputError: it has not this head, or a classifier that is no plain convolution.
        """
        if head == "one2one" and getattr(model.model[-1], "one2one_cv3", None) is None:
            raise InputError(f"option '--model {head}': the model of {file.path} has no such head, expected one2many")
        convolutions = [layers[-1] for layers in hosting.levels(model, head)]
        widths = {conv.in_channels for conv in convolutions if isinstance(conv, nn.Conv2d) and conv.bias is not None}
        if len(widths) != 1 or any(conv.weight[0, 0].numel() != 1 for conv in convolutions):
            raise InputError(
                f"{file.path}: its classifiers are {convolutions}, expected 1 x 1 convolutions with biases, alike"
            )
        return cls(file, head, model)

    @property
    def _levels(self) -> list[Any]:
        return [layers[-1] for layers in hosting.levels(self.model, self.head)]

    @property
    def source(self) -> str:
        """The checkpoint."""
        return str(self.file.path)

    @property
    def name(self) -> str:
        """Name of the file."""
        return re.sub(r"\W+", "-", self.file.path.stem)

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.file.names)

    @property
    def num_blocks(self) -> int:
        """Levels."""
        return len(self._levels)

    @property
    def tap_dims(self) -> dict[str, int]:
        """What the last convolution of a level reads, in its block."""
        return {"fc": blocks.width(self._levels[0].in_channels, self.num_blocks)}

    @property
    def images_at_once(self) -> int:
        """One, as images are padded little, each to a size of its own."""
        return 1

    @property
    def postprocess(self) -> Postprocess:
        """Suppression as ultralytics does it, or none, on all scores, up to 300 detections; boxes are clipped last."""
        return Postprocess(iou_threshold=NMS_IOU if self.head == "one2many" else None, clips=True)

    @property
    def identity(self) -> str:
        """Checksum of yaml, head and size of images."""
        text = json_text([self.file.yaml, self.head, self.file.image_size])
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def notes(self) -> tuple[str, ...]:
        """What is measured, and otherwise than the model itself detects."""
        height, width = self._image_size
        after = f"suppressed at IoU {NMS_IOU}" if self.head == "one2many" else "not suppressed"
        return (
            f"measured on all scores of the head {self.head}, {after}, up to {self.postprocess.max_per_image} "
            f"detections an image of the {KEPT:,} anchor points scored best, in images of at most {width} x {height}; "
            "'yolo val' takes scores above .001, 'yolo predict' above .25 and one class for each anchor point",
        )

    @property
    def _stride(self) -> int:
        model: Any = self.model
        return max(int(model.stride.max()), MIN_STRIDE)

    @property
    def _image_size(self) -> tuple[int, int]:
        height, width = (-(-side // self._stride) * self._stride for side in self.file.image_size)
        return height, width

    def stock_classifier(self, num_classes: int, feature_dim: int) -> SigmoidClassifier:
        """Return untrained sigmoids without background."""
        return SigmoidClassifier(num_classes, feature_dim)

    def refusal(self, classifier: Classifier) -> str | None:
        """Return why a classifier cannot take the place of its convolutions (``sigmoid_heads``)."""
        return refusal_in_maps(classifier)

    def check_weights(self, path: Path) -> Mapping[Any, Any]:
        """Check that a checkpoint is of this model; return the names of its classes, if it has any."""
        names = files.read(path).names
        placeholders = tuple(str(label) for label in range(len(names)))
        return {} if names == placeholders or len(set(names)) < len(names) else {"CLASSES": names}

    def adopt(self, path: Path) -> PointSource:
        """Load the user's checkpoint; the convolutions of all levels become one classifier."""
        model: Any = files.read(path).build()
        found = Yolo.of(self.file, self.head, model)._levels
        weights = torch.stack([conv.weight.detach().flatten(1) for conv in found])
        rows = blocks.join_rows(weights, torch.stack([conv.bias.detach() for conv in found]))
        classifier = self.stock_classifier(self.num_classes, self.tap_dims["fc"])
        classifier.load_state_dict(dict(zip(("weight", "bias"), rows, strict=True)))
        hosting.host(model, classifier, self.head)
        return self._source(model)

    def host(
        self, classifiers: Sequence[Classifier], state: Mapping[str, Tensor], *, stuff: bool = False
    ) -> PointSource:
        """Load a copy of the model with the given classifier."""
        (classifier,) = classifiers
        model = copy.deepcopy(self.model)
        hosting.host(model, copy.deepcopy(classifier), self.head)
        others = {name: value for name, value in state.items() if not checkpoints.is_classifier(name)}
        own = {PREFIX + name: value for name, value in model.state_dict().items() if checkpoints.is_classifier(name)}
        load_named(model, others | own)
        return self._source(model)

    def _source(self, model: nn.Module) -> PointSource:
        return PointSource(model, self.head, self._image_size, self._stride)

    def export(self, checkpoint: Path, class_names: Sequence[str], folder: Path) -> Export:
        """Write a ``.pt`` of ultralytics (``export.export``)."""
        return export(self, checkpoint, folder)
