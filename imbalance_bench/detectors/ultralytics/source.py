"""Passes of YOLOs over images: their anchor points, with the features of the last convolutions, boxes and labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from imbalance_bench.classifiers import Classifier
from imbalance_bench.detectors.assignment import assigned_labels
from imbalance_bench.detectors.dense_sampling import TRAINING_ROWS, background_unless, sampled
from imbalance_bench.detectors.named_state import PREFIX
from imbalance_bench.detectors.one_classifier import BoxSource
from imbalance_bench.detectors.pillow_images import Images
from imbalance_bench.detectors.ultralytics.hosting import levels
from imbalance_bench.detectors.ultralytics.library import DEFAULT_CFG, LetterBox, make_anchors
from imbalance_bench.proposals.proposal_set import ImageProposals
from imbalance_bench.runtime.equality import ByValue

KEPT = 1000
"""Anchor points of an image that are kept for measuring: the best scored ones."""


@dataclass(frozen=True, eq=False)
class Placed(ByValue):
    """An image as the network reads it: resized to fit, and padded to multiples of the stride.

    Attributes:
        pixels: (1, 3, H, W) in [0, 1].
        size: height and width of the resized image within.
        scale: (2,) its scale in x and y relative to the original.
        corner: (2,) x and y of its corner.
    """

    pixels: Tensor
    size: tuple[int, int]
    scale: Tensor
    corner: Tensor

    def to_network(self, boxes: Tensor) -> Tensor:
        """Return (N, 4) boxes of the original image in the network's."""
        return boxes * self.scale.repeat(2) + self.corner.repeat(2)

    def to_original(self, boxes: Tensor) -> Tensor:
        """Return (N, 4) boxes of the network's image in the original one."""
        return (boxes - self.corner.repeat(2)) / self.scale.repeat(2)


def place(image: Tensor, size: tuple[int, int], stride: int) -> Placed:
    """Prepare an image as ultralytics does before it predicts.

    Args:
        image: (3, height, width) of bytes.
        size: most height and width of the network's image, multiples of the stride.
        stride: of padding.
    """
    letterbox = LetterBox(size, auto=True, stride=stride)
    array = image.movedim(0, -1).contiguous().numpy()
    told = letterbox.get_params({"img": array})
    width, height = told["new_unpad"]
    pixels = torch.from_numpy(letterbox(image=array)).movedim(-1, 0)[None].float() / 255
    scale = torch.tensor([width / image.shape[2], height / image.shape[1]])
    return Placed(pixels, (height, width), scale, torch.tensor([told["left"], told["top"]]).float())


@dataclass(frozen=True, eq=False)
class _Pass(ByValue):
    """An image after the network, with n anchor points.

    Attributes:
        image_id: of the image.
        truth: (G, 4) boxes in the original image.
        labels: (G,) of them.
        placed: the network's image.
        features: (n, d) that the last convolutions read.
        level: (n,) of each point.
        scores: (n, C).
        points: (n, 2) in the network's image.
        boxes: (n, 4) in the network's image.
    """

    image_id: int
    truth: Tensor
    labels: Tensor
    placed: Placed
    features: Tensor
    level: Tensor
    scores: Tensor
    points: Tensor
    boxes: Tensor


