"""How large the network's images are beside the original ones."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.models.detection.image_list import ImageList

from imbalance_bench.detectors.pillow_images import Batch


def scales(batch: Batch, inputs: ImageList) -> list[Tensor]:
    """Return the scale of each of the network's images relative to the original, (2,) in x and y."""
    return [
        torch.tensor([width / image.shape[2], height / image.shape[1]])
        for image, (height, width) in zip(batch.images, inputs.image_sizes, strict=True)
    ]
