"""Whose class a detection is of: by name where a file has names, else by id or count, as the annotated boxes tell."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from imbalance_bench.categories import CategoryTable
from imbalance_bench.evaluation.ground_truth import GroundTruth
from imbalance_bench.evaluation.result_files.found import Found, Keys
from imbalance_bench.evaluation.result_files.overlaps import LEAST, boxes_met
from imbalance_bench.runtime.errors import InputError, first

BY_ID = "by id"
COUNTS = {"by id": "counted from 0 by id", "by file": "counted from 0 in the order of the annotation file"}


class Match(NamedTuple):
    """The (D,) label of each detection, -1 for none, how it was found, and remarks."""

    labels: np.ndarray
    how: str
    notes: tuple[str, ...]


def match(
    found: Found, rows: np.ndarray, boxes: np.ndarray, places: np.ndarray, truth: GroundTruth, source: str
) -> Match:
    """Find the label of each detection on an annotated image.

    Args:
        found: all detections.
        rows: (D,) those on annotated images.
        boxes: (D, 4) xyxy in pixels.
        places: (D,) places of their images in ``truth.image_ids``.
        truth: the annotations.
        source: name of the file, for messages.

    Raises:
        InputError: the annotations have none of the classes, or it is not clear which they are.
    """
    names = found.class_names
    if names is None and found.class_ids is not None and _are_names(found.class_ids, truth.categories):
        names = found.class_ids
    if names is not None:
        return _by_name(names, rows, truth.categories, source)
    keys = found.class_ids
    assert keys is not None
    numbers = np.array([int(value) for value in keys.values], dtype=np.int64)
    codes = keys.codes[rows]
    usual = COUNTS[found.rows.counted] if found.rows.counted else BY_ID
    readings = _readings(numbers, np.unique(codes), usual, truth.categories)
    if [*readings] == [usual]:
        return Match(readings[usual][codes], usual, ())
    met = boxes_met(boxes, found.scores[rows], places, truth)
    how, notes = _choose(readings, usual, codes[met.rows], met.labels)
    if how is None:
        raise _unknown(found, rows, numbers, usual, readings, truth.categories)
    return Match(readings[how][codes], how, notes)


def _are_names(keys: Keys, categories: CategoryTable) -> bool:
    """Tell whether a column that may hold ids or names holds names."""
    texts = [value for value in keys.values if isinstance(value, str)]
    return not all(text.isdecimal() and len(text) < 19 for text in texts) or (
        bool(texts) and {*texts} <= {*categories.names}
    )


def _by_name(keys: Keys, rows: np.ndarray, categories: CategoryTable, source: str) -> Match:
    """Find classes by their names, exactly, else but for case, spaces, hyphens and underscores.

    Raises:
        InputError: the annotations have none of the names, or several of one.
    """
    exactly, nearly = _labels_by(categories.names, str), _labels_by(categories.names, _plain)
    names, labels, near = [str(value) for value in keys.values], [], []
    for name in names:
        found = exactly.get(name) or nearly.get(_plain(name)) or []
        if len(found) > 1:
            raise InputError(f"{source}: field '{keys.name}' is '{first([name])}', the name of {len(found)} categories "
                             "in the annotations: expected their ids")  # fmt: skip
        labels.append(found[0] if found else -1)
        if found and name not in exactly:
            near.append(f"{name} is {categories.names[found[0]]}")
    label_of = np.array(labels, dtype=np.int64)
    by_row = label_of[keys.codes[rows]]
    unknown = [name for name, label in zip(names, labels, strict=True) if label < 0]
    if unknown and len(unknown) == len(names):
        raise InputError(f"{source}: field '{keys.name}': none of the classes ({len(names):,}) is found in the "
                         f"annotations, which have {first(categories.names)}: found {first(unknown)}")  # fmt: skip
    notes = [f"{len(near):,} names are spelt in another way: {first(near)}"] if near else []
    if unknown:
        lost = int((by_row < 0).sum())
        notes.append(f"left out: {lost:,} of {len(by_row):,} detections, of {len(unknown):,} of {len(names):,} classes "
                     f"that are not found in the annotations: {first(unknown)}")  # fmt: skip
    return Match(by_row, "by name", tuple(notes))


def _labels_by(names: Sequence[str], form: Callable[[str], str]) -> dict[str, list[int]]:
    labels: dict[str, list[int]] = {}
    for label, name in enumerate(names):
        labels.setdefault(form(name), []).append(label)
    return labels


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name.casefold()).strip()


def _readings(numbers: np.ndarray, present: np.ndarray, usual: str, categories: CategoryTable) -> dict[str, np.ndarray]:
    """Return the label of each number under each reading that gives all present ones a label, the usual one first.

    Of readings that agree on all present ones, only the first is there.
    """
    places = np.searchsorted(categories.ids, numbers).clip(max=categories.num_classes - 1)
    readings = {BY_ID: np.where(categories.ids[places] == numbers, places, -1)}
    listed = categories.labels_of([category_id for category_id, _ in categories.listed()])
    for start in (0, 1):
        inside = (numbers >= start) & (numbers < start + categories.num_classes)
        counted = np.where(inside, numbers - start, 0)
        for order, labels in (("by id", counted), ("in the order of the annotation file", listed[counted])):
            readings[f"counted from {start} {order}"] = np.where(inside, labels, -1)
    distinct: dict[bytes, str] = {}
    for how in sorted(readings, key=lambda how: how != usual):
        labels = readings[how][present]
        if (labels >= 0).all():
            distinct.setdefault(labels.tobytes(), how)
    return {how: readings[how] for how in distinct.values()}


def _choose(
    readings: Mapping[str, np.ndarray], usual: str, codes: np.ndarray, labels: np.ndarray
) -> tuple[str | None, tuple[str, ...]]:
    """Return the reading under which clearly more annotated boxes are met by their class, else the usual one.

    Args:
        readings: label of each number by reading.
        usual: what the format says.
        codes: (B,) number of the detection on each annotated box.
        labels: (B,) label of the box.
    """
    hits = {how: int((of_number[codes] == labels).sum()) for how, of_number in readings.items()}
    if hits:
        best, *others = sorted(hits, key=lambda how: -hits[how])
        enough = max(LEAST, len(labels) // 2 + 1, *(2 * hits[how] + 1 for how in others))
        if best != usual and hits[best] >= enough:
            so = f"so {hits[best]:,} of {len(labels):,} annotated boxes are met by their class"
            return best, (f"classes are {best}, not {usual}: {so}, else {hits.get(usual, 0):,}",)
    return (usual if usual in readings else None), ()


def _unknown(
    found: Found, rows: np.ndarray, numbers: np.ndarray, usual: str, readings: Mapping[str, np.ndarray],
    categories: CategoryTable,
) -> InputError:  # fmt: skip
    """Describe the first class that the annotations lack."""
    keys = found.class_ids
    assert keys is not None
    values = numbers[keys.codes[rows]]
    if usual == BY_ID:
        wrong = ~np.isin(values, categories.ids)
        expected = f"one of the {categories.num_classes} categories (ids {categories.ids[0]} to {categories.ids[-1]})"
    else:
        wrong = (values < 0) | (values >= categories.num_classes)
        expected = f"a class from 0 to {categories.num_classes - 1}"
    row = np.flatnonzero(wrong)[0]
    hint = ""
    if readings:
        hint = (f"; ids {values.min()} to {values.max()} may be {' or '.join(readings)}, but too few annotated boxes "
                "are met by detections to tell: give class names, or ids of the annotations")  # fmt: skip
    return InputError(f"{found.rows.place(rows[row])}: field '{keys.name}' is {values[row]}, expected {expected}{hint}")
