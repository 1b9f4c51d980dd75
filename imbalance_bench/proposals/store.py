"""The proposal cache: one pass of a frozen detector, from which classifiers are fitted and evaluated in seconds.

A cache is a folder with one part for each split and tap. A part is written in shards of a few hundred images beside
its place, and renamed there when whole, so that an interrupted part is never mistaken for one; the same call goes on
after its last whole shard. Features stay on disk: what is read is what a batch needs.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from imbalance_bench.proposals.shards import ShardedRows
from imbalance_bench.runtime.arrays import as_array
from imbalance_bench.runtime.equality import ByValue
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.files import feed, json_text, remove_partials, write_json, write_text

FORMAT = 3
IMAGES_PER_SHARD = 2048
"""At 512 RoIs of 1,024 features in half precision, two gigabytes; what an interruption loses at most."""
COLUMNS = {"labels": np.int32, "ground_truth": bool, "frames": np.float32, "counts": np.int64, "image_ids": np.int64}
"""What is held in memory of a part; features and boxes are not."""
CHUNK_ROWS, CHUNK_VALUES = 16384, 1 << 26

BoxesOfPairs = Callable[[Tensor, Tensor], Tensor]
"""((K,) proposals, (K,) labels) -> (K, 4) boxes in the original image."""


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
        labels = np.concatenate([self.labels[span] for span in spans])
        return features, torch.from_numpy(labels).to(device).long()

    def chunks(
        self, size: int = CHUNK_ROWS, device: torch.device | str = "cpu", ground_truth_only: bool = False
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield all proposals in order, or only the added ground-truth boxes, at most ``size`` at a time."""
        size = max(1, min(size, CHUNK_VALUES // sum(stored.dim for stored in self.features)))
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
    """

    image_id: int
    features: Tensor
    labels: Tensor
    boxes: Tensor
    ground_truth: Tensor
    frame: Tensor


class Writer:
    """Writes one part image by image; after ``with`` without an error, its shards are whole.

    A writer that is entered again with the same arguments goes on after ``images`` images; ``rewind`` drops some.

    Args:
        folder: where the part will stand; nothing may stand there yet.
        made_by: detector, checkpoint, data set, settings; goes into the manifest.
        dtype: precision of the features on disk.
        rank: of the process, which writes a block of the images; ``assemble`` puts the blocks together.
        world: number of processes.
        batch: images that come together; a shard ends with a batch.
    """

    def __init__(
        self,
        folder: Path,
        made_by: dict[str, Any],
        dtype: str = "float16",
        rank: int = 0,
        world: int = 1,
        batch: int = 1,
    ) -> None:
        self.made_by, self.dtype, self.rank, self.world = made_by, dtype, rank, world
        self._images_per_shard = -(-IMAGES_PER_SHARD // batch) * batch
        self._partial = _partial(folder, rank)

    def __enter__(self) -> Writer:
        begun = self._partial / "made_by.json"
        content = json_text([self.made_by, self.dtype, self.world, self._images_per_shard])
        if not begun.exists() or begun.read_text() != content:
            shutil.rmtree(self._partial, ignore_errors=True)
            write_text(begun, content)
        # Those that were written without a gap: ``assemble`` may have been interrupted too.
        described = (self._partial / self._name(number) / "shard.json" for number in itertools.count())
        whole = itertools.takewhile(Path.exists, described)
        self._shards = [json.loads(path.read_text()) for path in whole]
        self.rewind(self.images)
        return self

    def _name(self, number: int) -> str:
        return f"{self.rank:03}-{number:05}"

    @property
    def images(self) -> int:
        """Images in whole shards."""
        return sum(shard["images"] for shard in self._shards)

    def rewind(self, images: int) -> None:
        """Go back to the end of the last shard that ends within the first so many images."""
        while self.images > images:
            self._shards.pop()
        for folder in self._partial.iterdir():
            if folder.is_dir() and folder.name not in {shard["name"] for shard in self._shards}:
                shutil.rmtree(folder)
        self._columns: dict[str, list[np.ndarray]] = {name: [] for name in COLUMNS}
        self._files: dict[str, Any] = {}

    def add(self, image: ImageProposals) -> None:
        """Write the next image's proposals; only small columns are kept in memory."""
        if not self._files:
            folder = self._partial / self._name(len(self._shards))
            folder.mkdir()
            self._files = {name: (folder / f"{name}.bin").open("wb") for name in ("features", "boxes")}
            self._digest = hashlib.sha256()
        features = image.features.cpu().numpy().astype(self.dtype)
        for name, block in (("features", features), ("boxes", image.boxes.cpu().numpy().astype(np.float32))):
            self._files[name].write(block.tobytes())
        self._digest.update(features.tobytes())
        self._dim = features.shape[1]
        for name in ("labels", "ground_truth"):
            self._columns[name].append(getattr(image, name).cpu().numpy())
        self._columns["frames"].append(image.frame.cpu().numpy()[None])
        self._columns["counts"].append(np.array([len(features)]))
        self._columns["image_ids"].append(np.array([image.image_id]))
        if len(self._columns["counts"]) == self._images_per_shard:
            self.end_shard()

    def end_shard(self) -> None:
        """Close the shard that is being written, if there is one."""
        if not self._files:
            return
        name, folder = self._sync()
        columns = {key: np.concatenate(parts).astype(COLUMNS[key]) for key, parts in self._columns.items()}
        for key, column in columns.items():
            np.save(folder / f"{key}.npy", column)
            self._digest.update(column.tobytes())
        self._digest.update((folder / "boxes.bin").read_bytes())
        shard = {
            "name": name,
            "images": len(columns["counts"]),
            "proposals": int(columns["counts"].sum()),
            "dim": self._dim,
            "sha256": self._digest.hexdigest(),
        }
        write_json(folder / "shard.json", shard)
        self._shards.append(shard)
        self._columns = {key: [] for key in COLUMNS}

    def _sync(self) -> tuple[str, Path]:
        """Close the files of the open shard; return its name and folder."""
        for file in self._files.values():
            with file:
                file.flush()
                os.fsync(file.fileno())
        folder = Path(file.name).parent
        self._files = {}
        return folder.name, folder

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is not None:
            for file in self._files.values():
                with contextlib.suppress(OSError):  # a full disk has been told of once
                    file.close()
        else:
            self.end_shard()


def assemble(folder: Path, world: int = 1) -> None:
    """Assemble a part from the shards of all ranks, and move it into place."""
    home = _partial(folder, 0)
    made_by, dtype, *_ = json.loads((home / "made_by.json").read_text())
    remove_partials(home)
    shards = []
    for rank in range(world):
        partial = _partial(folder, rank)
        for path in sorted(partial.glob("*/shard.json")):
            shards.append(json.loads(path.read_text()))
            if partial != home:
                path.parent.rename(home / path.parent.name)
    manifest = {"format": FORMAT, "made_by": made_by, "dtype": dtype, "shards": shards}
    write_json(home / "manifest.json", manifest)
    home.rename(folder)
    for left in folder.parent.glob(_partial(folder, "*").name):
        shutil.rmtree(left)


def _partial(folder: Path, rank: int | str) -> Path:
    return folder.with_name(f".{folder.name}.rank{rank}.partial")


def read(folder: Path, verify: bool = True) -> ProposalSet:
    """Open a part; features and boxes stay on disk.

    Args:
        folder: of the part.
        verify: compare checksums: everything is read, once a process and file.

    Raises:
        InputError: absent, of another format, truncated, or (``verify``) changed.
    """
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        if manifest["format"] != FORMAT:
            raise InputError(f"{folder}: field 'format' is {manifest['format']}, expected {FORMAT}")
        dtype, shards = np.dtype(manifest["dtype"]), manifest["shards"]
        folders = [folder / shard["name"] for shard in shards]
        for path, shard in zip(folders, shards, strict=True):
            _check_size(path / "features.bin", shard["proposals"] * shard["dim"] * dtype.itemsize)
            _check_size(path / "boxes.bin", shard["proposals"] * 16)
        columns = {
            name: np.concatenate([np.load(path / f"{name}.npy", allow_pickle=False) for path in folders])
            for name in COLUMNS
        }
    except (OSError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{folder}: not a whole proposal cache ({error})") from error
    counts, rows = columns.pop("counts"), [shard["proposals"] for shard in shards]
    if {len(columns["labels"]), len(columns["ground_truth"]), int(counts.sum())} != {sum(rows)}:
        raise InputError(f"{folder}: arrays differ in length, expected {sum(rows)} proposals")
    if verify:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            sums = pool.map(_sha256, folders, [_stamp(path) for path in folders])
            for path, shard, found in zip(folders, shards, sums, strict=True):
                if found != shard["sha256"]:
                    raise InputError(f"{path}: field 'sha256' of the manifest does not match the arrays")
    return ProposalSet(
        features=(ShardedRows([path / "features.bin" for path in folders], rows, shards[0]["dim"], dtype),),
        stored_boxes=ShardedRows([path / "boxes.bin" for path in folders], rows, 4, np.dtype(np.float32)),
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        manifest=manifest,
        labels=columns["labels"],
        ground_truth=columns["ground_truth"],
        frames=columns["frames"],
        image_ids=columns["image_ids"],
    )


def _check_size(path: Path, expected: int) -> None:
    if path.stat().st_size != expected:
        raise InputError(f"{path}: {path.stat().st_size} bytes, expected {expected} as the manifest says")


def _stamp(shard: Path) -> tuple[int, ...]:
    return tuple(path.stat().st_mtime_ns for path in sorted(shard.iterdir()))


@cache
def _sha256(shard: Path, stamp: tuple[int, ...]) -> str:
    """Compute the checksum of a shard's arrays, once for each state of its files."""
    digest = hashlib.sha256()
    feed(digest, shard / "features.bin")
    for name in COLUMNS:
        digest.update(np.load(shard / f"{name}.npy", allow_pickle=False).tobytes())
    feed(digest, shard / "boxes.bin")
    return digest.hexdigest()


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
        frames=np.concatenate([part.frames for part in parts]),
        image_ids=np.concatenate([part.image_ids for part in parts]),
        offsets=np.concatenate([*offsets, starts[-1:]]),
    )


def remove(folder: Path) -> None:
    """Delete a part that no longer belongs to its detector, if there is one."""
    shutil.rmtree(folder, ignore_errors=True)
