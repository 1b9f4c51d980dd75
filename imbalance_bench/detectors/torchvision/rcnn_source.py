"""Passes of torchvision's R-CNNs over images: their proposals, with features and labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops import clip_boxes_to_image

from imbalance_bench.classifiers import Classifier
from imbalance_bench.detectors.assignment import assigned_labels
from imbalance_bench.detectors.one_classifier import BoxSource
from imbalance_bench.detectors.pillow_images import Batch, Images
from imbalance_bench.detectors.torchvision.scales import scales
from imbalance_bench.proposals.postprocess import BoxesOfPairs
from imbalance_bench.proposals.proposal_set import ImageProposals
from imbalance_bench.runtime.seeds import epoch_seed


@dataclass(frozen=True)
class RCNNSource(BoxSource):
    """A two-stage detector in memory (``port.ProposalSource``).

    Attributes:
        model: with a hosted classifier, in evaluation mode.
    """

    model: GeneralizedRCNN

    @property
    def _roi_heads(self) -> RoIHeads:
        return self.model.roi_heads

    @property
    def classifiers(self) -> list[Classifier]:
        """The one in the predictor."""
        return [self._roi_heads.box_predictor.fc_cls]

    @property
    def training_rows(self) -> int:
        """Proposals that the sampler takes of an image."""
        return int(self._roi_heads.fg_bg_sampler.batch_size_per_image)

    @torch.no_grad()
    def training_proposals(
        self, images: Images, batches: Sequence[Sequence[int]], tap: str, seed: int
    ) -> Iterator[list[ImageProposals]]:
        """Yield the proposals that ``RoIHeads.select_training_samples`` takes of each training image.

        Images have the size of test time; the region proposal network keeps as many proposals as in training.
        """
        background = self.classifiers[0].num_classes
        with _as_in_training(self.model.rpn):
            for batch, inputs, pyramid, proposals in self._passes(images, batches):
                sampled, labels, added = [], [], []
                for image_id, found, size, boxes, own in zip(
                    batch.ids, proposals, scales(batch, inputs), batch.boxes, batch.labels, strict=True
                ):
                    truth = boxes * size.repeat(2)
                    # On the CPU, whose generator gives every device the same sample.
                    targets = [{"boxes": truth, "labels": own + 1, "masks": None}]
                    with torch.random.fork_rng(devices=[]):
                        torch.manual_seed(epoch_seed(seed, image_id))
                        (rois,), (matched,), (named,), _ = self._roi_heads.select_training_samples(
                            [found.cpu()], targets
                        )
                    sampled.append(rois.to(found.device))
                    labels.append(torch.where(named > 0, named - 1, background))
                    added.append((named > 0) & (rois == truth[matched]).all(dim=1) if len(truth) else named > 0)
                features = self._features(pyramid, sampled, inputs, tap)
                yield from _of_images(batch, inputs, features, labels, sampled, added)

    @torch.no_grad()
    def inference_proposals(
        self, images: Images, batches: Sequence[Sequence[int]], tap: str
    ) -> Iterator[list[ImageProposals]]:
        """Yield all proposals at test time, labelled by their overlap with the boxes of the original image."""
        background = self.classifiers[0].num_classes
        for batch, inputs, pyramid, proposals in self._passes(images, batches):
            features = self._features(pyramid, proposals, inputs, tap)
            labels = [
                assigned_labels(found.cpu() / size.repeat(2), boxes, own, background)
                for found, size, boxes, own in zip(
                    proposals, scales(batch, inputs), batch.boxes, batch.labels, strict=True
                )
            ]
            added = [torch.zeros(len(own), dtype=torch.bool) for own in labels]
            yield from _of_images(batch, inputs, features, labels, proposals, added)

    def _passes(
        self, images: Images, batches: Sequence[Sequence[int]]
    ) -> Iterator[tuple[Batch, ImageList, dict[str, Tensor], list[Tensor]]]:
        """Yield each batch with its network's images, feature maps, and proposals in the network's frame."""
        device = next(self.model.parameters()).device
        for batch in images.batches(batches):
            inputs, _ = self.model.transform([image.to(device) for image in batch.images])
            pyramid = self.model.backbone(inputs.tensors)
            if isinstance(pyramid, Tensor):
                pyramid = {"0": pyramid}
            proposals, _ = self.model.rpn(inputs, pyramid)
            yield batch, inputs, pyramid, proposals

    def _features(
        self, pyramid: Mapping[str, Tensor], boxes: list[Tensor], inputs: ImageList, tap: str
    ) -> tuple[Tensor, ...]:
        """Return the (P, d) features of each image's boxes."""
        heads = self._roi_heads
        pooled = heads.box_roi_pool(pyramid, boxes, inputs.image_sizes)
        features = pooled if tap == "conv" else heads.box_head(pooled)
        return features.flatten(1).split([len(own) for own in boxes])

    @torch.no_grad()
    def class_boxes(self, features: Tensor, proposals: Tensor, frame: Tensor) -> BoxesOfPairs:
        """Return the decoder of an image's class-specific boxes, in the original image."""
        regressor = self._roi_heads.box_predictor.bbox_pred
        weight, bias = regressor.weight.unflatten(0, (-1, 4)), regressor.bias.unflatten(0, (-1, 4))
        height, width, *scale = frame.tolist()

        @torch.no_grad()
        def decode(proposal: Tensor, label: Tensor) -> Tensor:
            row = label.to(weight.device) + 1  # background's boxes come first
            deltas = torch.einsum("kd,kcd->kc", features[proposal].to(weight), weight[row]) + bias[row]
            own = proposals[proposal].to(deltas)
            boxes = clip_boxes_to_image(self._roi_heads.box_coder.decode_single(deltas, own), (height, width))
            return boxes.cpu() / torch.tensor([*scale, *scale])

        return decode


@contextmanager
def _as_in_training(rpn: RegionProposalNetwork) -> Iterator[None]:
    """Let a region proposal network in evaluation mode keep as many proposals as in training, without its losses."""
    numbers = rpn._pre_nms_top_n, rpn._post_nms_top_n
    rpn._pre_nms_top_n, rpn._post_nms_top_n = ({**own, "testing": own["training"]} for own in numbers)
    try:
        yield
    finally:
        rpn._pre_nms_top_n, rpn._post_nms_top_n = numbers


def _of_images(
    batch: Batch,
    inputs: ImageList,
    features: Sequence[Tensor],
    labels: Sequence[Tensor],
    boxes: Sequence[Tensor],
    added: Sequence[Tensor],
) -> Iterator[list[ImageProposals]]:
    for number, (shape, scale) in enumerate(zip(inputs.image_sizes, scales(batch, inputs), strict=True)):
        frame = torch.cat([torch.tensor(shape, dtype=torch.float32), scale])
        yield [ImageProposals(batch.ids[number], features[number], labels[number], boxes[number], added[number], frame)]
