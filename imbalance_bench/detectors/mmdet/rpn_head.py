"""The RPN head of our own detectors: on a CPU it selects the proposals of all images at once."""

from __future__ import annotations

from typing import Any

import torch
from mmdet.models.dense_heads import RPNHead
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor
from torchvision.ops import nms


@MODELS.register_module()
class AllImagesRPNHead(RPNHead):
    """mmdet's RPN head, with sigmoids and axis-aligned boxes, which gives the same proposals and targets in less time.

    mmdet sorts and decodes image by image, and suppresses the boxes of all levels together, shifted apart, in time
    quadratic in their number.
    """

    @torch.no_grad()
    def predict_by_feat(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        score_factors: list[Tensor] | None = None,
        batch_img_metas: list[dict] | None = None,
        cfg: ConfigDict | None = None,
        rescale: bool = False,
        with_nms: bool = True,
    ) -> list[InstanceData]:
        """Return the proposals of each image, with ``bboxes``, ``scores`` and ``labels`` (0).

        Args:
            cls_scores: of L levels, (B, A, H, W).
            bbox_preds: of L levels, (B, 4 A, H, W).
            score_factors: none.
            batch_img_metas: of B images, with ``img_shape``.
            cfg: nms_pre, nms, max_per_img and min_bbox_size, if not those of the test.
            rescale: as mmdet does it.
            with_nms: True.
        """
        cfg = self.test_cfg if cfg is None else cfg
        if cls_scores[0].is_cuda or rescale or cfg.nms.type != "nms":
            return super().predict_by_feat(
                cls_scores, bbox_preds, score_factors, batch_img_metas, cfg, rescale, with_nms
            )
        sizes = [score.shape[-2:] for score in cls_scores]
        priors = self.prior_generator.grid_priors(sizes, dtype=cls_scores[0].dtype, device=cls_scores[0].device)
        levels = [_best(*level, cfg.nms_pre) for level in zip(cls_scores, bbox_preds, priors, strict=True)]
        scores, deltas, anchors = (torch.cat(parts, dim=1) for parts in zip(*levels, strict=True))
        boxes = self.bbox_coder.decode(anchors.flatten(0, 1), deltas.flatten(0, 1)).view_as(anchors)
        if self.bbox_coder.clip_border:
            limits = boxes.new_tensor([meta["img_shape"][1::-1] for meta in batch_img_metas or []])  # width, height
            boxes = boxes.clamp_(min=0).minimum(limits.repeat(1, 2)[:, None])
        level = torch.cat([torch.full((part.shape[1],), number) for number, (part, *_) in enumerate(levels)])
        return [_proposals(*image, level, cfg) for image in zip(boxes, scores, strict=True)]

    def get_anchors(
        self, featmap_sizes: list[tuple[int, int]], batch_img_metas: list[dict], device: torch.device | str = "cuda"
    ) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
        """Return anchors and valid flags of each image and level; images of equal size share them."""
        shapes = [tuple(meta["pad_shape"][:2]) for meta in batch_img_metas]
        once = {shape: {"pad_shape": shape} for shape in shapes}
        anchors, flags = super().get_anchors(featmap_sizes, list(once.values()), device)
        flags_of = dict(zip(once, flags, strict=True))
        return anchors[:1] * len(shapes), [flags_of[shape] for shape in shapes]

    def _get_targets_single(
        self, flat_anchors: Tensor, valid_flags: Tensor, *args: Any, unmap_outputs: bool = True
    ) -> tuple[Any, ...]:
        """Compute the targets of an image; where all anchors are valid, they need not be put back in their places."""
        some_left_out = self.train_cfg["allowed_border"] >= 0 or not bool(valid_flags.all())
        targets: tuple[Any, ...] = super()._get_targets_single(
            flat_anchors, valid_flags, *args, unmap_outputs=unmap_outputs and some_left_out
        )
        return targets


def _best(scores: Tensor, deltas: Tensor, priors: Tensor, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return scores (B, n), deltas and anchors (B, n, 4) of a level, at most the given number with the best scores."""
    scores = scores.permute(0, 2, 3, 1).flatten(1).sigmoid()
    deltas = deltas.permute(0, 2, 3, 1).reshape(*scores.shape, 4)
    if not 0 < most < scores.shape[1]:
        return scores, deltas, priors.expand_as(deltas)
    scores, order = (part[:, :most] for part in scores.sort(descending=True))
    return scores, deltas.gather(1, order[..., None].expand(-1, -1, 4)), priors[order]


def _proposals(boxes: Tensor, scores: Tensor, level: Tensor, cfg: ConfigDict) -> InstanceData:
    """Suppress the boxes of one image level by level, and take the best."""
    if cfg.get("min_bbox_size", -1) >= 0:
        valid = (boxes[:, 2:] - boxes[:, :2] > cfg.min_bbox_size).all(dim=1)
        if not valid.all():
            boxes, scores, level = boxes[valid], scores[valid], level[valid]
    # Shifted as in mmcv's batched_nms, which rounds them.
    shifted = boxes + (level * (boxes.max() + 1))[:, None] if len(boxes) else boxes
    kept, start = [], 0
    for count in level.bincount().tolist():
        part = slice(start, start + count)
        kept.append(start + nms(shifted[part], scores[part], cfg.nms.iou_threshold))
        start += count
    chosen = torch.cat(kept) if kept else level
    best, order = scores[chosen].sort(descending=True, stable=True)
    chosen, best = chosen[order[: cfg.max_per_img]], best[: cfg.max_per_img]
    return InstanceData(bboxes=boxes[chosen], scores=best, labels=torch.zeros_like(chosen))
