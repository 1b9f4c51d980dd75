"""Passes of torchvision's dense detectors over images: their anchors, with patches of features and labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import clip_boxes_to_image

from imbalance_bench.classifiers import Classifier
from imbalance_bench.detectors.assignment import assigned_labels
from imbalance_bench.detectors.dense_sampling import TRAINING_ROWS, background_unless, candidates, sampled
from imbalance_bench.detectors.one_classifier import BoxSource
from imbalance_bench.detectors.patches import patches
from imbalance_bench.detectors.pillow_images import Batch, Images
from imbalance_bench.detectors.torchvision.scales import scales
from imbalance_bench.proposals.postprocess import Postprocess
from imbalance_bench.proposals.proposal_set import ImageProposals
from imbalance_bench.runtime.equality import ByValue


@dataclass(frozen=True, eq=False)
class _Pass(ByValue):
    """A batch after the network.

    Attributes:
        batch: its images.
        inputs: the network's images.
        maps: of each level, the (N, channels, H, W) features that the last convolution reads.
        outputs: of the head: ``cls_logits`` (N, n, C), ``bbox_regression`` (N, n, 4), of FCOS ``bbox_ctrness`` too.
        anchors: (n, 4) of each image.
        features: of the backbone, whose sizes are those of the levels.
    """

    batch: Batch
    inputs: ImageList
    maps: list[Tensor]
    outputs: dict[str, Tensor]
    anchors: list[Tensor]

    @property
    def sizes(self) -> list[int]:
        """Anchors of each level."""
        points = [level.shape[2] * level.shape[3] for level in self.maps]
        shapes = self.outputs["cls_logits"].shape[1] // sum(points)
        return [count * shapes for count in points]


@dataclass(frozen=True)
class DenseSource(BoxSource):
    """A dense detector in memory (``port.ProposalSource``).

    Attributes:
        model: with a hosted classifier, in evaluation mode.
        own_postprocess: what the model itself does with scores.
    """

    model: RetinaNet | FCOS
    own_postprocess: Postprocess

    @property
    def _logits(self) -> Any:
        return self.model.head.classification_head.cls_logits

    @property
    def classifiers(self) -> list[Classifier]:
        """The one in the head."""
        return [self._logits.fc_cls]

    @property
    def training_rows(self) -> int:
        """Anchors that are kept of a training image, at most."""
        return TRAINING_ROWS

    @torch.no_grad()
    def training_proposals(
        self, images: Images, batches: Sequence[Sequence[int]], tap: str, seed: int
    ) -> Iterator[list[ImageProposals]]:
        """Yield anchors of each training image, labelled by the model's own matcher (``dense_sampling``).

        Anchors that the matcher leaves out of training, between its thresholds, are left out.
        """
        for done in self._passes(images, batches):
            for number, matched in enumerate(self._matched(done)):
                best = self._scores(done, number).amax(dim=1).cpu()
                rows = sampled(matched, best, seed, done.batch.ids[number])
                labels = background_unless(matched[rows], done.batch.labels[number], self.classifiers[0].num_classes)
                yield [self._proposals(done, number, rows, labels)]

    @torch.no_grad()
    def inference_proposals(
        self, images: Images, batches: Sequence[Sequence[int]], tap: str
    ) -> Iterator[list[ImageProposals]]:
        """Yield the anchors of each image that may become detections, labelled by their decoded boxes."""
        for done in self._passes(images, batches):
            for number, scale in enumerate(scales(done.batch, done.inputs)):
                scores, threshold = self._scores(done, number), self.own_postprocess.score_threshold
                best, most = scores.amax(dim=1), self.model.topk_candidates
                rows = candidates(scores, best, done.sizes, threshold, most).cpu()
                boxes = self._boxes(done, number, rows).cpu() / scale.repeat(2)
                truth, labels = done.batch.boxes[number], done.batch.labels[number]
                labels = assigned_labels(boxes, truth, labels, self.classifiers[0].num_classes)
                yield [self._proposals(done, number, rows, labels)]

    def _passes(self, images: Images, batches: Sequence[Sequence[int]]) -> Iterator[_Pass]:
        device = next(self.model.parameters()).device
        maps: list[Tensor] = []
        for batch in images.batches(batches):
            inputs, _ = self.model.transform([image.to(device) for image in batch.images])
            features = self.model.backbone(inputs.tensors)
            levels = [features] if isinstance(features, Tensor) else list(features.values())
            maps.clear()
            hook = self._logits.register_forward_pre_hook(lambda _, given: maps.append(given[0]))
            try:
                outputs = self.model.head(levels)
            finally:
                hook.remove()
            yield _Pass(batch, inputs, list(maps), outputs, self.model.anchor_generator(inputs, levels))

    def _scores(self, done: _Pass, number: int) -> Tensor:
        """Return the (n, C) scores of an image's anchors that the model itself makes detections of."""
        scores = done.outputs["cls_logits"][number].sigmoid()
        quality = self._quality(done, number)
        return scores if quality is None else (scores * quality[:, None]) ** self.own_postprocess.power

    @staticmethod
    def _quality(done: _Pass, number: int) -> Tensor | None:
        """Return FCOS's (n,) centerness of an image's anchors; None of RetinaNet."""
        return done.outputs["bbox_ctrness"][number, :, 0].sigmoid() if "bbox_ctrness" in done.outputs else None

    def _matched(self, done: _Pass) -> list[Tensor]:
        """Return of each image the (n,) box of each anchor by the model's own matcher; -1: none, -2: not trained on."""
        found: list[Tensor] = []

        def take(targets: Any, outputs: Any, anchors: Any, matched: list[Tensor]) -> dict[str, Tensor]:
            found.extend(index.cpu() for index in matched)
            return {}

        device = done.anchors[0].device
        targets = [
            {"boxes": (boxes * scale.repeat(2)).to(device), "labels": labels.to(device)}
            for boxes, labels, scale in zip(
                done.batch.boxes, done.batch.labels, scales(done.batch, done.inputs), strict=True
            )
        ]
        sizes = (done.sizes,) if isinstance(self.model, FCOS) else ()
        # The matcher is inside of the loss, whose other part is left out.
        self.model.head.compute_loss = take
        try:
            self.model.compute_loss(targets, done.outputs, done.anchors, *sizes)
        finally:
            del self.model.head.compute_loss
        return found

    def _boxes(self, done: _Pass, number: int, rows: Tensor) -> Tensor:
        """Return the (R, 4) boxes of some anchors, clipped to the network's image."""
        coder, anchors = self.model.box_coder, done.anchors[number]
        decode = getattr(coder, "decode_single", coder.decode)
        boxes = decode(done.outputs["bbox_regression"][number][rows], anchors[rows])
        return clip_boxes_to_image(boxes, done.inputs.image_sizes[number])

    def _proposals(self, done: _Pass, number: int, rows: Tensor, labels: Tensor) -> ImageProposals:
        shape, scale = done.inputs.image_sizes[number], scales(done.batch, done.inputs)[number]
        quality = self._quality(done, number)
        blocks, maps = self._logits.num_anchors, [level[number] for level in done.maps]
        return ImageProposals(
            image_id=done.batch.ids[number],
            features=patches(maps, self._logits.kernel_size, blocks, rows),
            labels=labels,
            boxes=self._boxes(done, number, rows).cpu() / scale.repeat(2),
            ground_truth=torch.zeros(len(rows), dtype=torch.bool),
            frame=torch.cat([torch.tensor(shape, dtype=torch.float32), scale]),
            block=rows % blocks if blocks > 1 else None,
            quality=None if quality is None else quality[rows],
        )
