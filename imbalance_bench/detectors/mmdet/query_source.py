"""Passes of mmdet's query detectors over images: the queries of the last decoder layer, with their matched boxes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import get_box_tensor
from mmengine.dataset import BaseDataset
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torchvision.ops import box_convert

from imbalance_bench.classifiers import Classifier
from imbalance_bench.detectors.hosting import HostingLayer
from imbalance_bench.detectors.mmdet.frames import frame_of, read, to_network, to_original
from imbalance_bench.detectors.mmdet.hosted import hosted_layers
from imbalance_bench.detectors.one_classifier import BoxSource
from imbalance_bench.detectors.port import CHOSEN
from imbalance_bench.proposals.proposal_set import ImageProposals
from imbalance_bench.runtime.equality import ByValue


@dataclass(frozen=True, eq=False)
class _Pass(ByValue):
    """An image after the network.

    Attributes:
        sample: what mmdet says of it.
        hidden: (Q, d), what the classifier read.
        logits: (Q, C).
        boxes: (Q, 4) centres and sizes of the last layer, relative to the network's image.
        start: (Q, 4) boxes, or (Q, 2) points, where the decoder starts, relative to the network's image.
    """

    sample: DetDataSample
    hidden: Tensor
    logits: Tensor
    boxes: Tensor
    start: Tensor


@dataclass(frozen=True)
class QuerySource(BoxSource):
    """A query detector in memory (``port.ProposalSource``).

    Attributes:
        model: with a hosted classifier, in evaluation mode.
    """

    model: nn.Module

    @property
    def _layer(self) -> HostingLayer:
        (layer,) = hosted_layers(self.model)
        assert isinstance(layer, HostingLayer)
        return layer

    @property
    def classifiers(self) -> list[Classifier]:
        """The one of the last decoder layer."""
        return [self._layer.fc_cls]

    @property
    def training_rows(self) -> int:
        """All queries of an image."""
        model: Any = self.model
        return int(model.num_queries)

    @torch.no_grad()
    def training_proposals(
        self, images: BaseDataset, batches: Sequence[Sequence[int]], tap: str, seed: int
    ) -> Iterator[list[ImageProposals]]:
        """Yield all queries of each training image, labelled by the model's own assigner; nothing is drawn."""
        for done in self._passes(images, batches):
            yield [self._proposals(done, get_box_tensor(done.sample.gt_instances.bboxes), tap)]

    @torch.no_grad()
    def inference_proposals(
        self, images: BaseDataset, batches: Sequence[Sequence[int]], tap: str
    ) -> Iterator[list[ImageProposals]]:
        """Yield all queries of each image, labelled by the model's own assigner.

        The tap ``port.CHOSEN`` has the boxes that the encoder chose the queries by, and no features.
        """
        for done in self._passes(images, batches):
            # Test pipelines leave boxes in the original image.
            truth = to_network(get_box_tensor(done.sample.gt_instances.bboxes), done.sample)
            yield [self._proposals(done, truth, tap)]

    def _passes(self, images: BaseDataset, batches: Sequence[Sequence[int]]) -> Iterator[_Pass]:
        model: Any = self.model
        hidden: list[Tensor] = []
        start: list[Tensor] = []
        hooks = [
            self._layer.register_forward_pre_hook(lambda _, given: hidden.append(given[0])),
            model.decoder.register_forward_pre_hook(
                lambda _, given, named: start.append(named["reference_points"]), with_kwargs=True
            ),
        ]
        try:
            for inputs, samples in read(model, images, batches):
                hidden.clear()
                start.clear()
                states = model.forward_transformer(model.extract_feat(inputs), samples)
                logits, boxes = model.bbox_head(**states)
                parts = zip(samples, hidden[-1], logits[-1], boxes[-1], start[-1], strict=True)
                yield from (_Pass(*part) for part in parts)
        finally:
            for hook in hooks:
                hook.remove()

    def _proposals(self, done: _Pass, truth: Tensor, tap: str) -> ImageProposals:
        """Return an image's queries.

        Args:
            done: the image.
            truth: (G, 4) its boxes in the network's image.
            tap: the feature.
        """
        model: Any = self.model
        sample = done.sample
        given = InstanceData(bboxes=truth, labels=sample.gt_instances.labels)
        (labels,), *_ = model.bbox_head.get_targets([done.logits], [done.boxes], [given], [sample.metainfo])
        height, width = sample.img_shape[:2]
        relative = done.start if tap == CHOSEN else done.boxes
        boxes = box_convert(relative, "cxcywh", "xyxy") * relative.new_tensor([width, height, width, height])
        return ImageProposals(
            image_id=int(sample.img_id),
            features=done.hidden[:, :1] if tap == CHOSEN else done.hidden,
            labels=labels.cpu(),
            boxes=to_original(boxes, sample).cpu(),
            ground_truth=torch.zeros(len(labels), dtype=torch.bool),
            frame=frame_of(sample),
        )
