"""Run-length encoded masks: COCO's RLE, checked before compiled code reads it, and stored compressed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hotcoco import mask as coco_mask

from imbalance_bench.runtime.equality import ByValue

MAX_SIDE = 2**15 - 1
"""Longest side of a mask, in pixels: the index of every pixel then fits into 32 bits."""


@dataclass(frozen=True, eq=False)
class Masks(ByValue):
    """Masks of several objects in one buffer.

    Attributes:
        counts: (B,) uint8, the ``counts`` of all masks, one after the other.
        offsets: (D + 1,) int64: mask i is ``counts[offsets[i]:offsets[i + 1]]``.
        sizes: (D, 2) int64, height and width.
    """

    counts: np.ndarray
    offsets: np.ndarray
    sizes: np.ndarray

    def __post_init__(self) -> None:
        if self.counts.dtype != np.uint8 or self.counts.ndim != 1:
            raise ValueError(f"field 'counts' is {self.counts.dtype} {self.counts.shape}, expected bytes")
        if self.offsets.ndim != 1 or self.sizes.shape != (len(self.offsets) - 1, 2):
            raise ValueError(f"fields 'offsets' {self.offsets.shape} and 'sizes' {self.sizes.shape} do not fit")
        if {self.offsets.dtype.kind, self.sizes.dtype.kind} != {"i"}:
            raise ValueError("fields 'offsets' and 'sizes' of masks hold other than integers")
        ascends = self.offsets[0] == 0 and self.offsets[-1] == len(self.counts) and np.all(np.diff(self.offsets) > 0)
        if not ascends and len(self):
            raise ValueError("field 'offsets' does not part the masks' bytes")
        check_rle(self.counts, self.offsets, self.sizes)

    def __len__(self) -> int:
        return len(self.sizes)

    def rle(self, number: int) -> dict[str, Any]:
        """Return one mask as COCO writes it in JSON."""
        counts = self.counts[self.offsets[number] : self.offsets[number + 1]].tobytes()
        return {"size": self.sizes[number].tolist(), "counts": counts.decode("ascii")}

    def boxes(self, rows: Sequence[int]) -> np.ndarray:
        """Return the (N, 4) tightest boxes around some masks as xywh; zeros for an empty mask."""
        return coco_mask.toBbox([self.rle(row) for row in rows]).reshape(-1, 4)

    def take(self, rows: np.ndarray) -> Masks:
        """Return the masks of some rows."""
        lengths = np.diff(self.offsets)[rows]
        ends = np.cumsum(lengths, dtype=np.int64)
        within = np.arange(int(lengths.sum())) - np.repeat(ends - lengths, lengths)
        counts = self.counts[np.repeat(self.offsets[rows], lengths) + within]
        return Masks(counts, np.concatenate([[0], ends]), self.sizes[rows])

    @classmethod
    def join(cls, masks: Sequence[Mapping[str, Any]]) -> Masks:
        """Create masks from RLEs, each ``{"size": [h, w], "counts": ...}``.

        Counts are bytes or text if compressed, else a list of run lengths, background first.

        Raises:
            ValueError: an entry of another form, or runs that do not cover its size.
        """
        sizes = np.array([_size(mask) for mask in masks], dtype=np.int64).reshape(len(masks), 2)
        blocks = [_compressed(mask) for mask in masks]
        offsets = np.cumsum([0, *map(len, blocks)], dtype=np.int64)
        return cls(np.frombuffer(b"".join(blocks), dtype=np.uint8), offsets, sizes)


def encode(bitmaps: np.ndarray) -> list[dict[str, Any]]:
    """Encode (N, height, width) masks of 0 and 1 as compressed RLEs, for ``Masks.join``."""
    return [coco_mask.encode(np.asfortranarray(bitmap, dtype=np.uint8)) for bitmap in bitmaps]


def _size(mask: Any) -> Sequence[int]:
    """Return the height and width of an RLE.

    Raises:
        ValueError: not an RLE, or a size that no image has.
    """
    if not isinstance(mask, Mapping):
        raise ValueError("expected a run-length encoding ('size' and 'counts'), not polygons or anything else")
    size = mask.get("size")
    if not (
        isinstance(size, Sequence)
        and len(size) == 2
        and all(isinstance(n, int | np.integer) and not isinstance(n, bool) and 1 <= n <= MAX_SIDE for n in size)
    ):
        raise ValueError(f"expected 'size' as height and width, whole numbers from 1 to {MAX_SIDE}")
    return size


def _compressed(mask: Mapping[str, Any]) -> bytes:
    """Return the compressed counts of an RLE as bytes; its size is checked, compressed counts are not checked here.

    Raises:
        ValueError: neither text, bytes nor a list of run lengths that sum to the size.
    """
    counts, (height, width) = mask.get("counts"), mask["size"]
    if isinstance(counts, str | bytes) and counts:
        return counts.encode() if isinstance(counts, str) else counts
    if not isinstance(counts, list) or not all(type(run) is int and run >= 0 for run in counts):
        raise ValueError("expected 'counts' as text, or as a list of run lengths")
    if sum(counts) != height * width:
        raise ValueError(f"'counts' cover {sum(counts)} pixels, expected {height} x {width}")
    rle = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    encoded: bytes = rle["counts"]
    return encoded


def check_rle(counts: np.ndarray, offsets: np.ndarray, sizes: np.ndarray) -> None:
    """Check that the runs of compressed RLEs are complete, not negative, and cover the size of their mask.

    A run is written in groups of five bits, lowest first, each plus 48, with bit 5 set if more groups follow. From the
    fourth run on, the difference to the run two before is written.

    Raises:
        ValueError: a check fails.
    """
    if not len(sizes):
        return
    if sizes.min() < 1 or sizes.max() > MAX_SIDE:
        raise ValueError(f"a mask has size {sizes.min()} to {sizes.max()}, expected 1 to {MAX_SIDE}")
    groups = counts.astype(np.int64) - 48
    last = (groups & 32) == 0
    if groups.min() < 0 or groups.max() > 63 or not last[offsets[1:] - 1].all():
        raise ValueError("a mask's 'counts' are not COCO's compressed run lengths")
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    place = np.arange(len(groups)) - np.repeat(starts, ends - starts + 1)
    if place.max() > 6:
        raise ValueError("a mask's 'counts' hold a run longer than any image")
    values = np.add.reduceat((groups & 31) << (5 * place), starts)
    values -= np.where(groups[ends] & 16, 1 << (5 * (place[ends] + 1)), 0)
    # Undo the differences: two interleaved running sums in each mask, which start at its second and third run.
    mask_of = np.searchsorted(offsets, ends, side="right") - 1
    first = np.searchsorted(mask_of, np.arange(len(sizes)))
    index = np.arange(len(values)) - first[mask_of]
    for parity in (0, 1):
        chain = np.flatnonzero((index % 2 == parity) & (index > 0))
        if not len(chain):
            continue
        sums = np.cumsum(values[chain])
        begins = np.flatnonzero(np.diff(mask_of[chain], prepend=-1))
        before = np.where(begins > 0, sums[begins - 1], 0)
        values[chain] = sums - np.repeat(before, np.diff([*begins, len(chain)]))
    if values.min() < 0 or np.any(np.add.reduceat(values, first) != sizes[:, 0] * sizes[:, 1]):
        raise ValueError("a mask's runs do not cover its size")


def to_rle(segmentation: Any, height: int, width: int) -> dict[str, Any]:
    """Convert a segmentation, polygons or either kind of RLE, to one compressed RLE with its counts as text.

    Raises:
        ValueError: neither polygons nor RLE, or another size than the image.
    """
    if isinstance(segmentation, list):
        try:
            polygons = [np.asarray(polygon, dtype=np.float64) for polygon in segmentation]
        except OverflowError as error:
            raise ValueError("expected polygons whose coordinates fit 64 bits") from error
        if not polygons or any(p.ndim != 1 or len(p) < 6 or len(p) % 2 or not np.isfinite(p).all() for p in polygons):
            raise ValueError("expected polygons of at least three points")
        # The memory of the compiled rasteriser grows with the length of a polygon's edges, even outside the image.
        limit = 2.0 * max(height, width)
        clipped = [polygon.clip(-limit, 2 * limit).tolist() for polygon in polygons]
        return Masks.join([coco_mask.merge(coco_mask.frPyObjects(clipped, height, width))]).rle(0)
    if not isinstance(segmentation, Mapping) or list(_size(segmentation)) != [height, width]:
        raise ValueError(f"expected polygons, or an RLE of 'size' [{height}, {width}]")
    return Masks.join([segmentation]).rle(0)
