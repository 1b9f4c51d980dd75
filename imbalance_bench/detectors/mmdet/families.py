"""mmdet's dense heads that are served: where their classifier is, and which points their own assigner gives a box."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmdet.models.dense_heads import ATSSHead, FCOSHead, RetinaHead, RTMDetHead, RTMDetSepBNHead
from mmdet.models.utils import unpack_gt_instances
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import distance2bbox
from torch import Tensor, nn

Outputs = Sequence[Sequence[Tensor]]
"""Of a dense head: of each level logits (N, A C, H, W), boxes as the head codes them, and a quality if it has one."""
Targets = tuple[list[Tensor], list[Tensor] | None]
"""Of each level the (N, n) labels that a loss trains towards, background = C, and their weights, if it has them."""


@dataclass(frozen=True)
class Family:
    """What differs between the dense heads.

    Attributes:
        classifier: name of the last convolution of the head's class branch, or of a list of them, one a level.
        targets: (head, outputs, samples) -> the targets of the head's own loss; boxes are in the network's images.
        assigns: the head has an assigner, which ``train_cfg`` configures.
    """

    classifier: str
    targets: Callable[[Any, Outputs, list[DetDataSample]], Targets]
    assigns: bool = True


def _anchors(head: Any, outputs: Outputs, samples: list[DetDataSample]) -> tuple[Any, ...]:
    """Return anchors, which of them are within an image, boxes, images' shapes and crowd regions, as losses do."""
    boxes, ignored, shapes = unpack_gt_instances(samples)
    sizes = [level.shape[-2:] for level in outputs[0]]
    anchors, inside = head.get_anchors(sizes, shapes, device=outputs[0][0].device)
    return anchors, inside, boxes, shapes, ignored


def _retina(head: Any, outputs: Outputs, samples: list[DetDataSample]) -> Targets:
    labels, weights, *_ = head.get_targets(*_anchors(head, outputs, samples))
    return labels, weights


def _atss(head: Any, outputs: Outputs, samples: list[DetDataSample]) -> Targets:
    _, labels, weights, *_ = head.get_targets(*_anchors(head, outputs, samples))
    return labels, weights


def _rtmdet(head: Any, outputs: Outputs, samples: list[DetDataSample]) -> Targets:
    """RTMDet's assigner looks at the model's own scores and boxes."""
    anchors, inside, *rest = _anchors(head, outputs, samples)
    boxes = [distance2bbox(points, own) for points, own in zip(anchors[0], by_point(outputs[1], 4), strict=True)]
    logits = torch.cat(by_point(outputs[0], head.cls_out_channels), dim=1)
    _, labels, weights, *_ = head.get_targets(logits, torch.cat(boxes, dim=1), anchors, inside, *rest)
    return labels, weights


def _fcos(head: Any, outputs: Outputs, samples: list[DetDataSample]) -> Targets:
    """FCOS has no assigner, and trains on all points."""
    boxes, _, _ = unpack_gt_instances(samples)
    sizes, first = [level.shape[-2:] for level in outputs[0]], outputs[0][0]
    points = head.prior_generator.grid_priors(sizes, dtype=first.dtype, device=first.device)
    labels, _ = head.get_targets(points, boxes)
    return [level.unflatten(0, (len(samples), -1)) for level in labels], None


FAMILIES: dict[type[nn.Module], Family] = {
    RetinaHead: Family("retina_cls", _retina),
    ATSSHead: Family("atss_cls", _atss),
    FCOSHead: Family("conv_cls", _fcos, assigns=False),
    RTMDetHead: Family("rtm_cls", _rtmdet),
    RTMDetSepBNHead: Family("rtm_cls", _rtmdet),
}
"""By the class of the head itself: those that are derived from them score or train otherwise."""


def by_point(maps: Sequence[Tensor], width: int) -> list[Tensor]:
    """Return maps (N, A width, H, W) as (N, n, width) rows: anchor after anchor of a point, point after point."""
    return [level.movedim(1, -1).reshape(len(level), -1, width) for level in maps]


def matched(family: Family, head: Any, outputs: Outputs, samples: list[DetDataSample]) -> Tensor:
    """Return the (N, n) label of each point's box by the head's own assigner; -1: no box, -2: not trained on."""
    levels, weights = family.targets(head, outputs, samples)
    labels = torch.cat(levels, dim=1)
    trained = torch.ones_like(labels, dtype=torch.bool) if weights is None else torch.cat(weights, dim=1) > 0
    return torch.where(labels < head.num_classes, labels, torch.where(trained, -1, -2))
