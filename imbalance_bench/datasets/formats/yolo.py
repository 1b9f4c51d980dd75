"""YOLO: a ``data.yaml`` that names folders or lists of images, and a text file of labels for each image.

A row of a label file is a class, counted from 0 in the order of the YAML file's names, and centre, width and height of
a box as fractions of the image. A longer row is a polygon, or the four corners of a turned box; the smallest upright
box around it is taken. An image without a label file holds no object. Category ids are YOLO's classes.

Paths are found as ultralytics finds them: the labels of ``images/a.jpg`` in ``labels/a.txt``, and ``../train/images``,
as Roboflow writes it, one folder lower if it is not there. A row that reaches beyond its image by more than an error of
rounding is left out; ultralytics leaves out its image.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from imbalance_bench.datasets.formats.conversion import (
    IMAGES,
    ROUNDING,
    SPLITS,
    Oddities,
    as_text,
    below,
    coco_content,
    files_below,
    read_bytes,
    refuse,
    sizes,
    validation_name,
)
from imbalance_bench.datasets.formats.yolo_yaml import Data, read_yaml
from imbalance_bench.datasets.split import Split
from imbalance_bench.runtime.errors import InputError, first
from imbalance_bench.runtime.progress import Reporter
from imbalance_bench.runtime.waiting import in_threads

ROW = "a class, then x, y, width and height, or a polygon's x, y, x, y, ... of at least three points"
POLYGONS = "rows are polygons, and the boxes around them are taken"
BEYOND = "rows reach beyond their image by more than 1 % of it, and are left out"

Fractions = tuple[int, float, float, float, float]
"""Class, left, top, width and height of a box as fractions of its image."""


def read(root: Path, reporter: Reporter, splits: Sequence[str] = SPLITS) -> dict[str, Split]:
    """Read splits of a ``data.yaml``, or of the folder that holds it.

    Raises:
        InputError: the file, a split or a row is missing or malformed.
    """
    data, found = read_yaml(root), {}
    if "train" in splits:
        if "train" not in data.entries:
            expected = "expected a folder of images or a file of their paths"
            raise InputError(f"{data.path}: field 'train' is missing, {expected}")
        found["train"] = _split(data, "train", data.notes, reporter)
    if "val" in splits:
        val, notes = validation_name(data.entries, str(data.path))
        found["val"] = _split(data, val, notes if "train" in splits else (*data.notes, *notes), reporter)
    return found


def _split(data: Data, key: str, notes: Sequence[str], reporter: Reporter) -> Split:
    odd, problems = Oddities(), list[str]()
    paths = _images(data, key, odd)
    labels = [_label_path(path) for path in paths]
    with reporter.task(f"reading {data.path.name}, {key}", 2 * len(paths)) as advance:
        texts = in_threads(read_bytes, labels, advance)
        if all(text is None for text in texts):
            raise InputError(
                f"{labels[0]}: no such file, and none of {len(paths):,} images of '{key}' has a label file"
            )
        measured = sizes(paths, advance)
    images, boxes = [], []
    used: set[str] = set()
    for number, (path, label, text, (width, height)) in enumerate(zip(paths, labels, texts, measured, strict=True), 1):
        name = below(path, data.base)
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        if text is None:
            odd.add("images have no label file, and are taken to hold no object", name)
            continue
        if label in used:
            odd.add("images share their label file with another image", name)
        used.add(label)
        for category, x, y, w, h in _rows(text, label, data, odd, problems):
            boxes.append((number, category, x * width, y * height, w * width, h * height, False))
    refuse(problems)
    if not boxes and (count := odd.counts[BEYOND]):
        raise InputError(
            f"{data.path}: field '{key}': all {count:,} rows of labels reach beyond their images, expected fractions "
            f"of the image (0 to 1): {first(odd.places[BEYOND])}"
        )
    return Split(data.path, Path(data.base), coco_content(dict(enumerate(data.names)), images, boxes),
                 (*notes, *odd.notes()))  # fmt: skip


def _images(data: Data, key: str, odd: Oddities) -> list[str]:
    """Return the absolute paths of a split's images, each once.

    Raises:
        InputError: an entry of the split is not there, or holds no image.
    """
    paths: list[str] = []
    for entry in data.entries[key]:
        place = _found(data, key, entry)
        here = files_below(Path(place), IMAGES) if os.path.isdir(place) else _listed(place, data.base)
        if not here:
            raise InputError(f"{data.path}: field '{key}': {place} holds no images ({', '.join(sorted(IMAGES))})")
        paths += here
        if os.path.isdir(place):
            labels = {_label_path(path) for path in here}
            folder = os.path.dirname(_label_path(os.path.join(place, "image.jpg")))
            for path in files_below(Path(folder), (".txt",)) if os.path.isdir(folder) else ():
                if path not in labels and os.path.basename(path) != "classes.txt":
                    odd.add("label files have no image", below(path, data.base))
    for path, count in Counter(paths).items():
        if count > 1:
            odd.add(f"images are named more than once in '{key}', and are taken once", below(path, data.base))
    return list(dict.fromkeys(paths))


def _found(data: Data, key: str, entry: str) -> str:
    """Return the absolute path of an entry of a split: a folder, or a file of paths."""
    places = [os.path.abspath(os.path.join(data.base, path)) for path in (entry, entry.removeprefix("../"))]
    for place in places:
        if os.path.isdir(place) or (os.path.isfile(place) and place.endswith(".txt")):
            return place
    raise InputError(
        f"{data.path}: field '{key}': {' or '.join(dict.fromkeys(places))}: no such folder, and no .txt file of paths"
    )


def _listed(place: str, base: str) -> list[str]:
    """Return the absolute paths in a file of paths, which are relative to its folder, or else to the data set's."""
    paths = []
    for line in as_text(read_bytes(place) or b"", place).splitlines():
        if line.strip():
            own = os.path.join(os.path.dirname(place), line.strip())
            there = own if os.path.exists(own) else os.path.join(base, line.strip())
            paths.append(os.path.abspath(there if os.path.exists(there) else own))
    return paths


