"""COCO's results format: a list of objects with ``image_id``, ``category_id``, ``score``, ``bbox`` or ``segmentation``.

Every field is checked, and no type is converted: text that looks like a number, true in place of 1, and 1.5 as an id
are refused, with their place in the file. Columns are checked as a whole first, because files have millions of entries.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from imbalance_bench.evaluation.rle import Masks
from imbalance_bench.runtime.equality import ByValue
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.json_values import MAX_COORDINATE, box, number, shown, whole

_BOX = "four numbers (x, y, width, height)"


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
    strangers = set(map(type, content)) - {dict}
    if strangers:
        row = next(n for n, result in enumerate(content) if type(result) is not dict)
        raise InputError(f"{source}: results[{row}] is {shown(content[row])}, expected an object with field 'image_id'")
    scores = _column(content, "score", {int, float}, number, np.float64, "a finite number", source)
    image_ids, category_ids = (
        _column(content, f"{what}_id", {int}, whole, np.int64, f"a whole number, the 'id' of {what}", source)
        for what in ("image", "category")
    )
    masks, notes = _masks(content, source), []
    without = [row for row, result in enumerate(content) if result.get("bbox") in (None, [])]
    if without and masks is not None:
        around = iter(masks.boxes([*without]).tolist())
        content = [r if r.get("bbox") not in (None, []) else {**r, "bbox": next(around)} for r in content]
        notes.append(f"{len(without):,} of {len(content):,} results have no 'bbox': theirs is the box around the mask")
    return Columns(image_ids, category_ids, _boxes(content, source), scores, masks, tuple(notes))


def _column(
    content: list[dict[str, Any]],
    field: str,
    kinds: set[type],
    read: Callable[[Any], Any],
    dtype: type[np.generic],
    expected: str,
    source: str,
) -> np.ndarray:
    """Return the (D,) values of a field: checked at once if all have an expected type, else one by one."""
    values = [result.get(field) for result in content]
    if set(map(type, values)) <= kinds:
        try:
            array = np.array(values, dtype=dtype)
            if np.isfinite(array).all():
                return array
        except OverflowError:
            pass
    return np.array(
        [_checked(result, row, field, read, expected, source) for row, result in enumerate(content)], dtype=dtype
    )


def _checked(
    result: dict[str, Any], row: int, field: str, read: Callable[[Any], Any], expected: str, source: str
) -> Any:
    value = read(result.get(field))
    if value is None:
        what = f"is {shown(result[field])}" if field in result else "is missing"
        raise InputError(f"{source}: results[{row}]: field '{field}' {what}, expected {expected}")
    return value


def _boxes(content: list[dict[str, Any]], source: str) -> np.ndarray:
    """Return the (D, 4) boxes as xyxy."""
    values = [result.get("bbox") for result in content]
    if set(map(type, values)) <= {list} and set(map(len, values)) <= {4}:  # type: ignore[arg-type]
        flat = list(chain.from_iterable(values))  # type: ignore[arg-type]
        if set(map(type, flat)) <= {int, float}:
            try:
                corners = np.array(flat, dtype=np.float64).reshape(-1, 4)
                if (np.abs(corners) < MAX_COORDINATE).all():
                    corners[:, 2:] += corners[:, :2]
                    return corners
            except OverflowError:
                pass
    boxes = [_checked(result, row, "bbox", box, _BOX, source) for row, result in enumerate(content)]
    corners = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    return corners


def _masks(content: list[dict[str, Any]], source: str) -> Masks | None:
    """Return the masks, None if no result has one; an empty or null ``segmentation`` is no mask."""
    found = [result.get("segmentation") for result in content]
    absent = [row for row, mask in enumerate(found) if mask is None or mask in ([], {})]
    if len(absent) == len(found):
        return None
    if absent:
        raise InputError(f"{source}: results[{absent[0]}]: field 'segmentation' is missing, which other results have")
    try:
        return Masks.join(found)  # type: ignore[arg-type]
    except ValueError:
        for row, mask in enumerate(found):
            try:
                Masks.join([mask])  # type: ignore[list-item]
            except ValueError as error:
                raise InputError(f"{source}: results[{row}]: field 'segmentation': {error}") from error
        raise
