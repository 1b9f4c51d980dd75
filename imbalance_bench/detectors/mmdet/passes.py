"""Passes of a frozen detector over images: its proposals, their features and labels, at every stage of a cascade."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import torch
from mmdet.models.detectors import TwoStageDetector
from mmdet.models.roi_heads import CascadeRoIHead, StandardRoIHead
from mmdet.models.roi_heads.bbox_heads import ConvFCBBoxHead
from mmdet.models.task_modules.assigners import MaxIoUAssigner
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox2roi, get_box_tensor
from mmengine.structures import InstanceData
from torch import Tensor, nn

from imbalance_bench.detectors.mmdet.bbox_head import branch_features
from imbalance_bench.detectors.mmdet.frames import clipped, frame_of, preprocessed, to_original
from imbalance_bench.proposals.proposal_set import ImageProposals
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.seeds import epoch_seed

ACCURACY_ASSIGNER = {"pos_iou_thr": 0.5, "neg_iou_thr": 0.5, "min_pos_iou": 0.5, "match_low_quality": True}
"""Labels of test-time proposals: the matched box at IoU >= .5, each box's best proposal forced onto it."""


def box_heads(detector: TwoStageDetector) -> list[ConvFCBBoxHead]:
    """Return the box heads: one for each stage of a cascade, else one."""
    head = detector.roi_head.bbox_head
    return list(head) if isinstance(head, nn.ModuleList) else [head]


def check_cacheable(detector: nn.Module) -> None:
    """Check that proposals of this detector can be cached.

    Raises:
        InputError: not a two-stage detector with mmdet's standard or cascade RoI head, or a box regressor that reads
            other features than the classifier while it is class-specific.
    """
    roi_head = getattr(detector, "roi_head", None)
    if not isinstance(roi_head, (StandardRoIHead, CascadeRoIHead)):
        raise InputError(
            f"{type(detector).__name__}: expected a two-stage detector with a standard, cascade or HTC RoI head"
        )
    for head in box_heads(detector):
        if not head.reg_class_agnostic and (len(head.cls_fcs) or len(head.reg_fcs) or not len(head.shared_fcs)):
            raise InputError(
                "field 'reg_class_agnostic' of the box head is False, expected a class-agnostic regressor, or one that "
                "reads the classifier's own features"
            )


@torch.no_grad()
def training_proposals(
    detector: TwoStageDetector, batches: Iterable[dict], tap: str, seed: int
) -> Iterator[list[ImageProposals]]:
    """Yield sampled training RoIs for each image and stage, as the detector's training would draw them.

    Training-time RPN settings, assigner and sampler, ground truth added as the sampler is configured; modules in
    evaluation mode. Which RoIs of an image are sampled depends on ``seed``, the image and the stage alone.

    Args:
        detector: in evaluation mode.
        batches: of the data loader.
        tap: which features.
        seed: of the sampler.

    Yields:
        One ImageProposals a stage.
    """
    for inputs, samples in preprocessed(detector, batches):
        pyramid = detector.extract_feat(inputs)
        semantic = _semantic_features(detector, pyramid)
        proposals = detector.rpn_head.predict_by_feat(
            *detector.rpn_head(pyramid),
            batch_img_metas=[sample.metainfo for sample in samples],
            cfg=detector.train_cfg.rpn_proposal,
        )
        boxes = [get_box_tensor(proposal.bboxes) for proposal in proposals]
        images: list[list[ImageProposals]] = [[] for _ in samples]
        for stage, head in enumerate(box_heads(detector)):
            sampled = [_sample(detector, stage, box, sample, seed) for box, sample in zip(boxes, samples, strict=True)]
            rois = bbox2roi([result.priors for result in sampled])
            features, refined = _features_and_boxes(detector, stage, pyramid, semantic, rois, tap)
            rows = [len(result.priors) for result in sampled]
            for number, (sample, result, feature, box) in enumerate(
                zip(samples, sampled, features.split(rows), refined.split(rows), strict=True)
            ):
                positives = len(result.pos_priors)
                labels = torch.full((len(feature),), head.num_classes, dtype=torch.long, device=rois.device)
                labels[:positives] = result.pos_gt_labels
                ground_truth = torch.zeros(len(feature), dtype=torch.bool, device=rois.device)
                ground_truth[:positives] = result.pos_is_gt.bool()
                images[number].append(
                    ImageProposals(int(sample.img_id), feature, labels, box, ground_truth, frame_of(sample))
                )
                # The next stage starts from the refined proposals; ground truth is added there again.
                boxes[number] = clipped(box, sample)[~ground_truth]
        yield from _in_original_frame(detector, images, samples)


