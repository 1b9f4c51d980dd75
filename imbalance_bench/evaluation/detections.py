"""Detections of a split: what a run folder keeps, and what users hand in."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from imbalance_bench.categories import CategoryTable
from imbalance_bench.evaluation import coco_results
from imbalance_bench.evaluation.rle import Masks
from imbalance_bench.runtime.equality import ByValue
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.files import load_json, write_atomically
from imbalance_bench.runtime.json_values import MAX_COORDINATE

EXPECTED = "COCO results (.json), detections of this suite (.npz) or a run folder"
_COLUMNS = {"image_ids": "integers", "labels": "integers", "boxes": "numbers", "scores": "numbers"}
_MASK_COLUMNS = ("counts", "offsets", "sizes")


@dataclass(frozen=True, eq=False)
class Detections(ByValue):
    """Detections of a split, in any order.

    Attributes:
        image_ids: (D,) int64.
        labels: (D,) int64, 0..C-1 in category order.
        boxes: (D, 4) xyxy in pixels of the original image, in single or double precision as they are given.
        scores: (D,), the same: in single precision, scores of a file that differ could tie.
        masks: of each detection, or None.
        notes: what was found when they were read, a line each.
    """

    image_ids: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    masks: Masks | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for field, expected in _COLUMNS.items():
            column = np.asarray(getattr(self, field))
            if column.dtype.kind not in ("iu" if expected == "integers" else "iuf"):
                raise ValueError(f"field '{field}' is {column.dtype}, expected {expected}")
            shape = (len(self), 4) if field == "boxes" else (len(self),)
            if column.shape != shape:
                raise ValueError(f"field '{field}' has shape {column.shape}, expected {shape}")
            if not np.isfinite(column).all():
                raise ValueError(f"field '{field}' holds NaN or infinity")
            if field == "boxes" and (np.abs(column) >= 2 * MAX_COORDINATE).any():
                raise ValueError(f"field 'boxes' holds coordinates beyond {MAX_COORDINATE:g} pixels")
            single = np.float32 if column.dtype != np.float64 else np.float64
            object.__setattr__(self, field, column.astype(np.int64 if expected == "integers" else single, copy=False))
        if self.masks is not None and len(self.masks) != len(self):
            raise ValueError(f"{len(self.masks)} masks of {len(self)} detections")

    def __len__(self) -> int:
        return len(self.image_ids)

    @classmethod
    def from_images(cls, image_ids: Sequence[int] | np.ndarray, images: Sequence[tuple[Any, ...]]) -> Detections:
        """Join (boxes, scores, labels) of each image, arrays or tensors as ``postprocess.detect`` returns them.

        A fourth item, of every image or none: its masks as compressed RLEs.
        """
        parts = [
            tuple(np.asarray(column.cpu() if hasattr(column, "cpu") else column) for column in image[:3])
            for image in images
        ]
        with_masks = bool(images) and len(images[0]) == 4
        return cls(
            np.repeat(np.asarray(image_ids, dtype=np.int64), [len(scores) for _, scores, _ in parts]),
            np.concatenate([np.zeros(0, np.int64), *(labels for _, _, labels in parts)]),
            np.concatenate([np.zeros((0, 4), np.float32), *(boxes for boxes, _, _ in parts)]),
            np.concatenate([np.zeros(0, np.float32), *(scores for _, scores, _ in parts)]),
            Masks.join([mask for *_, masks in images for mask in masks]) if with_masks else None,
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a compressed npz file, whole or not at all."""
        columns = {field: getattr(self, field) for field in _COLUMNS}
        if self.masks is not None:
            columns |= {f"mask_{field}": getattr(self.masks, field) for field in _MASK_COLUMNS}

        def write(partial: Path) -> None:
            with partial.open("wb") as file:
                np.savez_compressed(file, **columns)

        write_atomically(Path(path), write)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Detections:
        """Read what ``save`` wrote; nothing in the file is executed.

        Raises:
            InputError: missing, not an npz file, a field missing or of the wrong kind, shape or range.
        """
        try:
            if Path(path).is_file() and not zipfile.is_zipfile(path):
                raise ValueError("it is no npz archive, or is cut off")
            with np.load(path, allow_pickle=False) as archive:
                missing = [field for field in _COLUMNS if field not in archive]
                if missing:
                    raise InputError(f"{path}: field '{missing[0]}' is missing, expected {', '.join(_COLUMNS)}")
                masks = None
                if "mask_counts" in archive:
                    masks = Masks(*(archive[f"mask_{field}"] for field in _MASK_COLUMNS))
                return cls(**{field: archive[field] for field in _COLUMNS}, masks=masks)
        except InputError:
            raise
        except FileNotFoundError as error:
            raise InputError(f"{path}: no such file, expected detections (npz)") from error
        except Exception as error:  # a damaged archive raises whatever zipfile, zlib or numpy choose to
            raise InputError(f"{path}: not readable as detections ({error})") from error


