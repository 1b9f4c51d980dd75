"""mmdet's two-stage detectors behind the port: images -> features, boxes and labels of their proposals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from mmdet.models.detectors import TwoStageDetector
from mmdet.structures.mask import encode_mask_results
from mmengine.dataset import BaseDataset, pseudo_collate
from torch import Tensor
from torch.utils.data import DataLoader

from imbalance_bench.classifiers import Classifier
from imbalance_bench.detectors.mmdet.building import build_detector, load_features
from imbalance_bench.detectors.mmdet.class_boxes import ClassBoxes
from imbalance_bench.detectors.mmdet.masks import predict_masks
from imbalance_bench.detectors.mmdet.passes import box_heads, check_cacheable, inference_proposals, training_proposals
from imbalance_bench.detectors.one_classifier import ModelSource
from imbalance_bench.proposals.postprocess import BoxesOfPairs
from imbalance_bench.proposals.proposal_set import ImageProposals
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.progress import logged_to

if TYPE_CHECKING:
    from imbalance_bench.detectors.mmdet.detector import Detector


@dataclass(frozen=True)
class TwoStageSource(ModelSource):
    """A two-stage detector in memory (``port.ProposalSource``).

    Attributes:
        detector: its record.
        model: with hosted classifiers.
    """

    detector: Detector
    model: TwoStageDetector

    @property
    def classifiers(self) -> list[Classifier]:
        """Those in the box heads, one a stage."""
        return [head.fc_cls for head in box_heads(self.model)]

    @property
    def training_rows(self) -> int:
        """RoIs that the first stage's sampler takes of an image."""
        samplers = self.model.roi_head.bbox_sampler
        return int((samplers if isinstance(samplers, list) else [samplers])[0].num)

    def training_proposals(
        self, images: Any, batches: Sequence[Sequence[int]], tap: str, seed: int
    ) -> Iterator[list[ImageProposals]]:
        """Yield sampled training RoIs (``passes.training_proposals``)."""
        return training_proposals(self._for_passes(), loader(self.detector, images, batches), tap, seed)

    def inference_proposals(
        self, images: Any, batches: Sequence[Sequence[int]], tap: str
    ) -> Iterator[list[ImageProposals]]:
        """Yield the RPN's proposals at test time (``passes.inference_proposals``)."""
        return inference_proposals(self._for_passes(), loader(self.detector, images, batches), tap)

    def _for_passes(self) -> TwoStageDetector:
        check_cacheable(self.model)
        return self.model.to(memory_format=torch.channels_last)

    def class_boxes(self, features: Tensor, proposals: Tensor, frame: Tensor) -> BoxesOfPairs:
        """Return the decoder of class-specific boxes (``class_boxes.ClassBoxes``)."""
        return self._class_boxes.of_image(features, proposals, frame)

    @cached_property
    def _class_boxes(self) -> ClassBoxes:
        return ClassBoxes(box_heads(self.model)[0])

    def masks(
        self, images: Any, detections_of: Callable[[int], tuple[Tensor, Tensor]]
    ) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        """Yield the masks that the mask branch gives detections (``masks.predict_masks``)."""
        for image_id, masks in predict_masks(self.model, loader(self.detector, images), detections_of):
            yield image_id, encode_mask_results(masks)


def loader(detector: Detector, images: BaseDataset, batches: Sequence[Sequence[int]] | None = None) -> DataLoader:
    """Load images in order, for inference: all, or ``batches`` of their positions."""
    batched: dict[str, Any] = {"batch_size": detector.images_at_once}
    return DataLoader(
        images,
        **(batched if batches is None else {"batch_sampler": batches}),
        num_workers=detector.num_workers,
        collate_fn=pseudo_collate,
    )


def host(
    detector: Detector, classifiers: Sequence[Classifier], state: Mapping[str, Tensor], *, stuff: bool = False
) -> TwoStageSource:
    """Build a detector with the given classifiers, in evaluation mode.

    Args:
        detector: its record.
        classifiers: one a stage.
        state: all other tensors.
        stuff: the detector has a semantic branch.

    Raises:
        InputError: the tensors are not of this detector; the message is the reason.
    """
    with logged_to(None):
        model = build_detector(detector, classifiers, stuff=stuff)
        try:
            load_features(model, state)
        except RuntimeError as error:
            raise InputError(str(error)) from error
    return TwoStageSource(detector, model.eval())
