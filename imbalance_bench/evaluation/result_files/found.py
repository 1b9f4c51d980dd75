"""Detections between a file and the annotations: first columns of unchecked values, then checked arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from imbalance_bench.evaluation import coco_results
from imbalance_bench.evaluation.coco_results import Place
from imbalance_bench.evaluation.rle import Masks
from imbalance_bench.runtime.equality import ByValue
from imbalance_bench.runtime.json_values import whole

Form = Literal["xyxy", "xywh", "cxcywh"]
"""What the four numbers of a box are: two corners, a corner and the sides, or the centre and the sides."""
FORMS: dict[Form, str] = {
    "xyxy": "four numbers (x1, y1, x2, y2)",
    "xywh": "four numbers (x, y, width, height)",
    "cxcywh": "four numbers (centre x, centre y, width, height)",
}
Counted = Literal["", "by id", "by file"]
"""What a format's class numbers are: ids, or a count from 0 of the categories, by id or as their file lists them."""


class Column(NamedTuple):
    """A column of a file."""

    name: str
    cells: Sequence[Any]


@dataclass(frozen=True)
class Rows:
    """Detections as a file has them.

    Attributes:
        kind: the format, in words.
        place: names the place of a detection in the file.
        scores: one number each.
        boxes: four numbers each, as ``form`` says.
        image_ids: ids of the images (or names, where a tool writes either), or None.
        image_names: file names of the images, or None.
        class_ids: ids of the classes (or names, where a tool writes either), or None.
        class_names: names of the classes, or None.
        masks: run-length encoded masks, or None.
        form: what the four numbers are.
        relative: the numbers are shares of the sides of the image.
        images_in_order: number of images in the file, if ``image_ids`` are their places in the annotations.
        counted: what the class ids are, if the format tells.
        notes: remarks, one per line.
    """

    kind: str
    place: Place
    scores: Column
    boxes: Column
    image_ids: Column | None = None
    image_names: Column | None = None
    class_ids: Column | None = None
    class_names: Column | None = None
    masks: Column | None = None
    form: Form = "xyxy"
    relative: bool = False
    images_in_order: int | None = None
    counted: Counted = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Keys(ByValue):
    """A column that tells images or classes apart.

    Attributes:
        name: the field in the file.
        values: the distinct values, whole numbers or text.
        codes: (D,) place in ``values`` of each detection's.
    """

    name: str
    values: list[int | str]
    codes: np.ndarray

    @classmethod
    def of(cls, column: Column | None, place: Place, expected: str) -> Keys | None:
        """Return the keys in a column; None for none.

        Raises:
            InputError: a value is neither a whole number nor text; the message gives its place.
        """
        if column is None:
            return None
        name, values = column
        kinds = set(map(type, values))
        if kinds <= {int}:
            codes, distinct = pd.factorize(coco_results.whole_numbers(values, name, place, expected))
            return cls(name, distinct.tolist(), codes)
        if kinds != {str} or not all(values):
            values = [
                coco_results.required(value, row, _key, name, place, expected) for row, value in enumerate(values)
            ]
        texts = np.empty(len(values), dtype=object)
        texts[:] = values
        codes, distinct = pd.factorize(texts)
        return cls(name, list(distinct), codes)


@dataclass(frozen=True, eq=False)
class Found(ByValue):
    """Checked detections, whose images and classes are not those of annotations yet.

    Attributes:
        rows: what was checked.
        boxes: (D, 4) float64 xyxy, in pixels unless ``rows.relative``.
        scores: (D,) float64.
        image_ids: images by id, or None.
        image_names: images by file name, or None; at least one of the two is there.
        class_ids: classes by id, or None.
        class_names: classes by name, or None; at least one of the two is there.
        masks: mask of each detection, or None.
        notes: remarks, one per line.
    """

    rows: Rows
    boxes: np.ndarray
    scores: np.ndarray
    image_ids: Keys | None
    image_names: Keys | None
    class_ids: Keys | None
    class_names: Keys | None
    masks: Masks | None
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.scores)


def check(rows: Rows) -> Found:
    """Check all columns.

    Raises:
        InputError: a value is wrong; the message gives the place of the first in its column.
    """
    place = rows.place
    scores = coco_results.numbers(rows.scores.cells, rows.scores.name, place)
    image = "the id of an image (a whole number) or its file name"
    category = "the id of a category (a whole number) or its name"
    image_ids, image_names = (Keys.of(column, place, image) for column in (rows.image_ids, rows.image_names))
    class_ids, class_names = (Keys.of(column, place, category) for column in (rows.class_ids, rows.class_names))
    masks = coco_results.masks_of(rows.masks.cells, rows.masks.name, place) if rows.masks is not None else None
    around = masks if rows.form == "xywh" else None
    boxes, notes = coco_results.boxes_of(rows.boxes.cells, rows.boxes.name, place, around, FORMS[rows.form])
    if rows.form == "cxcywh":
        boxes[:, :2] -= boxes[:, 2:] / 2
    if rows.form != "xyxy":
        boxes[:, 2:] += boxes[:, :2]
    return Found(
        rows, boxes, scores, image_ids, image_names, class_ids, class_names, masks, (*rows.notes, *notes)
    )  # fmt: skip


def _key(value: Any) -> int | str | None:
    if isinstance(value, str):
        return value or None
    return whole(value)
