"""The proposal cache: one pass of a frozen detector, from which classifiers are fitted and evaluated in seconds.

A cache is a folder with one part for each split and tap. A part is a set of plain arrays, memory-mapped, and a
manifest that says what made it; it is written beside its place and renamed there when whole, so an interrupted
part is never mistaken for one.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from imbalance_bench.errors import InputError

FORMAT = 1
ARRAYS = ("features", "labels", "boxes", "offsets", "image_ids", "ground_truth")


class ImageProposals(Protocol):
    """Proposals of one image, as ``detectors.inference`` makes them."""

    image_id: int
    features: Tensor
    labels: Tensor
    boxes: Tensor
    ground_truth: Tensor


@dataclass(frozen=True)
class ProposalSet:
    """Cached proposals of one split, image after image (and for training, view after view).

    Attributes:
        features: (P, d) arrays, one for each tap, half or single precision, memory-mapped.
        relu: whether a ReLU is applied to each on reading.
        labels: (P,) int64, background = C.
        boxes: (P, 4) float32 xyxy in the original image; after box regression where the detector's regressor is
            class-agnostic (always so for the embedded detectors).
        offsets: (I + 1,) int64: image i holds rows offsets[i]..offsets[i + 1].
        image_ids: (I,) int64; an id comes once a view.
        ground_truth: (P,) bool: the proposal is an added ground-truth box (training only).
        manifest: what made it.
    """

    features: tuple[np.ndarray, ...]
    labels: np.ndarray
    boxes: np.ndarray
    offsets: np.ndarray
    image_ids: np.ndarray
    ground_truth: np.ndarray
    manifest: dict[str, Any]
    relu: tuple[bool, ...] = (False,)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_images(self) -> int:
        """Images, counted once a view."""
        return len(self.image_ids)

    def rows(self, images: np.ndarray) -> np.ndarray:
        """Row numbers of the given image positions, concatenated."""
        return np.concatenate([np.arange(self.offsets[i], self.offsets[i + 1]) for i in images])

    def batch(self, rows: np.ndarray | slice, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """(features in single precision, taps concatenated; labels) of some rows."""
        taps = []
        for array, relu in zip(self.features, self.relu, strict=True):
            tap = torch.from_numpy(np.array(array[rows])).to(device).float()
            taps.append(tap.relu_() if relu else tap)
        features = taps[0] if len(taps) == 1 else torch.cat(taps, dim=1)
        return features, torch.from_numpy(np.array(self.labels[rows])).to(device)

    def chunks(
        self, size: int = 16384, device: torch.device | str = "cpu", ground_truth_only: bool = False
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """All proposals in order, or only the added ground-truth boxes, ``size`` at a time, for statistics."""
        for start in range(0, len(self), size):
            rows = slice(start, start + size)
            features, labels = self.batch(rows, device)
            if ground_truth_only:
                chosen = torch.from_numpy(self.ground_truth[rows]).to(device)
                features, labels = features[chosen], labels[chosen]
            yield features, labels

    def images(self, device: torch.device | str = "cpu") -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Image by image: (features, labels, boxes)."""
        for start, stop in itertools.pairwise(self.offsets.tolist()):
            yield *self.batch(slice(start, stop), device), torch.from_numpy(np.array(self.boxes[start:stop]))

    def epoch(
        self, images_per_batch: int, generator: torch.Generator, device: torch.device | str = "cpu"
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch: every image once, in random order, each in one of its views at random."""
        unique, position = np.unique(self.image_ids, return_inverse=True)
        views = np.argsort(position, kind="stable").reshape(len(unique), -1)
        choice = torch.randint(views.shape[1], (len(unique),), generator=generator).numpy()
        order = torch.randperm(len(unique), generator=generator).numpy()
        images = views[np.arange(len(unique)), choice][order]
        for start in range(0, len(images), images_per_batch):
            yield self.batch(self.rows(images[start : start + images_per_batch]), device)


def write(folder: Path, images: Iterator[ImageProposals], made_by: dict[str, Any], dtype: str = "float16") -> None:
    """Write one part from the proposals of its images, atomically.

    Args:
        folder: where the part will stand; nothing may stand there yet.
        images: proposals image by image, held one at a time.
        made_by: detector, checkpoint, data set, settings; goes into the manifest.
        dtype: precision of the features on disk.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    digest = hashlib.sha256()
    counts, image_ids, columns = [], [], {"labels": [], "boxes": [], "ground_truth": []}  # type: ignore[var-annotated]
    dim = 0
    with (partial / "features.bin").open("wb") as file:
        for image in images:
            block = image.features.cpu().numpy().astype(dtype)
            file.write(block.tobytes())
            digest.update(block.tobytes())
            dim = block.shape[1]
            counts.append(len(block))
            image_ids.append(image.image_id)
            for name, column in columns.items():
                column.append(getattr(image, name).cpu().numpy())
        file.flush()
        os.fsync(file.fileno())
    arrays: dict[str, np.ndarray] = {
        "labels": np.concatenate(columns["labels"]).astype(np.int64),
        "boxes": np.concatenate(columns["boxes"]).astype(np.float32),
        "ground_truth": np.concatenate(columns["ground_truth"]).astype(bool),
        "offsets": np.cumsum([0, *counts]).astype(np.int64),
        "image_ids": np.array(image_ids, dtype=np.int64),
    }
    for name, array in arrays.items():
        np.save(partial / f"{name}.npy", array)
        digest.update(array.tobytes())
    manifest = {
        "format": FORMAT,
        "made_by": made_by,
        "features": {"shape": [int(sum(counts)), dim], "dtype": dtype},
        "sha256": digest.hexdigest(),
    }
    (partial / "manifest.json").write_text(json.dumps(manifest, indent=1))
    partial.rename(folder)


def read(folder: Path, verify: bool = False) -> ProposalSet:
    """Open a part; cheap, features stay on disk.

    Args:
        folder: of the part.
        verify: read everything and compare the checksum.

    Raises:
        InputError: absent, of another format, truncated, or (``verify``) changed.
    """
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        shape, dtype = manifest["features"]["shape"], np.dtype(manifest["features"]["dtype"])
        if manifest["format"] != FORMAT:
            raise InputError(f"{folder}: field 'format' is {manifest['format']}, expected {FORMAT}")
        size = (folder / "features.bin").stat().st_size
        if size != shape[0] * shape[1] * dtype.itemsize:
            raise InputError(f"{folder}/features.bin: {size} bytes, the manifest says {shape} of {dtype}")
        arrays = {name: np.load(folder / f"{name}.npy", allow_pickle=False) for name in ARRAYS[1:]}
    except (OSError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{folder}: not a whole proposal cache ({error}), delete it to have it made anew") from error
    if {len(arrays["labels"]), len(arrays["boxes"]), int(arrays["offsets"][-1])} != {shape[0]}:
        raise InputError(f"{folder}: arrays differ in length, expected {shape[0]} proposals")
    features = np.memmap(folder / "features.bin", dtype=dtype, mode="r", shape=tuple(shape))
    if verify:
        digest = hashlib.sha256()
        for start in range(0, shape[0], 65536):
            digest.update(features[start : start + 65536].tobytes())
        for name in ("labels", "boxes", "ground_truth", "offsets", "image_ids"):
            digest.update(arrays[name].tobytes())
        if digest.hexdigest() != manifest["sha256"]:
            raise InputError(f"{folder}: field 'sha256' does not match the arrays, delete it to have it made anew")
    return ProposalSet(features=(features,), manifest=manifest, **arrays)


def join(parts: Sequence[ProposalSet], relu: Sequence[bool]) -> ProposalSet:
    """Several taps of the same proposals side by side.

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


def remove(folder: Path) -> None:
    """Delete a part that no longer belongs to its detector."""
    shutil.rmtree(folder)