@dataclass(frozen=True)
class PointSource(BoxSource):
    """A YOLO in memory (``port.ProposalSource``).

    Attributes:
        model: with a hosted classifier, in evaluation mode.
        head: of ``hosting.HEADS``.
        image_size: most height and width of the network's images.
        stride: of their padding.
    """

    model: nn.Module
    head: str
    image_size: tuple[int, int]
    stride: int

    @property
    def classifiers(self) -> list[Classifier]:
        """The one in the head."""
        model: Any = self.model
        return [model.model[-1].fc_cls]

    @property
    def training_rows(self) -> int:
        """Anchor points that are kept of a training image, at most."""
        return TRAINING_ROWS

    def state_dict(self) -> dict[str, Tensor]:
        """Return all tensors of the model."""
        return {PREFIX + name: value for name, value in self.model.state_dict().items()}

    @torch.no_grad()
    def training_proposals(
        self, images: Images, batches: Sequence[Sequence[int]], tap: str, seed: int
    ) -> Iterator[list[ImageProposals]]:
        """Yield anchor points of each training image, labelled by the assigner of the model's loss."""
        criterion = self._criterion()
        for done in self._passes(images, batches, criterion):
            matched = self._matched(done, criterion)
            rows = sampled(matched, done.scores.amax(dim=1).cpu(), seed, done.image_id)
            labels = background_unless(matched[rows], done.labels, self.classifiers[0].num_classes)
            yield [_proposals(done, rows, labels)]

    @torch.no_grad()
    def inference_proposals(
        self, images: Images, batches: Sequence[Sequence[int]], tap: str
    ) -> Iterator[list[ImageProposals]]:
        """Yield the best scored anchor points of each image (``KEPT``), labelled by their boxes."""
        for done in self._passes(images, batches, self._criterion()):
            best = done.scores.amax(dim=1)
            rows = best.topk(min(KEPT, len(best))).indices.sort().values.cpu()
            boxes = done.placed.to_original(done.boxes[rows].cpu())
            labels = assigned_labels(boxes, done.truth, done.labels, self.classifiers[0].num_classes)
            yield [_proposals(done, rows, labels)]

    def _criterion(self) -> Any:
        """Return the loss of the head, which decodes boxes, and has the assigner."""
        model: Any = self.model
        model.args = DEFAULT_CFG
        criterion = model.init_criterion()
        return getattr(criterion, self.head, criterion)

    def _passes(self, images: Images, batches: Sequence[Sequence[int]], criterion: Any) -> Iterator[_Pass]:
        device = next(self.model.parameters()).device
        maps: list[Tensor] = []
        hooks = [
            layers[-1].register_forward_pre_hook(lambda _, given: maps.append(given[0]))
            for layers in levels(self.model, self.head)
        ]
        try:
            for batch in images.batches(batches):
                for number, image in enumerate(batch.images):
                    maps.clear()
                    placed = place(image, self.image_size, self.stride)
                    _, outputs = self.model(placed.pixels.to(device))
                    outputs = outputs.get(self.head, outputs)
                    points, strides = make_anchors(outputs["feats"], criterion.stride, 0.5)
                    boxes = criterion.bbox_decode(points, outputs["boxes"].movedim(1, -1)) * strides
                    level = [torch.full((own.shape[2] * own.shape[3],), place) for place, own in enumerate(maps)]
                    features = [own[0].flatten(1).T for own in maps]
                    scores = outputs["scores"][0].T.sigmoid()
                    yield _Pass(
                        batch.ids[number], batch.boxes[number], batch.labels[number], placed, torch.cat(features),
                        torch.cat(level), scores, points * strides, boxes[0],
                    )  # fmt: skip
        finally:
            for hook in hooks:
                hook.remove()

    @staticmethod
    def _matched(done: _Pass, criterion: Any) -> Tensor:
        """Return the (n,) box of each anchor point by the model's assigner; -1: none."""
        if not len(done.truth):
            return torch.full((len(done.boxes),), -1)
        truth = done.placed.to_network(done.truth).to(done.boxes)[None]
        labels, mask = done.labels.to(truth.device)[None, :, None], torch.ones_like(truth[..., :1])
        assigned = criterion.assigner(done.scores[None], done.boxes[None], done.points, labels, truth, mask)
        *_, has_box, box = assigned
        return torch.where(has_box[0], box[0], -1).cpu()


def _proposals(done: _Pass, rows: Tensor, labels: Tensor) -> ImageProposals:
    """Return some anchor points of an image."""
    return ImageProposals(
        image_id=done.image_id,
        features=done.features[rows],
        labels=labels,
        boxes=done.placed.to_original(done.boxes[rows].cpu()),
        ground_truth=torch.zeros(len(rows), dtype=torch.bool),
        frame=torch.cat([torch.tensor(done.placed.size, dtype=torch.float32), done.placed.scale]),
        block=done.level[rows] if int(done.level[-1]) else None,
    )
