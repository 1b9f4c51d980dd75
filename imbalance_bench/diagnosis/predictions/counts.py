"""The classes of a diagnosis with their train counts: from annotations, a CSV file, or the validation file itself.

Detections and validation annotations speak of the same classes, so ids and order are those of the validation
annotations wherever training annotations number them in another way: then names decide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from imbalance_bench.bins import fitting_edges
from imbalance_bench.categories import CategoryTable, field_of, lvis_frequency
from imbalance_bench.runtime.errors import InputError, first

FEW_CLASSES = 8
"""Up to so many classes, each is a bin of its own."""
COUNTS = ("instance_count", "count", "instances", "boxes")
"""Names of the column of train boxes in a CSV file; the first that is there counts."""


class Counted(NamedTuple):
    """The classes with their counts.

    Attributes:
        categories: the classes.
        source: where the counts come from, in words.
        notes: remarks.
        unit: what is counted.
        has_edges: whether the file states edges of bins.
    """

    categories: CategoryTable
    source: str
    notes: list[str]
    unit: str = "train boxes"
    has_edges: bool = False


def of_annotations(train: Mapping[str, Any], val: Mapping[str, Any], source: str) -> Counted:
    """Count the boxes of training annotations.

    Args:
        train: content of the training annotations.
        val: content of the validation annotations.
        source: name of the training annotations, for messages.

    Raises:
        InputError: no valid annotations, or none of the validation classes is among them.
    """
    trained, listed = CategoryTable.from_annotations(train), _listed(val)
    info = train.get("info")
    has_edges = isinstance(info, Mapping) and bool(info.get("bin_edges"))
    name_of = dict(zip(trained.ids.tolist(), trained.names, strict=True))
    if all(name_of.get(category_id) == name for category_id, name in listed):
        return Counted(trained, f"the boxes of {source}", [], has_edges=has_edges)
    names = [name for _, name in listed]
    for own, what in ((names, "validation"), (trained.names, "training")):
        if twice := [name for name in dict.fromkeys(own) if list(own).count(name) > 1]:
            raise InputError(f"{source}: its classes have other ids than in validation, and {len(twice)} names stand "
                             f"twice in {what}: {first(twice)}")  # fmt: skip
    place = {name: label for label, name in enumerate(trained.names)}
    unknown = [name for name in names if name not in place]
    if len(unknown) == len(names):
        raise InputError(f"{source}: has none of the {len(names):,} classes of validation ({first(unknown)})")
    notes = ["ids of classes differ between training and validation: their names decide, and ids are validation's"]
    if unknown:
        notes.append(f"{len(unknown):,} classes of validation are not in training: {first(unknown)}")
    others = [name for name in trained.names if name not in set(names)]
    next_id = max(category_id for category_id, _ in listed) + 1
    rows = [(*pair, place.get(pair[1])) for pair in listed]
    rows += [(next_id + number, name, place[name]) for number, name in enumerate(others)]
    rows.sort()
    labels = np.array([-1 if row[2] is None else row[2] for row in rows])
    table = CategoryTable(
        ids=np.array([row[0] for row in rows], dtype=np.int64),
        names=tuple(row[1] for row in rows),
        image_counts=np.append(trained.image_counts, 0)[labels],
        instance_counts=np.append(trained.instance_counts, 0)[labels],
        frequencies=tuple(np.append(trained.frequencies, "r")[labels].tolist()),
        bin_edges=trained.bin_edges,
        num_images=trained.num_images,
        listed_ids=tuple(category_id for category_id, _ in listed),
    )
    return Counted(table, f"the boxes of {source}", notes, has_edges=has_edges)


def of_csv(path: Path, val: Mapping[str, Any]) -> Counted:
    """Read train counts from a CSV file: columns ``name`` or ``id``, one of ``COUNTS``, and perhaps ``image_count``.

    Raises:
        InputError: not such a file, a value that is no count, or a class without a row.
    """
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, skipinitialspace=True, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable as CSV ({str(error).strip()})") from error
    frame.columns = frame.columns.map(lambda name: str(name).strip().lower())
    column = next((name for name in COUNTS if name in frame), None)
    key = "name" if "name" in frame else "id"
    if column is None or key not in frame:
        raise InputError(f"{path}: found columns {first([*frame], 8)}, expected 'name' or 'id', and '{COUNTS[0]}'")
    listed = sorted(_listed(val))
    keys = [name if key == "name" else str(category_id) for category_id, name in listed]
    rows = {text.strip(): row for row, text in enumerate(frame[key])}
    if lacking := [text for text in keys if text.strip() not in rows]:
        raise InputError(f"{path}: column '{key}' lacks {len(lacking):,} of {len(keys):,} classes: {first(lacking)}")
    order = [rows[text.strip()] for text in keys]
    instances = frame[column].str.strip().iloc[order]
    images = frame["image_count"].str.strip().iloc[order] if "image_count" in frame else instances
    counts = {}
    for name, cells in ((column, instances), ("image_count", images.mask(images == "", instances))):
        if wrong := [cell for cell in cells if not (cell.isdecimal() and len(cell) < 16)]:
            raise InputError(f"{path}: column '{name}' has {wrong[0]!r:.40}, expected the number of train boxes")
        counts[name] = cells.astype(np.int64).to_numpy()
    table = _table(val, counts[column], counts["image_count"])
    others = len(frame) - len(set(order))
    notes = [f"{others:,} rows of {path.name} are of no class of validation, and are not used"] if others else []
    return Counted(table, f"the counts in {path.name}", notes)


def of_validation(val: Mapping[str, Any]) -> Counted:
    """Take the counts that the validation annotations state of training, as LVIS's do, or count their own boxes.

    Raises:
        InputError: no valid annotations.
    """
    table = CategoryTable.from_annotations(val)
    categories = sorted(val["categories"], key=lambda category: category["id"])
    if all(type(category.get("instance_count")) is int for category in categories):
        stated = CategoryTable.from_annotations({**val, "annotations": []})
        return Counted(stated, "the counts stated in the validation file (LVIS's are of training)", [])
    note = (
        "no train counts were given: classes are called rare by their boxes in validation, which may be others than "
        "in training ('--train-annotations' takes annotations, or a CSV file of counts)"
    )
    return Counted(table, "the validation boxes, as no train counts were given", [note], "validation boxes")


def binned(counted: Counted, asked: Sequence[int] | None) -> tuple[CategoryTable, list[str]]:
    """Give the classes their bins: those that are asked for or stated, each class its own if there are few, or fitting.

    Args:
        counted: the classes with their train counts.
        asked: edges of bins that were asked for.

    Returns:
        The classes, and a remark if edges were chosen.
    """
    table = counted.categories
    if asked:
        return replace(table, bin_edges=tuple(asked)), []
    if counted.has_edges:
        return table, []
    trained = table.instance_counts[table.instance_counts > 0]
    distinct = np.unique(trained)
    if len(distinct) < 2 or table.num_classes <= FEW_CLASSES:
        return replace(table, bin_edges=tuple(distinct[1:].tolist())), []
    edges, note = fitting_edges(table.instance_counts)
    return replace(table, bin_edges=edges), [note] if note else []


def titles(table: CategoryTable) -> dict[str, str]:
    """Return a name of each bin by its key: its class if it has one only, else its interval of train boxes."""
    found = {}
    for number in table.bin_numbers:
        inside = np.flatnonzero(table.bins == number)
        if table.num_classes <= FEW_CLASSES and 0 < len(inside) < 4:
            found[str(number)] = ", ".join(table.names[label] for label in inside)
        else:
            found[str(number)] = table.bin_names[number - 1] if number else "0"
    return found


def _listed(content: Mapping[str, Any]) -> list[tuple[int, str]]:
    """Return (id, name) of each category in the order of the file."""
    source = "validation annotations"
    categories = field_of(content, "categories", list, source)
    listed = [(field_of(c, "id", int, source), field_of(c, "name", str, source)) for c in categories]
    if not listed or len({category_id for category_id, _ in listed}) < len(listed):
        raise InputError(f"{source}: field 'categories' is empty or has an id twice, expected each class once")
    return listed


def _table(val: Mapping[str, Any], instances: np.ndarray, images: np.ndarray) -> CategoryTable:
    listed = _listed(val)
    ids, names = zip(*sorted(listed), strict=True)
    letters = {category["id"]: category.get("frequency") for category in val["categories"]}
    frequencies = tuple(
        str(letters[category_id]) if letters[category_id] in ("r", "c", "f") else lvis_frequency(int(count))
        for category_id, count in zip(ids, images, strict=True)
    )
    return CategoryTable(
        np.array(ids, dtype=np.int64), names, images, instances, frequencies,
        listed_ids=tuple(category_id for category_id, _ in listed),
    )  # fmt: skip
