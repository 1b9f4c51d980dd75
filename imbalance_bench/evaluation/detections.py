"""Detections of a split: what a run folder keeps, and what users hand in."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from imbalance_bench.categories import CategoryTable
from imbalance_bench.equality import ByValue
from imbalance_bench.errors import InputError
from imbalance_bench.evaluation.masks import Masks
from imbalance_bench.files import write_atomically

_COLUMNS = {"image_ids": np.int64, "labels": np.int64, "boxes": np.float32, "scores": np.float32}
_MASK_COLUMNS = ("counts", "offsets", "sizes")


@dataclass(frozen=True, eq=False)
class Detections(ByValue):
    """Detections of a split, in any order.

    Attributes:
        image_ids: (D,) int64.
        labels: (D,) int64, 0..C-1 in category order.
        boxes: (D, 4) float32 xyxy in pixels of the original image.
        scores: (D,) float32.
        masks: of each detection, or None.
    """

    image_ids: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    masks: Masks | None = None

    def __post_init__(self) -> None:
        for field, dtype in _COLUMNS.items():
            column = np.asarray(getattr(self, field))
            if column.dtype.kind not in ("iu" if dtype == np.int64 else "iuf"):
                raise ValueError(f"field '{field}' is {column.dtype}, expected {np.dtype(dtype)}")
            shape = (len(self), 4) if field == "boxes" else (len(self),)
            if column.shape != shape:
                raise ValueError(f"field '{field}' has shape {column.shape}, expected {shape}")
            if not np.isfinite(column).all():
                raise ValueError(f"field '{field}' holds NaN or infinity")
            object.__setattr__(self, field, column.astype(dtype, copy=False))
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
        path: a folder with ``detections.npz``, or a ``.npz`` or ``.json`` file.
        categories: gives category ids their labels.

    Raises:
        InputError: not such a file, or a result that lacks a field or names an unknown category.
    """
    path = Path(path)
    if path.is_dir():
        return Detections.load(path / "detections.npz")
    if path.suffix != ".json":
        return Detections.load(path)
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(results, list):
        raise InputError(f"{path}: expected a list of results, found {type(results).__name__}")
    try:
        with_masks = any("segmentation" in result for result in results)
        corners = np.array([result["bbox"] for result in results], dtype=np.float64).reshape(len(results), 4)
        corners[:, 2:] += corners[:, :2]
        return Detections(
            image_ids=np.array([result["image_id"] for result in results], dtype=np.int64),
            labels=categories.labels_of(np.array([result["category_id"] for result in results], dtype=np.int64)),
            boxes=corners,
            scores=np.array([result["score"] for result in results], dtype=np.float64),
            masks=Masks.join([r["segmentation"] for r in results]) if results and with_masks else None,
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{path}: expected results of image_id, category_id, bbox and score ({error})") from error
