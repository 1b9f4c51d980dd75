"""Passes of a frozen detector over images: its proposals, their features and labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from mmdet.models.detectors import TwoStageDetector
from mmdet.models.task_modules.assigners import MaxIoUAssigner
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox2roi, get_box_tensor, scale_boxes
from mmengine.structures import InstanceData
from torch import Tensor

from imbalance_bench.detectors.bbox_head import branch_features
from imbalance_bench.errors import InputError
from imbalance_bench.seeds import epoch_seed

ACCURACY_ASSIGNER = {"pos_iou_thr": 0.5, "neg_iou_thr": 0.5, "min_pos_iou": 0.5, "match_low_quality": True}
"""Labels of test-time proposals: the matched box at IoU >= .5, each box's best proposal forced onto it."""


@dataclass(frozen=True)
class ImageProposals:
    """Proposals of one image: (P, d) features of a tap, (P,) labels, (P, 4) boxes, (P,) is-ground-truth."""

    image_id: int
    features: Tensor
    labels: Tensor
    boxes: Tensor
    ground_truth: Tensor


def check_cacheable(detector: TwoStageDetector) -> None:
    """Whether proposals of this detector can be cached.

    Raises:
        InputError: not a two-stage detector with one box head and a class-agnostic box regressor.
    """
    head = getattr(getattr(detector, "roi_head", None), "bbox_head", None)
    if head is None or isinstance(head, torch.nn.ModuleList):
        raise InputError(f"{type(detector).__name__}: expected a two-stage detector with a single box head")
    if not head.reg_class_agnostic:
        raise InputError("field 'reg_class_agnostic' of the box head is False, expected a class-agnostic regressor")


@torch.no_grad()
def training_proposals(
    detector: TwoStageDetector, batches: Iterable[dict], tap: str, seed: int
) -> Iterator[ImageProposals]:
    """Sampled training RoIs, image by image, as the detector's training would draw them.

    Training-time RPN settings, assigner and sampler, ground truth added as the sampler is configured; modules in
    evaluation mode. Which RoIs of an image are sampled depends on ``seed`` and the image alone.

    Args:
        detector: in evaluation mode.
        batches: of the data loader.
        tap: which features.
        seed: of the sampler.
    """
    roi_head = detector.roi_head
    for inputs, samples in _preprocessed(detector, batches):
        pyramid = detector.extract_feat(inputs)
        proposals = detector.rpn_head.predict_by_feat(
            *detector.rpn_head(pyramid),
            batch_img_metas=[sample.metainfo for sample in samples],
            cfg=detector.train_cfg.rpn_proposal,
        )
        sampled = []
        for sample, proposal in zip(samples, proposals, strict=True):
            proposal.priors = proposal.pop("bboxes")
            assigned = roi_head.bbox_assigner.assign(proposal, sample.gt_instances, sample.ignored_instances)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(epoch_seed(seed, int(sample.img_id)))
                sampled.append(roi_head.bbox_sampler.sample(assigned, proposal, sample.gt_instances))
        rois = bbox2roi([result.priors for result in sampled])
        features, boxes = _features_and_boxes(detector, pyramid, rois, tap)
        start = 0
        for sample, result in zip(samples, sampled, strict=True):
            positives, total = len(result.pos_priors), len(result.priors)
            labels = torch.full((total,), roi_head.bbox_head.num_classes, dtype=torch.long, device=rois.device)
            labels[:positives] = result.pos_gt_labels
            ground_truth = torch.zeros(total, dtype=torch.bool, device=rois.device)
            ground_truth[:positives] = result.pos_is_gt.bool()
            rows = slice(start, start + total)
            start += total
            yield ImageProposals(
                int(sample.img_id), features[rows], labels, _to_original(boxes[rows], sample), ground_truth
            )


@torch.no_grad()
def test_proposals(detector: TwoStageDetector, batches: Iterable[dict], tap: str) -> Iterator[ImageProposals]:
    """All test-time proposals, image by image, with the label that proposal accuracy is measured against.

    No ground truth added, no sampling (reference: section 5.2's ACC).
    """
    assigner = MaxIoUAssigner(**ACCURACY_ASSIGNER)
    background = detector.roi_head.bbox_head.num_classes
    for inputs, samples in _preprocessed(detector, batches):
        pyramid = detector.extract_feat(inputs)
        proposals = detector.rpn_head.predict(pyramid, samples, rescale=False)
        rois = bbox2roi([proposal.bboxes for proposal in proposals])
        features, boxes = _features_and_boxes(detector, pyramid, rois, tap)
        start = 0
        for sample, proposal in zip(samples, proposals, strict=True):
            # Test pipelines leave ground truth in the original image; so the proposals are taken there.
            priors = InstanceData(priors=_to_original(get_box_tensor(proposal.bboxes), sample))
            assigned = assigner.assign(priors, sample.gt_instances)
            labels = torch.where(assigned.gt_inds > 0, assigned.labels, background)
            rows = slice(start, start + len(labels))
            start += len(labels)
            none = torch.zeros(len(labels), dtype=torch.bool)
            yield ImageProposals(int(sample.img_id), features[rows], labels, _to_original(boxes[rows], sample), none)


def _preprocessed(detector: TwoStageDetector, batches: Iterable[dict]) -> Iterator[tuple[Tensor, list[DetDataSample]]]:
    for batch in batches:
        data = detector.data_preprocessor(batch, training=False)
        yield data["inputs"], data["data_samples"]


def _features_and_boxes(
    detector: TwoStageDetector, pyramid: tuple[Tensor, ...], rois: Tensor, tap: str
) -> tuple[Tensor, Tensor]:
    """(P, d) features of a tap and (P, 4) regressed boxes, not yet clipped, in the network's image."""
    roi_head, head = detector.roi_head, detector.roi_head.bbox_head
    pooled = roi_head.bbox_roi_extractor(pyramid[: roi_head.bbox_roi_extractor.num_inputs], rois)
    taps = branch_features(head, pooled)
    boxes = head.bbox_coder.decode(rois[:, 1:], head.fc_reg(taps["reg"]))
    return taps[tap], get_box_tensor(boxes)


def _to_original(boxes: Tensor, sample: DetDataSample) -> Tensor:
    """Clip to the network's image and scale back, in the order of mmdet's box head."""
    height, width = sample.img_shape[:2]
    limit = boxes.new_tensor([width, height, width, height])
    boxes = boxes.clamp(min=0).minimum(limit)
    return scale_boxes(boxes, [1 / factor for factor in sample.scale_factor])
