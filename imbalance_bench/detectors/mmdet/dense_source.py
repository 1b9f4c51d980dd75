"""Passes of mmdet's dense detectors over images: their anchors, with patches of features and labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import get_box_tensor, scale_boxes
from mmengine.dataset import BaseDataset
from torch import Tensor, nn

from imbalance_bench.classifiers import Classifier
from imbalance_bench.detectors.assignment import assigned_labels
from imbalance_bench.detectors.dense_sampling import TRAINING_ROWS, candidates, sampled
from imbalance_bench.detectors.hosting import HostingConv
from imbalance_bench.detectors.mmdet.families import FAMILIES, Outputs, by_point, matched
from imbalance_bench.detectors.mmdet.frames import frame_of, read
from imbalance_bench.detectors.mmdet.hosted import hosted_layers
from imbalance_bench.detectors.one_classifier import BoxSource
from imbalance_bench.detectors.patches import patches
from imbalance_bench.proposals.proposal_set import ImageProposals
from imbalance_bench.runtime.equality import ByValue


@dataclass(frozen=True, eq=False)
class _Pass(ByValue):
    """Images after the network, with n anchors each.

    Attributes:
        samples: what mmdet says of each image.
        maps: of each level, the (N, channels, H, W) features that the last convolution reads.
        outputs: of the head.
        anchors: (n, 4), or (n, 2) points.
        scores: (N, n, C), sigmoids.
        deltas: (N, n, 4), boxes as the head codes them.
        quality: (N, n), what scores are multiplied by; None: nothing.
    """

    samples: list[DetDataSample]
    maps: list[Tensor]
    outputs: Outputs
    anchors: Tensor
    scores: Tensor
    deltas: Tensor
    quality: Tensor | None


@dataclass(frozen=True)
class DenseSource(BoxSource):
    """A dense detector in memory (``port.ProposalSource``).

    Attributes:
        model: with a hosted classifier, in evaluation mode.
    """

    model: nn.Module

    @property
    def _head(self) -> Any:
        return self.model.bbox_head

    @property
    def _layers(self) -> list[HostingConv]:
        return hosted_layers(self.model)

    @property
    def classifiers(self) -> list[Classifier]:
        """The one in the head."""
        return [self._layers[0].fc_cls]

    @property
    def training_rows(self) -> int:
        """Anchors that are kept of a training image, at most."""
        return TRAINING_ROWS

    @torch.no_grad()
    def training_proposals(
        self, images: BaseDataset, batches: Sequence[Sequence[int]], tap: str, seed: int
    ) -> Iterator[list[ImageProposals]]:
        """Yield anchors of each training image, labelled by the head's own assigner (``dense_sampling``).

        Anchors that it leaves out of training are left out.
        """
        for done in self._passes(images, batches):
            found = matched(FAMILIES[type(self._head)], self._head, done.outputs, done.samples).cpu()
            for number, sample in enumerate(done.samples):
                rows = sampled(found[number], self._best(done, number).cpu(), seed, int(sample.img_id))
                label = found[number][rows]
                yield [self._proposals(done, number, rows, torch.where(label < 0, self._head.num_classes, label))]

    @torch.no_grad()
    def inference_proposals(
        self, images: BaseDataset, batches: Sequence[Sequence[int]], tap: str
    ) -> Iterator[list[ImageProposals]]:
        """Yield the anchors of each image that may become detections, labelled by their decoded boxes."""
        settings = self._head.test_cfg
        for done in self._passes(images, batches):
            for number, sample in enumerate(done.samples):
                scores, best = done.scores[number], self._best(done, number)
                threshold, most = settings.get("score_thr", 0), settings.get("nms_pre", -1)
                most = most if most > 0 else scores.numel()
                rows = candidates(scores, best, self._sizes(done), threshold, most).cpu()
                truth = sample.gt_instances
                boxes = self._boxes(done, number, rows)
                labels = assigned_labels(
                    boxes, get_box_tensor(truth.bboxes).cpu(), truth.labels.cpu(), self._head.num_classes
                )
                yield [self._proposals(done, number, rows, labels)]

    def _passes(self, images: BaseDataset, batches: Sequence[Sequence[int]]) -> Iterator[_Pass]:
        model: Any = self.model
        maps: list[Tensor] = []
        hooks = [layer.register_forward_pre_hook(lambda _, given: maps.append(given[0])) for layer in self._layers]
        try:
            for inputs, samples in read(model, images, batches):
                maps.clear()
                outputs = self._head(model.extract_feat(inputs))
                sizes, first = [level.shape[-2:] for level in outputs[0]], outputs[0][0]
                anchors = self._head.prior_generator.grid_priors(sizes, dtype=first.dtype, device=first.device)
                logits, deltas, *quality = (
                    torch.cat(by_point(kind, width), dim=1)
                    for kind, width in zip(outputs, (self._head.num_classes, 4, 1), strict=False)
                )
                yield _Pass(
                    samples, list(maps), outputs, torch.cat([get_box_tensor(level) for level in anchors]),
                    logits.sigmoid(), deltas, quality[0][..., 0].sigmoid() if quality else None,
                )  # fmt: skip
        finally:
            for hook in hooks:
                hook.remove()

    @staticmethod
    def _best(done: _Pass, number: int) -> Tensor:
        """Return the (n,) best score of an image's anchors, as they become detections."""
        best = done.scores[number].amax(dim=1)
        return best if done.quality is None else best * done.quality[number]

    def _sizes(self, done: _Pass) -> list[int]:
        """Return the number of anchors of each level."""
        return [level.shape[2] * level.shape[3] * self._layers[0].num_anchors for level in done.maps]

    def _boxes(self, done: _Pass, number: int, rows: Tensor) -> Tensor:
        """Return the (R, 4) boxes of some anchors in the original image, clipped before."""
        sample = done.samples[number]
        coder, anchors = self._head.bbox_coder, done.anchors[rows]
        boxes = get_box_tensor(coder.decode(anchors, done.deltas[number][rows], max_shape=sample.img_shape))
        return scale_boxes(boxes, [1 / factor for factor in sample.scale_factor]).cpu()

    def _proposals(self, done: _Pass, number: int, rows: Tensor, labels: Tensor) -> ImageProposals:
        layer = self._layers[0]
        shapes = layer.num_anchors
        block = rows % shapes
        if len(self._layers) > 1:
            ends = torch.tensor(self._sizes(done)).cumsum(0)
            block = block + shapes * torch.bucketize(rows, ends, right=True)
        return ImageProposals(
            image_id=int(done.samples[number].img_id),
            features=patches([level[number] for level in done.maps], layer.kernel_size, shapes, rows),
            labels=labels,
            boxes=self._boxes(done, number, rows),
            ground_truth=torch.zeros(len(rows), dtype=torch.bool),
            frame=frame_of(done.samples[number]),
            block=block if layer.count > 1 else None,
            quality=None if done.quality is None else done.quality[number][rows],
        )
