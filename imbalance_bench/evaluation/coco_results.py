"""COCO's results format: a list of objects with ``image_id``, ``category_id``, ``score``, ``bbox`` or ``segmentation``.

Every field is checked, and no type is converted: text that looks like a number, true in place of 1, and 1.5 as an id
are refused, with their place in the file. Columns are checked as a whole first, because files have millions of entries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from imbalance_bench.evaluation.rle import Masks
from imbalance_bench.runtime.equality import ByValue
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.json_values import MAX_COORDINATE, box, number, shown, whole

MISSING: Any = object()
"""Stands in a column where a result lacks the field."""
Place = Callable[[int], str]
"""Names the place of a row in a file, for messages."""


@dataclass(frozen=True, eq=False)
class Columns(ByValue):
    """Results as arrays, in the order of the file.

    Attributes:
        image_ids: (D,) int64.
        category_ids: (D,) int64.
        boxes: (D, 4) float64 xyxy.
        scores: (D,) float64.
        masks: mask of each result, or None.
        notes: remarks on the results, one per line.
    """

    image_ids: np.ndarray
    category_ids: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    masks: Masks | None
    notes: tuple[str, ...]


def columns(content: Any, source: str) -> Columns:
    """Convert the content of a JSON file of results to arrays.

    Ids are whole numbers (3.0 is one). A result without ``bbox`` gets the box around its mask. ``segmentation`` is
    run-length encoded, compressed or not; either all results have it or none.

    Args:
        content: a list of results.
        source: name of the file, for messages.

    Raises:
        InputError: the content is not of this format; the message gives the place of the first wrong value.
    """
    if not isinstance(content, list):
        what = "annotations" if isinstance(content, dict) and "annotations" in content else shown(content)
        raise InputError(f"{source}: expected COCO results (a list of objects with image_id, ...), found {what}")

    def place(row: int) -> str:
        return f"{source}: results[{row}]"

    check_objects(content, place)
    scores = numbers(column(content, "score"), "score", place)
    image_ids, category_ids = (
        whole_numbers(column(content, f"{what}_id"), f"{what}_id", place, f"a whole number, the 'id' of {what}")
        for what in ("image", "category")
    )
    masks = masks_of(column(content, "segmentation"), "segmentation", place)
    boxes, notes = boxes_of(column(content, "bbox"), "bbox", place, masks)
    boxes[:, 2:] += boxes[:, :2]
    return Columns(image_ids, category_ids, boxes, scores, masks, notes)


def check_objects(content: Sequence[Any], place: Place) -> None:
    """Check that a list holds objects alone.

    Raises:
        InputError: it does not; the message gives the place of the first that is none.
    """
    if set(map(type, content)) - {dict}:
        row = next(n for n, result in enumerate(content) if type(result) is not dict)
        raise InputError(f"{place(row)} is {shown(content[row])}, expected an object with field 'image_id'")


def column(content: Sequence[dict[str, Any]], field: str) -> list[Any]:
    """Return the values of a field, ``MISSING`` where an object lacks it."""
    return [result.get(field, MISSING) for result in content]


def numbers(values: Sequence[Any], field: str, place: Place) -> np.ndarray:
    """Return a column of finite numbers as (D,) float64.

    Raises:
        InputError: a value is anything else; the message gives its place.
    """
    return _checked(values, {int, float}, number, np.float64, field, place, "a finite number")


def whole_numbers(values: Sequence[Any], field: str, place: Place, expected: str) -> np.ndarray:
    """Return a column of whole numbers as (D,) int64; ``expected`` says in a message what they are.

    Raises:
        InputError: a value is anything else, or does not fit 64 bits; the message gives its place.
    """
    return _checked(values, {int}, whole, np.int64, field, place, expected)


def boxes_of(
    values: Sequence[Any],
    field: str,
    place: Place,
    masks: Masks | None,
    expected: str = "four numbers (x, y, width, height)",
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return a column of boxes as (D, 4) float64, and remarks; where there is no box but a mask, that around the mask.

    Raises:
        InputError: a value is not four numbers that pixels can have; the message gives its place.
    """
    without = [row for row, value in enumerate(values) if value is MISSING or value is None or value == []]
    notes: tuple[str, ...] = ()
    if without and masks is not None:
        around = dict(zip(without, masks.boxes(without).tolist(), strict=True))
        values = [around.get(row, value) for row, value in enumerate(values)]
        notes = (f"{len(without):,} of {len(values):,} results have no '{field}': theirs is the box around the mask",)
    if set(map(type, values)) <= {list, tuple} and set(map(len, values)) <= {4}:
        flat = list(chain.from_iterable(values))
        if set(map(type, flat)) <= {int, float}:
            try:
                boxes = np.array(flat, dtype=np.float64).reshape(-1, 4)
                if (np.abs(boxes) < MAX_COORDINATE).all():
                    return boxes, notes
            except OverflowError:
                pass
    return np.array(
        [required(value, row, box, field, place, expected) for row, value in enumerate(values)], dtype=np.float64
    ).reshape(-1, 4), notes


def masks_of(values: Sequence[Any], field: str, place: Place) -> Masks | None:
    """Return a column of masks, None if no result has one; an empty or null mask is none.

    Raises:
        InputError: some results have a mask and others none, or a mask is no run-length encoding.
    """
    absent = [row for row, mask in enumerate(values) if mask is MISSING or mask is None or mask in ([], {})]
    if len(absent) == len(values):
        return None
    if absent:
        raise InputError(f"{place(absent[0])}: field '{field}' is missing, which other results have")
    try:
        return Masks.join(values)
    except ValueError:
        for row, mask in enumerate(values):
            try:
                Masks.join([mask])
            except ValueError as error:
                raise InputError(f"{place(row)}: field '{field}': {error}") from error
        raise


def required(value: Any, row: int, read: Callable[[Any], Any], field: str, place: Place, expected: str) -> Any:
    """Return ``read(value)``.

    Raises:
        InputError: this is None; the message gives the place of the value.
    """
    found = read(value)
    if found is None:
        what = "is missing" if value is MISSING else f"is {shown(value)}"
        raise InputError(f"{place(row)}: field '{field}' {what}, expected {expected}")
    return found


def _checked(
    values: Sequence[Any],
    kinds: set[type],
    read: Callable[[Any], Any],
    dtype: type[np.generic],
    field: str,
    place: Place,
    expected: str,
) -> np.ndarray:
    """Return a column as an array: checked at once if all have an expected type, else one by one."""
    if set(map(type, values)) <= kinds:
        try:
            array = np.array(values, dtype=dtype)
            if np.isfinite(array).all():
                return array
        except OverflowError:
            pass
    return np.array(
        [required(value, row, read, field, place, expected) for row, value in enumerate(values)], dtype=dtype
    )
