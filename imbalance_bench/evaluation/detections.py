"""Detections of a split, from a run folder or from the user."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from imbalance_bench.categories import CategoryTable
from imbalance_bench.evaluation import adapters, coco_results
from imbalance_bench.evaluation.rle import Masks
from imbalance_bench.runtime.arrays import as_array, numpy_of
from imbalance_bench.runtime.equality import ByValue
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.files import load_json, write_atomically
from imbalance_bench.runtime.json_values import MAX_COORDINATE

_COLUMNS = {"image_ids": "integers", "labels": "integers", "boxes": "numbers", "scores": "numbers"}
_MASK_COLUMNS = ("counts", "offsets", "sizes")


@dataclass(frozen=True, eq=False)
class Detections(ByValue):
    """Detections of a split, in any order.

    Attributes:
        image_ids: (D,) int64.
        labels: (D,) int64, 0..C-1 in category order.
        boxes: (D, 4) xyxy in pixels of the original image, in single or double precision as given.
        scores: (D,), in the given precision: rounded to single precision, different scores of a file could tie.
        masks: mask of each detection, or None.
        notes: remarks from reading the detections, one per line.

    Example:
        >>> found = Detections.from_arrays([7, 7], [[0, 0, 8, 8], [2, 2, 6, 6]], [0.9, 0.4], [0, 3])
        >>> found.labels.tolist(), found.scores.tolist()
        ([0, 3], [0.9, 0.4])
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

        Each image may have a fourth item, its masks as compressed RLEs; either all images have it or none.
        """
        parts = [tuple(map(numpy_of, image[:3])) for image in images]
        with_masks = bool(images) and len(images[0]) == 4
        return cls(
            np.repeat(np.asarray(image_ids, dtype=np.int64), [len(scores) for _, scores, _ in parts]),
            np.concatenate([np.zeros(0, np.int64), *(labels for _, _, labels in parts)]),
            np.concatenate([np.zeros((0, 4), np.float32), *(boxes for boxes, _, _ in parts)]),
            np.concatenate([np.zeros(0, np.float32), *(scores for _, scores, _ in parts)]),
            Masks.join([mask for *_, masks in images for mask in masks]) if with_masks else None,
        )

    @classmethod
    def from_arrays(
        cls, image_ids: ArrayLike, boxes: ArrayLike, scores: ArrayLike, labels: ArrayLike, *, masks: Masks | None = None
    ) -> Detections:
        """Create detections from arrays or tensors of any framework.

        Args:
            image_ids: (D,) whole numbers.
            boxes: (D, 4) xyxy in pixels of the original image.
            scores: (D,).
            labels: (D,) whole numbers 0..C-1 in category order.
            masks: mask of each detection, or None.

        Raises:
            InputError: arrays of other shapes or kinds, or values that are NaN or infinite.

        Example:
            >>> found = Detections.from_arrays([7, 7], [[0, 0, 8, 8], [2, 2, 6, 6]], [0.9, 0.4], [0, 3])
            >>> len(found), found.boxes.shape
            (2, (2, 4))
        """
        ids = as_array("image_ids", image_ids, (None,), "integers")
        try:
            return cls(
                ids,
                as_array("labels", labels, (len(ids),), "integers"),
                as_array("boxes", boxes, (len(ids), 4), "numbers"),
                as_array("scores", scores, (len(ids),), "numbers"),
                masks,
            )
        except ValueError as error:
            raise error if isinstance(error, InputError) else InputError(f"detections: {error}") from error

    @classmethod
    def from_coco(
        cls, results: str | os.PathLike[str] | Sequence[Mapping[str, Any]], categories: CategoryTable
    ) -> Detections:
        """Create detections from COCO results: objects with ``image_id``, ``category_id``, ``score``, ``bbox`` (xywh).

        Args:
            results: a JSON file (also compressed as .gz), or its content; masks are read from ``segmentation`` (RLE).
            categories: table that gives the label of each category id.

        Raises:
            InputError: another format (the message gives the place of the error), or an unknown category.

        Example:
            >>> table = CategoryTable.from_arrays([4, 120], ids=[3, 18])
            >>> results = [{"image_id": 7, "category_id": 18, "score": 0.9, "bbox": [2, 2, 4, 4]}]
            >>> found = Detections.from_coco(results, table)
            >>> found.labels.tolist(), found.boxes.tolist()
            ([1], [[2.0, 2.0, 6.0, 6.0]])
        """
        if isinstance(results, str | os.PathLike):
            return _labelled(coco_results.columns(load_json(results), str(results)), categories, str(results))
        return _labelled(coco_results.columns(list(results), "results"), categories, "results")

    @classmethod
    def from_supervision(
        cls,
        detections: Any,
        image_ids: int | Sequence[int] | np.ndarray,
        *,
        categories: CategoryTable | None = None,
        names: adapters.Names | None = None,
    ) -> Detections:
        """Create detections from ``supervision.Detections``, with their masks.

        Args:
            detections: the object of one image, or a list of objects, one per image.
            image_ids: id of the image, or of each image.
            categories: labels are found in it by class name; None: the library's class number is the label.
            names: names of the library's classes by number, if ``data['class_name']`` does not contain them.

        Raises:
            InputError: objects of another kind, another number of ids, or a class that ``categories`` does not have.

        Example:
            >>> from types import SimpleNamespace
            >>> theirs = SimpleNamespace(  # supervision.Detections
            ...     xyxy=np.array([[0, 0, 8, 8.0]]), confidence=np.array([0.9]), class_id=np.array([1]), mask=None
            ... )
            >>> Detections.from_supervision(theirs, image_ids=7).labels
            array([1])
        """
        return cls._adapted(adapters.supervision, detections, image_ids, categories, names)

    @classmethod
    def from_ultralytics(
        cls,
        results: Any,
        image_ids: int | Sequence[int] | np.ndarray,
        *,
        categories: CategoryTable | None = None,
        names: adapters.Names | None = None,
    ) -> Detections:
        """Create detections from the ``Results`` of an ultralytics model, one per image; masks are not read.

        Args:
            results: the result of one image, or a list of results, one per image.
            image_ids: as for ``from_supervision``, with the same errors.
            categories: as for ``from_supervision``.
            names: as for ``from_supervision``; by default the names in the results.

        Example:
            >>> from types import SimpleNamespace
            >>> boxes = SimpleNamespace(xyxy=np.array([[0, 0, 8, 8.0]]), conf=np.array([0.9]), cls=np.array([0.0]))
            >>> results = [SimpleNamespace(boxes=boxes, names={0: "kite", 1: "ladle"})]  # ultralytics Results
            >>> table = CategoryTable.from_arrays([4, 120], names=["ladle", "kite"])
            >>> Detections.from_ultralytics(results, image_ids=[7], categories=table).labels
            array([1])
        """
        return cls._adapted(adapters.ultralytics, results, image_ids, categories, names)

    @classmethod
    def from_torchvision(
        cls,
        outputs: Any,
        image_ids: int | Sequence[int] | np.ndarray,
        *,
        categories: CategoryTable | None = None,
        names: adapters.Names | None = None,
    ) -> Detections:
        """Create detections from a torchvision detector's dictionaries, one per image; masks are thresholded at .5.

        Args:
            outputs: the output of one image, or a list of outputs, one per image.
            image_ids: as for ``from_supervision``, with the same errors.
            categories: as for ``from_supervision``.
            names: as for ``from_supervision``, here ``weights.meta['categories']``; labels count from 1.

        Example:
            >>> outputs = [{"boxes": np.array([[0, 0, 8, 8.0]]), "scores": np.array([0.9]), "labels": np.array([1])}]
            >>> Detections.from_torchvision(outputs, image_ids=[7]).labels
            array([0])
        """
        return cls._adapted(adapters.torchvision, outputs, image_ids, categories, names, first=1)

    @classmethod
    def from_transformers(
        cls,
        results: Any,
        image_ids: int | Sequence[int] | np.ndarray,
        *,
        categories: CategoryTable | None = None,
        names: adapters.Names | None = None,
    ) -> Detections:
        """Create detections from transformers' ``post_process_object_detection``, called with ``target_sizes``.

        Args:
            results: the result of one image, or a list of results, one per image.
            image_ids: as for ``from_supervision``, with the same errors.
            categories: as for ``from_supervision``.
            names: as for ``from_supervision``, here ``model.config.id2label``.

        Example:
            >>> results = [{"boxes": np.array([[0, 0, 8, 8.0]]), "scores": np.array([0.9]), "labels": np.array([17])}]
            >>> table = CategoryTable.from_arrays([4, 120], names=["cat", "dog"])
            >>> names = {17: "cat", 18: "dog"}  # model.config.id2label
            >>> Detections.from_transformers(results, image_ids=[7], categories=table, names=names).labels
            array([0])
        """
        return cls._adapted(adapters.transformers, results, image_ids, categories, names)

    @classmethod
    def from_detectron2(
        cls,
        outputs: Any,
        image_ids: int | Sequence[int] | np.ndarray,
        *,
        categories: CategoryTable | None = None,
        names: adapters.Names | None = None,
    ) -> Detections:
        """Create detections from a detectron2 model's ``Instances``, or the dictionary around them, with their masks.

        Args:
            outputs: the output of one image, or a list of outputs, one per image.
            image_ids: as for ``from_supervision``, with the same errors.
            categories: as for ``from_supervision``.
            names: as for ``from_supervision``, here ``MetadataCatalog.get(name).thing_classes``.

        Example:
            >>> from types import SimpleNamespace
            >>> boxes = SimpleNamespace(tensor=np.array([[0, 0, 8, 8.0]]))
            >>> found = SimpleNamespace(pred_boxes=boxes, scores=np.array([0.9]), pred_classes=np.array([1]))
            >>> Detections.from_detectron2([{"instances": found}], image_ids=[7]).labels
            array([1])
        """
        return cls._adapted(adapters.detectron2, outputs, image_ids, categories, names)

    @classmethod
    def _adapted(cls, *read: Any, **options: Any) -> Detections:
        """Join the images that ``adapters.read`` returns.

        Raises:
            InputError: as ``adapters.read``, or values that are NaN or infinite.
        """
        ids, images = adapters.read(*read, **options)
        try:
            return cls.from_images(ids, images)
        except ValueError as error:
            raise InputError(f"detections: {error}") from error

    def take(self, rows: np.ndarray) -> Detections:
        """Return some of the detections, in the order of their ascending ``rows``."""
        if len(rows) == len(self):
            return self
        masks = None if self.masks is None else self.masks.take(rows)
        columns = {name: getattr(self, name)[rows] for name in _COLUMNS}
        return Detections(**columns, masks=masks, notes=self.notes)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a compressed npz file, either complete or not at all."""
        columns = {field: getattr(self, field) for field in _COLUMNS}
        if self.masks is not None:
            columns |= {f"mask_{field}": getattr(self.masks, field) for field in _MASK_COLUMNS}

        def write(partial: Path) -> None:
            with partial.open("wb") as file:
                np.savez_compressed(file, **columns)

        write_atomically(Path(path), write)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Detections:
        """Read a file that ``save`` wrote; nothing in the file is executed.

        Raises:
            InputError: the file is missing, is not an npz file, a field missing or of the wrong kind, shape or range.
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


def _labelled(columns: coco_results.Columns, categories: CategoryTable, source: str) -> Detections:
    """Convert results to detections, with labels instead of category ids.

    Raises:
        InputError: an unknown category id; the message tells if the ids seem to count the classes instead.
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
