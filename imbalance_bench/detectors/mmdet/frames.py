"""Images of mmdet in the network, and boxes between the network's image and the original one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from mmdet.models.detectors import BaseDetector
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import scale_boxes
from mmengine.dataset import BaseDataset, pseudo_collate
from torch import Tensor
from torch.utils.data import DataLoader


def preprocessed(detector: BaseDetector, batches: Iterable[dict]) -> Iterator[tuple[Tensor, list[DetDataSample]]]:
    """Yield the normalised and padded (N, 3, H, W) images of batches of a data loader, and what is said of each."""
    for batch in batches:
        data = detector.data_preprocessor(batch, training=False)
        yield data["inputs"], data["data_samples"]


def read(
    detector: BaseDetector, images: BaseDataset, batches: Sequence[Sequence[int]]
) -> Iterator[tuple[Tensor, list[DetDataSample]]]:
    """Yield as ``preprocessed`` the images of a data set at some positions, batch after batch."""
    positions = [list(batch) for batch in batches]
    return preprocessed(detector, DataLoader(images, batch_sampler=positions, collate_fn=pseudo_collate))


def frame_of(sample: DetDataSample) -> Tensor:
    """Return the (4,) height and width of the network's image, and its scale in x and y."""
    return torch.tensor([*sample.img_shape[:2], *sample.scale_factor], dtype=torch.float32)


def clipped(boxes: Tensor, sample: DetDataSample) -> Tensor:
    """Return (n, 4) boxes cut at the borders of the network's image."""
    height, width = sample.img_shape[:2]
    return boxes.clamp(min=0).minimum(boxes.new_tensor([width, height, width, height]))


def to_original(boxes: Tensor, sample: DetDataSample) -> Tensor:
    """Return (n, 4) boxes of the network's image in the original one, clipped first, as in mmdet's box head."""
    return scale_boxes(clipped(boxes, sample), [1 / factor for factor in sample.scale_factor])


def to_network(boxes: Tensor, sample: DetDataSample) -> Tensor:
    """Return (n, 4) boxes of the original image in the network's."""
    return scale_boxes(boxes, list(sample.scale_factor))
