"""What a user's detector answers behind the port if it has one classifier and boxes alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from imbalance_bench.datasets.images import Reader
from imbalance_bench.datasets.registry import DataSet
from imbalance_bench.detectors.pillow_images import READER, Images, open_images
from imbalance_bench.detectors.port import CLASSIFIER_SCHEDULE, PIXELS_AT_ONCE
from imbalance_bench.proposals.postprocess import BoxesOfPairs
from imbalance_bench.schedule import Schedule

Source = TypeVar("Source", bound="ModelSource")


class OneClassifier:
    """A user's detector, of which only the classifier is exchanged."""

    @property
    def schedule(self) -> Schedule:
        """The paper's."""
        return CLASSIFIER_SCHEDULE

    @property
    def num_stages(self) -> int:
        """One."""
        return 1

    def at_once(self, pixels: int) -> int:
        """Return how many images of a size are in one pass of the network."""
        return max(1, min(self.schedule.batch_size, PIXELS_AT_ONCE // pixels))

    @property
    def has_class_boxes(self) -> bool:
        """False: a proposal has one box."""
        return False

    @property
    def has_masks(self) -> bool:
        """False: only boxes are measured."""
        return False

    @property
    def takes_stuff(self) -> bool:
        """False."""
        return False


class PillowDetector(OneClassifier):
    """One whose images are read by Pillow, and whose labels may be category ids."""

    pixels = torch.float32
    """Type of the pixels that it reads (``pillow_images.Images``)."""

    @property
    def first_label(self) -> int:
        """Zero."""
        return 0

    @property
    def reader(self) -> Reader:
        """Plain Pillow."""
        return READER

    def images(
        self,
        dataset: DataSet,
        category_ids: Sequence[int] | np.ndarray,
        *,
        training: bool,
        flip: float = 0.0,
        keep_labels: Sequence[int] | None = None,
        stuff: bool = False,
    ) -> Images:
        """Open the images of a split (``pillow_images.open_images``)."""
        return open_images(
            dataset, category_ids, training=training, flip=flip, keep_labels=keep_labels, dtype=self.pixels
        )


class ModelSource:
    """A model in memory: its tensors, and where it is."""

    model: nn.Module

    def state_dict(self) -> dict[str, Tensor]:
        """Return all tensors of the model."""
        return self.model.state_dict()

    def to(self: Source, device: str) -> Source:
        """Move the model to a device."""
        self.model.to(device)
        return self


class BoxSource(ModelSource):
    """The passes of such a detector (``port.ProposalSource``); what it has no part for, nobody asks for."""

    def class_boxes(self, features: Tensor, proposals: Tensor, frame: Tensor) -> BoxesOfPairs:
        """Not asked for where ``has_class_boxes`` is False."""
        raise NotImplementedError

    def masks(
        self, images: Any, detections_of: Callable[[int], tuple[Tensor, Tensor]]
    ) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        """Not asked for, as ``has_masks`` is False."""
        raise NotImplementedError
