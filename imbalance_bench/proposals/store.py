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
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from imbalance_bench.proposals.proposal_set import ImageProposals, ProposalSet
from imbalance_bench.proposals.shards import ShardedRows
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.files import feed, json_text, remove_partials, write_json, write_text

FORMAT = 3
IMAGES_PER_SHARD = 2048
"""At 512 RoIs of 1,024 features in half precision, two gigabytes; what an interruption loses at most."""
COLUMNS = {"labels": np.int32, "ground_truth": bool, "frames": np.float32, "counts": np.int64, "image_ids": np.int64}
"""What is held in memory of a part; features and boxes are not."""
OPTIONAL = {"block": np.uint8, "quality": np.float32}
"""What a part has besides where its detector's proposals have it; its shards name it."""


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
        self._columns: dict[str, list[np.ndarray]] = {}
        self._files: dict[str, Any] = {}

    def add(self, image: ImageProposals) -> None:
        """Write the next image's proposals; only small columns are kept in memory."""
        if not self._files:
            folder = self._partial / self._name(len(self._shards))
            folder.mkdir()
            self._files = {name: (folder / f"{name}.bin").open("wb") for name in ("features", "boxes")}
            self._digest = hashlib.sha256()
            self._columns = {name: [] for name in (*COLUMNS, *_given(image))}
        features = image.features.cpu().numpy().astype(self.dtype)
        for name, block in (("features", features), ("boxes", image.boxes.cpu().numpy().astype(np.float32))):
            self._files[name].write(block.tobytes())
        self._digest.update(features.tobytes())
        self._dim = features.shape[1]
        for name in ("labels", "ground_truth", *_given(image)):
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
        dtypes = COLUMNS | OPTIONAL
        columns = {key: np.concatenate(parts).astype(dtypes[key]) for key, parts in self._columns.items()}
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
            **({"optional": optional} if (optional := [key for key in columns if key in OPTIONAL]) else {}),
        }
        write_json(folder / "shard.json", shard)
        self._shards.append(shard)
        self._columns = {}

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


def _given(image: ImageProposals) -> list[str]:
    """Return the optional columns that an image's proposals have."""
    return [name for name in OPTIONAL if getattr(image, name, None) is not None]


def _columns_of(shard: dict[str, Any]) -> tuple[str, ...]:
    """Return the names of the columns of a shard."""
    return (*COLUMNS, *(name for name in OPTIONAL if name in shard.get("optional", ())))


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
            for name in (_columns_of(shards[0]) if shards else COLUMNS)
        }
    except (OSError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{folder}: not a whole proposal cache ({error})") from error
    counts, rows = columns.pop("counts"), [shard["proposals"] for shard in shards]
    of_proposals = [column for name, column in columns.items() if name not in ("frames", "image_ids")]
    if {*map(len, of_proposals), int(counts.sum())} != {sum(rows)}:
        raise InputError(f"{folder}: arrays differ in length, expected {sum(rows)} proposals")
    if verify:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            sums = pool.map(_sha256, folders, map(_columns_of, shards), [_stamp(path) for path in folders])
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
        block=columns.get("block"),
        quality=columns.get("quality"),
    )


def _check_size(path: Path, expected: int) -> None:
    if path.stat().st_size != expected:
        raise InputError(f"{path}: {path.stat().st_size} bytes, expected {expected} as the manifest says")


def _stamp(shard: Path) -> tuple[int, ...]:
    return tuple(path.stat().st_mtime_ns for path in sorted(shard.iterdir()))


@cache
def _sha256(shard: Path, columns: tuple[str, ...], stamp: tuple[int, ...]) -> str:
    """Compute the checksum of a shard's arrays, once for each state of its files."""
    digest = hashlib.sha256()
    feed(digest, shard / "features.bin")
    for name in columns:
        digest.update(np.load(shard / f"{name}.npy", allow_pickle=False).tobytes())
    feed(digest, shard / "boxes.bin")
    return digest.hexdigest()


def remove(folder: Path) -> None:
    """Delete a part that no longer belongs to its detector, if there is one."""
    shutil.rmtree(folder, ignore_errors=True)
