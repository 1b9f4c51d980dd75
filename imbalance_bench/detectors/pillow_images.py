"""Images and boxes as scripts of torchvision and transformers read them: Pillow, RGB; EXIF is not looked at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import convert_image_dtype, pil_to_tensor

from imbalance_bench.datasets.annotations import check_records, image_records
from imbalance_bench.datasets.images import PLAIN, Reader
from imbalance_bench.datasets.registry import DataSet
from imbalance_bench.proposals.shards import ahead
from imbalance_bench.runtime.equality import ByValue

READER = Reader(PLAIN)


@dataclass(frozen=True, eq=False)
class Batch(ByValue):
    """Images that are in the network together.

    Attributes:
        ids: of the images.
        images: (3, height, width) each, in their original size: float in [0, 1], or bytes.
        boxes: (G, 4) xyxy each; crowd regions are left out.
        labels: (G,) each, 0..C-1.
    """

    ids: list[int]
    images: list[Tensor]
    boxes: list[Tensor]
    labels: list[Tensor]


class Images:
    """The images of a split.

    Args:
        records: of ``annotations.image_records``.
        flip: probability of a horizontal flip.
        dtype: of pixels: ``float32`` in [0, 1], or ``uint8``.
    """

    def __init__(
        self, records: Sequence[dict[str, Any]], flip: float = 0.0, dtype: torch.dtype = torch.float32
    ) -> None:
        self.records, self.flip, self.dtype = records, flip, dtype

    def __len__(self) -> int:
        return len(self.records)

    def batches(self, positions: Sequence[Sequence[int]]) -> Iterator[Batch]:
        """Read batches of images; the next ones are read while the present one is in use."""
        return ahead(self._batch, positions)

    def _batch(self, positions: Sequence[int]) -> Batch:
        parts = [self._read(self.records[position]) for position in positions]
        images, boxes, labels = ([part[column] for part in parts] for column in range(3))
        return Batch([int(self.records[position]["img_id"]) for position in positions], images, boxes, labels)

    def _read(self, record: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        with Image.open(record["img_path"]) as file:
            image = convert_image_dtype(pil_to_tensor(file.convert("RGB")), self.dtype)
        objects = [instance for instance in record["instances"] if not instance["ignore_flag"]]
        boxes = torch.tensor([instance["bbox"] for instance in objects], dtype=torch.float32).reshape(-1, 4)
        labels = torch.tensor([instance["bbox_label"] for instance in objects], dtype=torch.int64)
        if float(torch.rand(())) < self.flip:
            image = image.flip(-1)
            boxes = torch.stack(
                [image.shape[-1] - boxes[:, 2], boxes[:, 1], image.shape[-1] - boxes[:, 0], boxes[:, 3]], 1
            )
        return image, boxes, labels


def open_images(
    dataset: DataSet,
    category_ids: Sequence[int] | np.ndarray,
    *,
    training: bool,
    flip: float = 0.0,
    keep_labels: Sequence[int] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Images:
    """Open the images of a split, in the order of their ids (``port.HostsClassifier.images``; ``Images``).

    Raises:
        InputError: there is no image to train on, or files are missing.
    """
    annotations = dataset.train_annotations if training else dataset.val_annotations
    folder = dataset.train_images if training else dataset.val_images
    records = image_records(annotations, folder, category_ids, keep_labels=keep_labels if training else None)
    if training:
        records = [record for record in records if record["instances"]]
    check_records(records, annotations)
    return Images(records, flip if training else 0.0, dtype)
