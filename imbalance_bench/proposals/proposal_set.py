"""Proposals of a split: features on disk or in memory, labels and boxes; joined by tap and by image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torchvision.ops import clip_boxes_to_image

from imbalance_bench.proposals.blocks import expand, width
from imbalance_bench.proposals.postprocess import DEFAULT, BoxesOfPairs, Postprocess
from imbalance_bench.proposals.shards import ShardedRows
from imbalance_bench.runtime.arrays import as_array
from imbalance_bench.runtime.equality import ByValue
from imbalance_bench.runtime.errors import InputError

CHUNK_ROWS, CHUNK_VALUES = 16384, 1 << 26


@dataclass(frozen=True, eq=False)
class ProposalSet(ByValue):
    """Cached proposals of one split, image after image (and for training, view after view).

    Attributes:
        features: (P, d) on disk or on the device, one for each tap, half or single precision.
        labels: (P,) int32, background = C.
        stored_boxes: (P, 4) float32 xyxy: in the original image after box regression, where the detector's regressor
            is class-agnostic; else the proposals themselves in the network's image. ``boxes_of`` reads both.
        frames: (I, 4) float32: height and width of the network's image, its scale in x and y.
        offsets: (I + 1,) int64: image i holds rows offsets[i]..offsets[i + 1].
        image_ids: (I,) int64; an id comes once a view.
        ground_truth: (P,) bool: the proposal is an added ground-truth box (training only).
        manifest: what made it.
        relu: whether a ReLU is applied to each tap on reading.
        boxes_of_pairs: where each class has a box regressor, what decodes the boxes of an image, by its position.
        postprocess: what the detector makes of the scores of an image's proposals.
        block: (P,) uint8, the block that the features of each proposal are put into (``blocks``); None: there is one.
        num_blocks: B.
        quality: (P,) float32, what the detector combines the scores of each proposal with; None: nothing.

    Example:
        >>> import numpy as np
        >>> found = ProposalSet.from_arrays(np.eye(3), [0, 1, 1], image_ids=[7, 7, 4])
        >>> [(features.shape, labels.tolist()) for features, labels in found.chunks(size=2)]
        [(torch.Size([2, 3]), [1, 0]), (torch.Size([1, 3]), [1])]
    """

    features: tuple[ShardedRows, ...]
    labels: np.ndarray
    stored_boxes: ShardedRows
    ground_truth: np.ndarray
    frames: np.ndarray
    offsets: np.ndarray
    image_ids: np.ndarray
    manifest: dict[str, Any]
    relu: tuple[bool, ...] = (False,)
    boxes_of_pairs: Callable[[int], BoxesOfPairs] | None = None
    postprocess: Postprocess = DEFAULT
    block: np.ndarray | None = None
    num_blocks: int = 1
    quality: np.ndarray | None = None

    @classmethod
    def from_arrays(
        cls,
        features: ArrayLike,
        labels: ArrayLike,
        *,
        image_ids: ArrayLike | None = None,
        boxes: ArrayLike | None = None,
        relu: bool = False,
    ) -> ProposalSet:
        """Make a set of proposals in memory from arrays or tensors of any framework.

        Args:
            features: (P, d) numbers, one row a proposal.
            labels: (P,) whole numbers: 0..C-1 in category order, C for background.
            image_ids: (P,) image of each proposal; without, every proposal is an image of its own. Proposals are put
                in the order of their images.
            boxes: (P, 4) xyxy in pixels of the original image; without, zeros, so that no AP can be measured.
            relu: whether a ReLU is applied to the features on reading.

        Raises:
            InputError: arrays of other shapes, kinds or lengths, or NaN or infinity among the features.

        Example:
            >>> import numpy as np
            >>> found = ProposalSet.from_arrays(np.eye(3), [0, 1, 1], image_ids=[7, 4, 7])
            >>> len(found), found.num_images, found.labels.tolist(), found.image_ids.tolist()
            (3, 2, [1, 0, 1], [4, 7])
        """
        rows = as_array("features", features, (None, None), "numbers")
        count = len(rows)
        if not np.isfinite(rows).all():
            row = np.flatnonzero(~np.isfinite(rows).all(axis=1))[0]
            raise InputError(f"features: row {row} holds NaN or infinity, expected finite numbers")
        own = as_array("labels", labels, (count,), "integers").astype(np.int32)
        if count and own.min() < 0:
            raise InputError(f"labels: {own.min()} is among them, expected 0..C-1, and C for background")
        images = np.arange(count) if image_ids is None else as_array("image_ids", image_ids, (count,), "integers")
        corners = np.zeros((count, 4)) if boxes is None else as_array("boxes", boxes, (count, 4), "numbers")
        order = np.argsort(images, kind="stable")
        ids, first = np.unique(images[order], return_index=True)
        half = rows.dtype == np.float16
        return cls(
            features=(ShardedRows.of(rows[order].astype(np.float16 if half else np.float32, copy=False)),),
            labels=own[order],
            stored_boxes=ShardedRows.of(corners[order].astype(np.float32)),
            ground_truth=np.zeros(count, dtype=bool),
            frames=np.zeros((len(ids), 4), dtype=np.float32),
            offsets=np.append(first, count).astype(np.int64),
            image_ids=ids.astype(np.int64),
            manifest={},
            relu=(relu,),
        )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_images(self) -> int:
        """Images, counted once a view."""
        return len(self.image_ids)

    @property
    def width(self) -> int:
        """Width of the features of ``batch``."""
        return width(sum(stored.dim for stored in self.features), self.num_blocks)

    def rows(self, first: int, last: int | None = None) -> slice:
        """Return the rows of the images at positions ``first`` to ``last`` (exclusive; one image without it)."""
        return slice(int(self.offsets[first]), int(self.offsets[first + 1 if last is None else last]))

    def batch(self, spans: Sequence[slice], device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """Read some spans of rows: features in single precision with taps concatenated, and labels."""
        taps = []
        for stored, relu in zip(self.features, self.relu, strict=True):
            tap = stored.tensor(spans, device).float()
            taps.append(tap.relu_() if relu else tap)
        features = taps[0] if len(taps) == 1 else torch.cat(taps, dim=1)
        if self.block is not None:
            block = np.concatenate([self.block[span] for span in spans])
            features = expand(features, torch.from_numpy(block), self.num_blocks)
        labels = np.concatenate([self.labels[span] for span in spans])
        return features, torch.from_numpy(labels).to(device).long()

    def chunks(
        self, size: int = CHUNK_ROWS, device: torch.device | str = "cpu", ground_truth_only: bool = False
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield all proposals in order, or only the added ground-truth boxes, at most ``size`` at a time."""
        size = max(1, min(size, CHUNK_VALUES // self.width))
        for start in range(0, len(self), size):
            rows = slice(start, min(start + size, len(self)))
            features, labels = self.batch([rows], device)
            if ground_truth_only:
                chosen = torch.from_numpy(self.ground_truth[rows]).to(device)
                features, labels = features[chosen], labels[chosen]
            yield features, labels

    def image(self, position: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor, Tensor]:
        """Read features, labels and stored boxes of the image at a position; boxes stay on the CPU."""
        rows = self.rows(position)
        return *self.batch([rows], device), self.stored_boxes.tensor([rows])

    def boxes_of(self, position: int) -> Tensor | BoxesOfPairs:
        """Return the boxes of an image's proposals, (P, 4) xyxy; of a class-specific regressor, their decoder.

        The coordinates are of the original image. A thousand proposals of a thousand classes are a million boxes, of
        which a few hundred are looked at.
        """
        if self.boxes_of_pairs is not None:
            return self.boxes_of_pairs(position)
        return self.stored_boxes.tensor([self.rows(position)])

    def combined(self, rows: slice, scores: Tensor) -> Tensor:
        """Return the (n, C + 1) scores that detections are made of: those of the classifier, combined with quality."""
        if self.quality is None:
            return scores
        return self.postprocess.combined(scores, torch.from_numpy(self.quality[rows]).to(scores))

    def detect(
        self, position: int, scores: Tensor, boxes: Tensor | BoxesOfPairs | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return (D, 4) boxes, (D,) scores and (D,) labels of an image.

        Args:
            position: of the image.
            scores: (P, C + 1) of its proposals.
            boxes: in the place of those of ``boxes_of``.
        """
        placed = self.boxes_of(position) if boxes is None else boxes
        found, values, labels = self.postprocess(self.combined(self.rows(position), scores), placed)
        if self.postprocess.clips:
            height, width, *scale = torch.from_numpy(self.frames[position])
            found = clip_boxes_to_image(found, (float(height / scale[1]), float(width / scale[0])))
        return found, values, labels

    def on(self, device: str, share: float = 0.7) -> ProposalSet:
        """Move the features to a GPU if they take at most ``share`` of its free memory; else return them unchanged."""
        if not device.startswith("cuda"):
            return self
        free, _ = torch.cuda.mem_get_info(device)
        if sum(stored.nbytes for stored in self.features) > share * free:
            return self
        return replace(self, features=tuple(stored.to(device) for stored in self.features))


@dataclass(frozen=True, eq=False)
class ImageProposals(ByValue):
    """Proposals of one image at one stage.

    Attributes:
        image_id: of the image.
        features: (P, d) of a tap.
        labels: (P,), background = C.
        boxes: (P, 4) xyxy in the original image after regression, where the regressor is class-agnostic; else the
            proposals themselves in the network's image.
        ground_truth: (P,) bool, the proposal is an added ground-truth box.
        frame: (4,) height and width of the network's image, and its scale in x and y relative to the original.
        block: (P,) of ``ProposalSet``.
        quality: (P,) of ``ProposalSet``.
    """

    image_id: int
    features: Tensor
    labels: Tensor
    boxes: Tensor
    ground_truth: Tensor
    frame: Tensor
    block: Tensor | None = None
    quality: Tensor | None = None


def join(parts: Sequence[ProposalSet], relu: Sequence[bool]) -> ProposalSet:
    """Join several taps of the same proposals.

    Args:
        parts: of one split, one a tap.
        relu: whether a ReLU is applied to each on reading.

    Raises:
        InputError: the parts do not hold the same proposals.
    """
    first = parts[0]
    for part in parts[1:]:
        if not np.array_equal(part.labels, first.labels) or not np.array_equal(part.offsets, first.offsets):
            raise InputError("the cached taps hold different proposals, delete the 'proposals' folder")
    return replace(first, features=tuple(part.features[0] for part in parts), relu=tuple(relu))


def concatenate(parts: Sequence[ProposalSet]) -> ProposalSet:
    """Concatenate the proposals of different images; all parts have the same number of views."""
    starts = np.cumsum([0, *(len(part) for part in parts)])
    offsets = [part.offsets[:-1] + start for part, start in zip(parts, starts, strict=False)]
    return replace(
        parts[0],
        features=tuple(ShardedRows.concatenate(taps) for taps in zip(*(part.features for part in parts), strict=True)),
        stored_boxes=ShardedRows.concatenate([part.stored_boxes for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        ground_truth=np.concatenate([part.ground_truth for part in parts]),
        block=_concatenated([part.block for part in parts]),
        quality=_concatenated([part.quality for part in parts]),
        frames=np.concatenate([part.frames for part in parts]),
        image_ids=np.concatenate([part.image_ids for part in parts]),
        offsets=np.concatenate([*offsets, starts[-1:]]),
    )


def _concatenated(columns: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """Return an optional column of all parts."""
    given = [column for column in columns if column is not None]
    return np.concatenate(given) if given else None
