"""The proposal cache: one pass of a frozen detector, from which classifiers are fitted and evaluated in seconds.

A cache is a folder with one part for each split and tap. A part is a set of plain arrays, memory-mapped, and a
manifest that says what made it; it is written beside its place and renamed there when whole, so an interrupted
part is never mistaken for one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from imbalance_bench.errors import InputError

if TYPE_CHECKING:
    from imbalance_bench.detectors.inference import ImageProposals

FORMAT = 2
ARRAYS = {"labels": np.int64, "boxes": np.float32, "ground_truth": bool, "frames": np.float32, "offsets": np.int64,
          "image_ids": np.int64}  # fmt: skip
"""What a part holds beside its features."""


@dataclass(frozen=True)
class ProposalSet:
    """Cached proposals of one split, image after image (and for training, view after view).

    Attributes:
        features: (P, d) arrays, one for each tap, half or single precision, memory-mapped.
        relu: whether a ReLU is applied to each on reading.
        labels: (P,) int64, background = C.
        boxes: (P, 4) float32 xyxy in the original image after box regression, where the detector's regressor is
            class-agnostic; else the proposals themselves in the network's image.
        frames: (I, 4) float32: height and width of the network's image, its scale in x and y.
        offsets: (I + 1,) int64: image i holds rows offsets[i]..offsets[i + 1].
        image_ids: (I,) int64; an id comes once a view.
        ground_truth: (P,) bool: the proposal is an added ground-truth box (training only).
        manifest: what made it.
    """

    features: tuple[np.ndarray, ...]
    labels: np.ndarray
    boxes: np.ndarray
    ground_truth: np.ndarray
    frames: np.ndarray
    offsets: np.ndarray
    image_ids: np.ndarray
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

    def image(self, position: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor, Tensor]:
        """(features, labels, boxes) of the image at a position; boxes stay on the CPU."""
        rows = slice(int(self.offsets[position]), int(self.offsets[position + 1]))
        return *self.batch(rows, device), torch.from_numpy(np.array(self.boxes[rows]))

    def images(self, device: torch.device | str = "cpu") -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Image by image."""
        for position in range(self.num_images):
            yield self.image(position, device)

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


class Writer:
    """Writes one part image by image; within ``with``, the part is whole and in its place at the end, or not at all.

    Args:
        folder: where the part will stand; nothing may stand there yet.
        made_by: detector, checkpoint, data set, settings; goes into the manifest.
        dtype: precision of the features on disk.
    """

    def __init__(self, folder: Path, made_by: dict[str, Any], dtype: str = "float16") -> None:
        self.folder, self.made_by, self.dtype = folder, made_by, dtype
        self._partial = folder.with_name(f".{folder.name}.partial")

    def __enter__(self) -> Writer:
        shutil.rmtree(self._partial, ignore_errors=True)
        self._partial.mkdir(parents=True)
        self._file = (self._partial / "features.bin").open("wb")
        self._digest = hashlib.sha256()
        self._columns: dict[str, list[np.ndarray]] = {"labels": [], "boxes": [], "ground_truth": [], "frames": []}
        self._counts: list[int] = []
        self._image_ids: list[int] = []
        self._dim = 0
        return self

    def add(self, image: ImageProposals) -> None:
        """The next image's proposals; none of them is held but its small columns."""
        block = image.features.cpu().numpy().astype(self.dtype)
        self._file.write(block.tobytes())
        self._digest.update(block.tobytes())
        self._dim = block.shape[1]
        self._counts.append(len(block))
        self._image_ids.append(image.image_id)
        for name in ("labels", "boxes", "ground_truth"):
            self._columns[name].append(getattr(image, name).cpu().numpy())
        self._columns["frames"].append(image.frame.cpu().numpy()[None])

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        with self._file:
            self._file.flush()
            os.fsync(self._file.fileno())
        if kind is not None:
            shutil.rmtree(self._partial)
            return
        columns = {name: np.concatenate(parts) for name, parts in self._columns.items()}
        columns |= {"offsets": np.cumsum([0, *self._counts]), "image_ids": np.array(self._image_ids)}
        for name, dtype in ARRAYS.items():
            array = columns[name].astype(dtype)
            np.save(self._partial / f"{name}.npy", array)
            self._digest.update(array.tobytes())
        manifest = {
            "format": FORMAT,
            "made_by": self.made_by,
            "features": {"shape": [sum(self._counts), self._dim], "dtype": self.dtype},
            "sha256": self._digest.hexdigest(),
        }
        (self._partial / "manifest.json").write_text(json.dumps(manifest, indent=1))
        self._partial.rename(self.folder)


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
        arrays = {name: np.load(folder / f"{name}.npy", allow_pickle=False) for name in ARRAYS}
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
        for name in ARRAYS:
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
    """Delete a part that no longer belongs to its detector, if there is one."""
    shutil.rmtree(folder, ignore_errors=True)


def concatenate(parts: Sequence[Path], folder: Path, made_by: dict[str, Any]) -> None:
    """Write parts of consecutive images as one part, in their order.

    Raises:
        InputError: one of them is not whole.
    """
    from imbalance_bench.detectors.inference import ImageProposals

    opened = [read(part) for part in parts]
    with Writer(folder, made_by, str(opened[0].features[0].dtype)) as writer:
        for part in opened:
            for position, image_id in enumerate(part.image_ids.tolist()):
                rows = slice(int(part.offsets[position]), int(part.offsets[position + 1]))
                columns = (part.features[0], part.labels, part.boxes, part.ground_truth)
                features, labels, boxes, ground_truth = (torch.from_numpy(np.array(column[rows])) for column in columns)
                frame = torch.from_numpy(part.frames[position])
                writer.add(ImageProposals(image_id, features, labels, boxes, ground_truth, frame))