def read(path: str | os.PathLike[str], categories: CategoryTable) -> Detections:
    """Detections from a run folder, an npz file of ``Detections.save``, or a JSON file of COCO results.

    Args:
        path: a folder with ``detections.npz``, or a file, its format told by its content.
        categories: gives category ids their labels.

    Raises:
        InputError: not such a file, or a result that lacks a field or names an unknown category.
    """
    return parse(path)(categories)


def parse(path: str | os.PathLike[str]) -> Callable[[CategoryTable], Detections]:
    """``read`` in two steps: the file is read and checked now, labels are given once the categories are known.

    Raises:
        InputError: not a file of detections. What is returned raises one where a category is not known.
    """
    path = Path(path)
    if path.is_dir():
        stored = Detections.load(path / "detections.npz")
        return lambda categories: stored
    if not path.is_file():
        raise InputError(f"{path}: no such file, expected {EXPECTED}")
    try:
        with path.open("rb") as file:
            head = file.read(4)
    except OSError as error:
        raise InputError(f"{path}: not readable ({error.strerror})") from error
    if head.startswith(b"\x80"):
        raise InputError(
            f"{path}: this is a pickle, which is not read as it can run code; expected {EXPECTED}: mmdet and "
            "detectron2 write COCO results too"
        )
    if head == b"PK\x03\x04" or path.suffix == ".npz":
        if _is_torch(path):
            raise InputError(f"{path}: this is a file of PyTorch, expected {EXPECTED}, or a checkpoint (.pth)")
        detections = Detections.load(path)
        return lambda categories: detections
    try:
        content = load_json(path)
    except InputError as error:
        raise InputError(f"{error}; expected {EXPECTED}") from error
    columns = coco_results.columns(content, str(path))
    return lambda categories: _labelled(columns, categories, str(path))


def _is_torch(path: Path) -> bool:
    """Whether a zip file is one that ``torch.save`` wrote; a damaged one is not."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/data.pkl") for name in archive.namelist())
    except Exception:  # a damaged archive raises whatever zipfile chooses to
        return False


def _labelled(columns: coco_results.Columns, categories: CategoryTable, source: str) -> Detections:
    """Results with labels for category ids.

    Raises:
        InputError: a category id that is not known; the message says where ids seem to count the classes instead.
    """
    known = np.isin(columns.category_ids, categories.ids)
    if not known.all():
        row = np.flatnonzero(~known)[0]
        low, high = columns.category_ids.min(), columns.category_ids.max()
        hint = ""
        for first in (0, 1):
            if first <= low and high < categories.num_classes + first:
                hint = f"; ids {low} to {high} fit a count of the classes from {first}"
                break
        raise InputError(
            f"{source}: results[{row}]: field 'category_id' is {columns.category_ids[row]}, expected one of the "
            f"{categories.num_classes} categories (ids {categories.ids[0]} to {categories.ids[-1]}){hint}"
        )
    labels = categories.labels_of(columns.category_ids)
    return Detections(columns.image_ids, labels, columns.boxes, columns.scores, columns.masks, columns.notes)
