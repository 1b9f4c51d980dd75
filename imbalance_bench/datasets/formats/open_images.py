"""Open Images, V4 to V7: boxes, names of classes and verified labels of images in CSV files.

Beside ``*-annotations-bbox.csv`` lie ``*class-descriptions-boxable.csv``, whose order is that of the categories (ids
from 1), and ``*-annotations-human-imagelabels-boxable.csv``, the labels that people verified of whole images. Of a
class that is neither verified nor boxed in an image nobody knows whether it is there: with these labels evaluation is
federated, as LVIS's is. Verified absent classes are an image's ``neg_category_ids``.

A box around a group (``IsGroupOf``) is a crowd region. LVIS's rules know none, so in a federated validation split such
boxes are left out, and their class is listed in ``not_exhaustive_category_ids``: what is found there is neither right
nor wrong, as in Open Images' own evaluation. Its expansion of labels by the hierarchy of classes is not done.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from imbalance_bench.datasets.formats.conversion import (
    IMAGES,
    ROUNDING,
    Box,
    Oddities,
    as_text,
    below,
    coco_content,
    files_below,
    read_bytes,
    sizes,
    stem,
)
from imbalance_bench.datasets.split import Split
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.progress import Reporter

CORNERS = ["XMin", "XMax", "YMin", "YMax"]
BOXES, LABELS = "-annotations-bbox.csv", "-annotations-human-imagelabels-boxable.csv"
ROWS = 1 << 20
"""Rows that are read at once: the training split has 14.6 million boxes."""


def convert(splits: Mapping[str, Split], reporter: Reporter) -> dict[str, Split]:
    """Read the boxes and labels of both splits.

    Args:
        splits: CSV files of boxes, and folders of images.
        reporter: reporter that shows progress.

    Raises:
        InputError: a file is missing or malformed.
    """
    names = _names(splits["train"].annotations.parent)
    return {key: _convert(split, names, key == "val", reporter) for key, split in splits.items()}


def _names(folder: Path) -> dict[str, str]:
    """Return the names of the classes by their labels (``/m/01g317``), in the order of the file."""
    path = _beside(folder, "*class-descriptions-boxable.csv")
    if path is None:
        raise InputError(f"{folder}: no *class-descriptions-boxable.csv, expected labels and names of classes")
    names: dict[str, str] = {}
    lines = as_text(read_bytes(str(path)) or b"", str(path)).splitlines()
    for number, row in enumerate(csv.reader(lines), start=1):
        if row == ["LabelName", "DisplayName"] or not row:
            continue
        if len(row) != 2 or not all(row) or row[0] in names:
            raise InputError(f"{path}: line {number} is {row!r:.60}, expected a label that is new, and its name")
        names[row[0]] = row[1]
    if not names:
        raise InputError(f"{path}: holds no class, expected a label and a name on each line")
    return names


def _convert(split: Split, names: Mapping[str, str], evaluated: bool, reporter: Reporter) -> Split:
    odd = Oddities()
    ids = {label: number for number, label in enumerate(names, start=1)}
    boxes, labels = _boxes(split.annotations, ids), _labels(split.annotations, ids, odd)
    image_ids = sorted({*boxes["ImageID"], *(() if labels is None else labels["ImageID"])})
    paths = _paths(image_ids, split.images, odd)
    with reporter.task(f"reading the images of {split.annotations.name}", len(paths)) as advance:
        measured = np.array(sizes(paths, advance)).reshape(-1, 2)
    images: list[dict[str, Any]] = [
        {"id": number, "file_name": below(path, str(split.images)), "width": width, "height": height}
        for number, (path, (width, height)) in enumerate(zip(paths, measured.tolist(), strict=True), start=1)
    ]
    number_of = pd.Index(image_ids, dtype=object)
    boxes["image"] = number_of.get_indexer(boxes["ImageID"]) + 1
    groups = boxes[boxes["IsGroupOf"] == 1]
    what, notes = "boxes are around groups of objects: crowd regions", list[str]()
    if labels is None:
        notes.append(f"no *{LABELS} beside {split.annotations.name}: every class is taken as annotated in every image")
    else:
        labels["image"] = number_of.get_indexer(labels["ImageID"]) + 1
        _list_classes(images, boxes, groups, labels, odd)
        if evaluated:
            what = "boxes are around groups of objects, and are left out; their classes are not exhaustive there"
            boxes = boxes.drop(groups.index)
    for image in groups["ImageID"]:
        odd.add(what, image)
    content = coco_content(dict(enumerate(names.values(), start=1)), images, _in_pixels(boxes, measured))
    return Split(split.annotations, split.images, content, (*notes, *odd.notes()))


def _boxes(path: Path, ids: Mapping[str, int]) -> pd.DataFrame:
    """Read the boxes, and check that their classes are known and their corners in the image."""
    boxes = _read(path, [*CORNERS, "IsGroupOf"])
    boxes["category"] = boxes["LabelName"].map(ids)
    beyond = ((boxes[CORNERS] < -ROUNDING) | (boxes[CORNERS] > 1 + ROUNDING)).any(axis=1)
    for rows, what in (
        (beyond, "a corner is beyond the image, expected fractions of it (0 to 1)"),
        (boxes["category"].isna(), "field 'LabelName' is not in the file of class descriptions"),
    ):
        if rows.any():
            others = f" (and in {rows.sum() - 1:,} more lines)" if rows.sum() > 1 else ""
            raise InputError(f"{path}: line {boxes.index[rows][0] + 2}: {what}{others}")
    return boxes


def _labels(path: Path, ids: Mapping[str, int], odd: Oddities) -> pd.DataFrame | None:
    """Read the verified labels beside a file of boxes; None if there is no such file."""
    split = path.name.removesuffix(BOXES).rpartition("-")[2]
    listed = _beside(path.parent, f"*{split}{LABELS}")
    if listed is None:
        return None
    labels = _read(listed, ["Confidence"])
    labels["category"] = labels["LabelName"].map(ids)
    for label in labels.loc[labels["category"].isna(), "LabelName"]:
        odd.add(f"labels of {listed.name} are not in the file of class descriptions, and are left out", label)
    return labels.dropna(subset="category").astype({"category": int})


def _list_classes(
    images: Sequence[dict[str, Any]], boxes: pd.DataFrame, groups: pd.DataFrame, labels: pd.DataFrame, odd: Oddities
) -> None:
    """Add to each image the classes that are absent for certain, and those that are not boxed one by one."""
    for image in images:
        image |= {"neg_category_ids": [], "not_exhaustive_category_ids": []}
    pair = ["image", "category"]
    absent = labels.loc[labels["Confidence"] == 0, pair].drop_duplicates().sort_values(pair)
    boxed = absent.merge(boxes[pair].drop_duplicates(), how="left", indicator=True)["_merge"].to_numpy() == "both"
    for number in absent.loc[boxed, "image"]:
        odd.add(
            "classes are verified as absent from an image that has a box of them, and are taken as there",
            images[number - 1]["file_name"],
        )
    open_ones = groups[pair].drop_duplicates().sort_values(pair)
    for field, rows in (("neg_category_ids", absent[~boxed]), ("not_exhaustive_category_ids", open_ones)):
        for number, category in zip(rows["image"].tolist(), rows["category"].tolist(), strict=True):
            images[number - 1][field].append(category)


def _in_pixels(boxes: pd.DataFrame, measured: np.ndarray) -> Iterator[Box]:
    """Yield the boxes in pixels.

    Args:
        boxes: corners as fractions, ``image`` counted from 1, ``category`` and ``IsGroupOf``.
        measured: (I, 2) width and height of the images.
    """
    width, height = measured[boxes["image"] - 1].T
    left, right, top, bottom = (boxes[corner].to_numpy() for corner in CORNERS)
    columns = (
        boxes["image"].to_numpy(), boxes["category"].to_numpy(), left * width, top * height, (right - left) * width,
        (bottom - top) * height, (boxes["IsGroupOf"] == 1).to_numpy(),
    )  # fmt: skip
    return zip(*(column.tolist() for column in columns), strict=True)


def _paths(image_ids: Sequence[str], folder: Path, odd: Oddities) -> list[str]:
    """Return the path of each image, wherever it is below the folder; that of a missing one is where it should be."""
    there: dict[str, str] = {}
    for path in files_below(folder, IMAGES):
        if stem(path) in there:
            odd.add("images have another one of their name, which is taken", below(path, str(folder)))
        there.setdefault(stem(path), path)
    return [there.get(image_id, str(folder / f"{image_id}.jpg")) for image_id in image_ids]


def _beside(folder: Path, pattern: str) -> Path | None:
    """Return the first file by name that has a pattern; None if there is none."""
    return min(folder.glob(pattern), default=None)


def _read(path: Path, numbers: list[str]) -> pd.DataFrame:
    """Read ``ImageID``, ``LabelName`` and columns of finite numbers from a CSV file; row k is on line k + 2.

    Raises:
        InputError: the file is unreadable, lacks a column, or has a value that is no number.
    """
    columns = ["ImageID", "LabelName", *numbers]
    parts = []
    try:
        for part in pd.read_csv(
            path, usecols=columns, dtype=str, keep_default_na=False, chunksize=ROWS, encoding="utf-8-sig"
        ):
            for column in numbers:
                values = pd.to_numeric(part[column], errors="coerce")
                if len(wrong := part.index[~np.isfinite(values)]):
                    text = part.loc[wrong[0], column]
                    raise InputError(
                        f"{path}: line {wrong[0] + 2}: field '{column}' is {text!r:.40}, expected a number"
                    )
                part[column] = values
            if len(wrong := part.index[~part["ImageID"].str.fullmatch(r"[\w.-]+")]):
                text = part.loc[wrong[0], "ImageID"]
                raise InputError(f"{path}: line {wrong[0] + 2}: field 'ImageID' is {text!r:.40}, expected a name")
            parts.append(part)
        return pd.concat(parts)
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file, expected a CSV of Open Images") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable as CSV with columns {', '.join(columns)} ({error})") from error