@torch.no_grad()
def inference_proposals(
    detector: TwoStageDetector, batches: Iterable[dict], tap: str
) -> Iterator[list[ImageProposals]]:
    """Yield all test-time proposals for each image and stage, with the labels for accuracy.

    No ground truth added, no sampling (reference: section 5.2's ACC). Labels are those of the RPN's proposals at
    every stage, whose rows are the same proposals, refined.

    Yields:
        One ImageProposals a stage.
    """
    assigner = MaxIoUAssigner(**ACCURACY_ASSIGNER)
    background = box_heads(detector)[0].num_classes
    for inputs, samples in preprocessed(detector, batches):
        pyramid = detector.extract_feat(inputs)
        semantic = _semantic_features(detector, pyramid)
        proposals = detector.rpn_head.predict(pyramid, samples, rescale=False)
        boxes = [get_box_tensor(proposal.bboxes) for proposal in proposals]
        labels = []
        for sample, box in zip(samples, boxes, strict=True):
            # Test pipelines leave ground truth in the original image; so the proposals are taken there.
            assigned = assigner.assign(InstanceData(priors=to_original(box, sample)), sample.gt_instances)
            labels.append(torch.where(assigned.gt_inds > 0, assigned.labels, background))
        images: list[list[ImageProposals]] = [[] for _ in samples]
        for stage in range(len(box_heads(detector))):
            features, refined = _features_and_boxes(detector, stage, pyramid, semantic, bbox2roi(boxes), tap)
            rows = [len(box) for box in boxes]
            for number, (sample, feature, box) in enumerate(
                zip(samples, features.split(rows), refined.split(rows), strict=True)
            ):
                none = torch.zeros(len(feature), dtype=torch.bool)
                images[number].append(
                    ImageProposals(int(sample.img_id), feature, labels[number], box, none, frame_of(sample))
                )
                boxes[number] = clipped(box, sample)
        yield from _in_original_frame(detector, images, samples)


def _sample(detector: TwoStageDetector, stage: int, boxes: Tensor, sample: DetDataSample, seed: int) -> InstanceData:
    """Sample the training RoIs of one image from its proposals, with a separate random generator."""
    roi_head = detector.roi_head
    assigner, sampler = roi_head.bbox_assigner, roi_head.bbox_sampler
    if isinstance(assigner, list):
        assigner, sampler = assigner[stage], sampler[stage]
    proposals = InstanceData(priors=boxes)
    assigned = assigner.assign(proposals, sample.gt_instances, sample.ignored_instances)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(epoch_seed(seed, int(sample.img_id)) + stage)
        return sampler.sample(assigned, proposals, sample.gt_instances)


def _features_and_boxes(
    detector: TwoStageDetector, stage: int, pyramid: tuple[Tensor, ...], semantic: Tensor | None, rois: Tensor, tap: str
) -> tuple[Tensor, Tensor]:
    """Return (P, d) features of a tap, and (P, 4) boxes in the network's image.

    The boxes are regressed, but not yet clipped, if the regressor is class-agnostic; else they are the proposals.
    """
    roi_head, head = detector.roi_head, box_heads(detector)[stage]
    extractors: Any = roi_head.bbox_roi_extractor
    extractor: Any = extractors[stage] if isinstance(extractors, nn.ModuleList) else extractors
    pooled = extractor(pyramid[: extractor.num_inputs], rois)
    if semantic is not None and "bbox" in roi_head.semantic_fusion:
        fused = roi_head.semantic_roi_extractor([semantic], rois)
        pooled = pooled + nn.functional.adaptive_avg_pool2d(fused, pooled.shape[-2:])
    taps = branch_features(head, pooled)
    boxes = rois[:, 1:]
    if head.reg_class_agnostic:
        boxes = get_box_tensor(head.bbox_coder.decode(boxes, head.fc_reg(taps["reg"])))
    return taps[tap].flatten(1), boxes


def _semantic_features(detector: TwoStageDetector, pyramid: tuple[Tensor, ...]) -> Tensor | None:
    """Return the features of Hybrid Task Cascade's semantic branch; None if there is none."""
    return detector.roi_head.semantic_head(pyramid)[1] if getattr(detector.roi_head, "with_semantic", False) else None


def _in_original_frame(
    detector: TwoStageDetector, images: list[list[ImageProposals]], samples: list[DetDataSample]
) -> Iterator[list[ImageProposals]]:
    for stages, sample in zip(images, samples, strict=True):
        yield [
            replace(part, boxes=to_original(part.boxes, sample)) if head.reg_class_agnostic else part
            for part, head in zip(stages, box_heads(detector), strict=True)
        ]
