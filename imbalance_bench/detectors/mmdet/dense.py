"""mmdet's dense heads behind the port: RetinaNet, ATSS, FCOS, RTMDet.

A proposal is an anchor: a point of a feature map and one of the A anchor shapes there. Its features are the patch that
the last convolution of the class branch reads. The filters of a class are the blocks of one classifier: one for each
anchor shape, and where levels have convolutions of their own (RTMDet), one for each level. Scores are sigmoids, and
nothing scores background: it is what no class claims. ATSS and FCOS multiply them by a centerness.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.models.task_modules.samplers import PseudoSampler
from mmengine.config import Config
from torch import nn

from imbalance_bench.detectors.mmdet import config_file
from imbalance_bench.detectors.mmdet.dense_source import DenseSource
from imbalance_bench.detectors.mmdet.families import FAMILIES
from imbalance_bench.detectors.mmdet.single_head import SingleHead
from imbalance_bench.proposals import blocks
from imbalance_bench.proposals.postprocess import Postprocess
from imbalance_bench.runtime.errors import InputError


@dataclass(frozen=True)
class DenseDetector(SingleHead):
    """A user's dense detector."""

    proposal_kind = "anchors"
    """What its classifier scores."""

    @classmethod
    def of(cls, path: Path, config: Config, transforms: tuple[dict[str, Any], ...], model: nn.Module) -> DenseDetector:
        """Check a detector.

        Raises:
            InputError: its classifier is no convolution with sigmoids, or what follows the scores is not served.
        """
        detector = cls(path, config, transforms, model)
        for field, found, expected in detector._unserved():
            raise InputError(f"{path}: field 'model.{field}' is {found}, expected {expected}")
        return detector

    def _unserved(self) -> list[tuple[str, str, str]]:
        """Return the fields that are not served: their name, what they are, and what is expected."""
        head = self.head
        found: list[tuple[str, str, str]] = []
        sigmoids = head.use_sigmoid_cls and not getattr(head.loss_cls, "custom_cls_channels", False)
        if not sigmoids:
            found.append(("bbox_head.loss_cls", type(head.loss_cls).__name__, "a sigmoid of each class"))
        if getattr(head, "with_objectness", False):
            found.append(("bbox_head.with_objectness", "True", "False, as mmdet ships RTMDet"))
        for name, layer in self.layers.items():
            plain = type(layer) is nn.Conv2d and {*layer.stride, *layer.dilation, layer.groups} == {1}
            if not plain or layer.bias is None or layer.padding != tuple(side // 2 for side in layer.kernel_size):
                found.append((name, str(layer), "a plain convolution with a bias"))
        if FAMILIES[type(head)].assigns and not head.train_cfg:
            found.append(("train_cfg", "missing", "the settings of the assigner of training proposals"))
        sampler = getattr(head, "sampler", None)
        if sampler is not None and not isinstance(sampler, PseudoSampler):
            found.append(("train_cfg.sampler", type(sampler).__name__, "none, or PseudoSampler"))
        nms = (head.test_cfg or {}).get("nms") or {}
        if nms.get("type") != "nms" or "iou_threshold" not in nms or nms.get("class_agnostic"):
            found.append(("test_cfg.nms", str(dict(nms)), "dict(type='nms', iou_threshold=...)"))
        return found

    @property
    def num_blocks(self) -> int:
        """Anchor shapes at a point, and levels whose convolutions are their own."""
        return int(sum(layer.out_channels for layer in self.layers.values()) // self.num_classes)

    @property
    def tap_dims(self) -> dict[str, int]:
        """The patch that the last convolution reads, in its block."""
        layer = next(iter(self.layers.values()))
        return {"fc": blocks.width(layer.weight[0].numel(), self.num_blocks)}

    @property
    def images_at_once(self) -> int:
        """Images of the pipeline's size in one pass."""
        return self.at_once(config_file.pixels_of(self.transforms))

    @property
    def postprocess(self) -> Postprocess:
        """The model's own suppression, on all scores and up to 300 detections, as every detector is measured.

        mmdet leaves out boxes whose sides are not above ``min_bbox_size``.
        """
        settings = self.head.test_cfg
        least = settings.get("min_bbox_size", -1)
        sides = float(np.nextafter(np.float32(least), np.float32(np.inf))) if least >= 0 else 0.0
        return Postprocess(iou_threshold=settings["nms"]["iou_threshold"], min_size=sides)

    @property
    def test_settings(self) -> dict[str, Any]:
        """All scores, up to 300 detections; pairs of a level before suppression stay as many as the user's."""
        return {"score_thr": 0.0, "max_per_img": self.postprocess.max_per_image}

    @property
    def notes(self) -> tuple[str, ...]:
        """What is measured otherwise than the model itself detects."""
        own = self.head.test_cfg
        return (
            f"measured on all scores of the anchors that are kept, up to {self.postprocess.max_per_image} detections "
            f"an image; the model itself keeps {own.get('max_per_img')} with scores above {own.get('score_thr', 0):g}",
        )

    def chooses_by(self, names: list[str]) -> bool:
        """Return False: no encoder chooses anything by these layers."""
        return False

    def source_of(self, model: nn.Module) -> DenseSource:
        """Return a hosted model as a source of anchors."""
        return DenseSource(model)
