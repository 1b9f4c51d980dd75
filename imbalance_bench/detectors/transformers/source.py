"""Passes of transformers' DETRs over images: the queries of the last decoder layer, with their matched boxes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import box_convert

from imbalance_bench.classifiers import Classifier
from imbalance_bench.detectors.hosting import HostingLayer
from imbalance_bench.detectors.named_state import PREFIX
from imbalance_bench.detectors.one_classifier import BoxSource
from imbalance_bench.detectors.pillow_images import Batch, Images
from imbalance_bench.detectors.port import CHOSEN
from imbalance_bench.detectors.transformers.families import FAMILIES, Family
from imbalance_bench.detectors.transformers.folder import prepare
from imbalance_bench.detectors.transformers.hosting import corners
from imbalance_bench.proposals.proposal_set import ImageProposals
from imbalance_bench.runtime.equality import ByValue


@dataclass(frozen=True, eq=False)
class _Pass(ByValue):
    """Images after the network.

    Attributes:
        batch: they are of.
        pixels: (N, 3, height, width), the network's images.
        hidden: (N, Q, d), what the classifier read.
        quality: (N, Q, 1), what is added to its logits; None: nothing.
        outputs: of the model.
    """

    batch: Batch
    pixels: Tensor
    hidden: Tensor
    quality: Tensor | None
    outputs: Any


@dataclass(frozen=True)
class QuerySource(BoxSource):
    """A DETR in memory (``port.ProposalSource``).

    Attributes:
        model: with a hosted classifier, in evaluation mode.
        processor: of images.
    """

    model: nn.Module
    processor: Any

    @property
    def _config(self) -> Any:
        return self.model.config

    @property
    def _family(self) -> Family:
        return FAMILIES[self._config.model_type]

    @property
    def _layer(self) -> HostingLayer:
        layer = self.model.get_submodule(self._family.name_of(self._family.classifier, self._config))
        assert isinstance(layer, HostingLayer)
        return layer

    @property
    def classifiers(self) -> list[Classifier]:
        """The one of the last decoder layer."""
        return [self._layer.fc_cls]

    @property
    def training_rows(self) -> int:
        """All queries of an image."""
        return num_queries(self._config)

    def state_dict(self) -> dict[str, Tensor]:
        """Return all tensors of the model."""
        return {PREFIX + name: value for name, value in self.model.state_dict().items()}

    def training_proposals(
        self, images: Images, batches: Sequence[Sequence[int]], tap: str, seed: int
    ) -> Iterator[list[ImageProposals]]:
        """Yield all queries of each training image, labelled by the model's own matcher; nothing is drawn."""
        return self.inference_proposals(images, batches, tap)

    @torch.no_grad()
    def inference_proposals(
        self, images: Images, batches: Sequence[Sequence[int]], tap: str
    ) -> Iterator[list[ImageProposals]]:
        """Yield all queries of each image, labelled by the model's own matcher.

        The tap ``port.CHOSEN`` has the boxes that the encoder chose the queries by, and no features.
        """
        for done in self._passes(images, batches):
            matched = self._matched(done)
            boxes = getattr(done.outputs, str(self._family.chosen)) if tap == CHOSEN else done.outputs.pred_boxes
            for number, image in enumerate(done.batch.images):
                height, width = image.shape[1:]
                shape = done.pixels.shape[2:]
                hidden = done.hidden[number]
                yield [
                    ImageProposals(
                        image_id=done.batch.ids[number],
                        features=hidden[:, :1] if tap == CHOSEN else hidden,
                        labels=matched[number],
                        boxes=corners(boxes[number].cpu(), height, width),
                        ground_truth=torch.zeros(len(hidden), dtype=torch.bool),
                        frame=torch.tensor([*shape, shape[1] / width, shape[0] / height]),
                        quality=None if done.quality is None else done.quality[number, :, 0],
                    )
                ]

    def _passes(self, images: Images, batches: Sequence[Sequence[int]]) -> Iterator[_Pass]:
        device = next(self.model.parameters()).device
        hidden: list[Tensor] = []
        quality: list[Tensor] = []
        hooks = [self._layer.register_forward_pre_hook(lambda _, given: hidden.append(given[0]))]
        if self._family.quality is not None:
            module = self.model.get_submodule(self._family.name_of(self._family.quality, self._config))
            hooks.append(module.register_forward_hook(lambda _, given, out: quality.append(out)))
        try:
            for batch in images.batches(batches):
                hidden.clear()
                quality.clear()
                prepared = [prepare(self.processor, image) for image in batch.images]
                inputs = {name: torch.cat([one[name] for one in prepared]).to(device) for name in prepared[0]}
                outputs = self.model(**inputs)
                yield _Pass(batch, inputs["pixel_values"], hidden[-1], quality[-1] if quality else None, outputs)
        finally:
            for hook in hooks:
                hook.remove()

    def _matched(self, done: _Pass) -> list[Tensor]:
        """Return of each image the (Q,) labels of its queries by the matcher of the model's loss."""
        logits, boxes = done.outputs.logits, done.outputs.pred_boxes
        targets = []
        for image, corners_of, labels in zip(done.batch.images, done.batch.boxes, done.batch.labels, strict=True):
            height, width = image.shape[1:]
            relative = box_convert(corners_of, "xyxy", "cxcywh") / torch.tensor([width, height, width, height])
            targets.append({"boxes": relative.to(boxes), "class_labels": labels.to(boxes.device)})
        predicted = {"logits": logits, "pred_boxes": boxes.clamp(0, 1) if self._family.clamps else boxes}
        found = []
        matches = self._family.matcher(self._config)(predicted, targets)
        for (query, box), labels in zip(matches, done.batch.labels, strict=True):
            own = torch.full((logits.shape[1],), self.classifiers[0].num_classes)
            own[query] = labels[box]
            found.append(own)
        return found


def num_queries(config: Any) -> int:
    """Return the number of queries of an image: of a two-stage Deformable DETR, those that its encoder chooses."""
    return int(config.two_stage_num_proposals if getattr(config, "two_stage", False) else config.num_queries)