def _label_path(image: str) -> str:
    """Return the path of an image's labels: the last folder ``images`` becomes ``labels``, and the ending ``.txt``."""
    folders = f"{os.sep}labels{os.sep}".join(image.rsplit(f"{os.sep}images{os.sep}", 1))
    return f"{os.path.splitext(folders)[0]}.txt"


def _rows(content: bytes, path: str, data: Data, odd: Oddities, problems: list[str]) -> Iterator[Fractions]:
    """Yield the boxes of a label file, each once; add to what is odd, and to what cannot be understood."""
    name = below(path, data.base)
    longer = "rows have keypoints, which are not used" if data.poses else POLYGONS
    seen: set[Fractions] = set()
    for number, line in enumerate(as_text(content, path).splitlines(), start=1):
        row = line.split()
        if not row:
            continue
        try:
            box, values = _box(row, len(data.names), data.poses)
        except ValueError as error:
            problems.append(f"{path}: line {number} {error}")
            continue
        if min(values) < -ROUNDING or max(values) > 1 + ROUNDING:
            odd.add(BEYOND, f"{name} line {number}")
        elif box in seen:
            odd.add("rows stand twice in their file, and are taken once", f"{name} line {number}")
        else:
            if len(row) > 5:
                odd.add(longer, f"{name} line {number}")
            seen.add(box)
            yield box


def _box(row: Sequence[str], classes: int, poses: bool) -> tuple[Fractions, list[float]]:
    """Return a row's box, and its coordinates as they stand.

    Raises:
        ValueError: the row cannot be understood; the message follows "line 7".
    """
    try:
        category, *values = map(float, row)
    except ValueError as error:
        raise ValueError(f"is '{' '.join(row):.60}', expected numbers: {ROW}") from error
    if not all(map(math.isfinite, (category, *values))):
        raise ValueError(f"is '{' '.join(row):.60}', expected finite numbers: {ROW}")
    if category not in range(classes):
        raise ValueError(f"has class {row[0]:.20}, expected 0 to {classes - 1}, as there are {classes:,} names")
    if poses and len(values) > 4:
        values = values[:4]
    if len(values) == 4:
        x, y, w, h = values
        return (int(category), x - w / 2, y - h / 2, w, h), values
    if len(values) < 6 or len(values) % 2:
        raise ValueError(f"has {len(row)} numbers, expected {ROW}")
    left, top = min(values[::2]), min(values[1::2])
    return (int(category), left, top, max(values[::2]) - left, max(values[1::2]) - top), values
