"""What all readers of formats share: files below a folder, sizes of images, COCO-format content, and what was odd."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from imbalance_bench.runtime.errors import InputError, first
from imbalance_bench.runtime.progress import Advance
from imbalance_bench.runtime.waiting import in_threads

IMAGES = frozenset({".bmp", ".jpe", ".jpeg", ".jpg", ".mpo", ".png", ".tif", ".tiff", ".webp"})
"""Endings of names of images."""

ROUNDING = 0.01
"""How far beyond an image a coordinate may be by rounding, as a fraction of the image's side; ultralytics allows it."""

SPLITS = ("train", "val")
"""Names of the splits that readers return."""

VALIDATION = ("val", "valid", "validation", "test")
"""Names of a validation split, the best first."""

UNKNOWN = (1, 1)
"""Size of an image that cannot be read: ``images.checked`` names it, or leaves it out."""

Box = tuple[int, int, float, float, float, float, bool]
"""Image id, category id, x, y, width and height in pixels, and whether it is a crowd region."""


class Oddities:
    """Counts of what is odd but harmless, with the first places of each kind."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.places: defaultdict[str, list[str]] = defaultdict(list)

    def add(self, what: str, place: str) -> None:
        """Count a case of ``what``, which follows a number in a sentence."""
        self.counts[what] += 1
        if len(self.places[what]) < 4:
            self.places[what].append(place)

    def notes(self) -> tuple[str, ...]:
        """Describe each kind in one line: how often, what, and the first places."""
        return tuple(f"{count:,} {what}: {first(self.places[what])}" for what, count in self.counts.items())


def refuse(problems: Sequence[str]) -> None:
    """Refuse what cannot be understood.

    Args:
        problems: place and expectation of each.

    Raises:
        InputError: there is one; the message is the first, and counts the others.
    """
    if problems:
        others = f" ({len(problems) - 1:,} more places are wrong: {first(problems[1:], 2)})" if problems[1:] else ""
        raise InputError(f"{problems[0]}{others}")


def validation_name(known: Collection[str], source: str) -> tuple[str, tuple[str, ...]]:
    """Return the name of the validation split among those of a data set, and a note if it is the test split.

    Raises:
        InputError: there is none.
    """
    name = next((name for name in VALIDATION if name in known), None)
    if name is None:
        raise InputError(
            f"{source}: no validation split ({', '.join(VALIDATION[:-1])} or test): set some of the training images "
            "aside as one, with their labels"
        )
    return name, ("the validation split is 'test', as there is no 'val'",) if name == "test" else ()


def files_below(folder: Path, endings: Collection[str]) -> list[str]:
    """Return the paths of the files with one of some endings below a folder, sorted; hidden ones are left out.

    Links are followed, after folders. A folder that is reached twice, as by links in a circle, is entered once.

    Raises:
        InputError: a folder cannot be listed.
    """

    def stop(error: OSError) -> None:
        raise InputError(f"{error.filename}: not readable as a folder ({error.strerror})")

    entered: set[tuple[int, int]] = set()
    found: list[str] = []
    for place, folders, names in os.walk(folder, followlinks=True, onerror=stop):
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in entered:
            folders.clear()
            continue
        entered.add((status.st_dev, status.st_ino))
        folders[:] = sorted(
            (name for name in folders if not name.startswith(".")),
            key=lambda name: (os.path.islink(os.path.join(place, name)), name),
        )
        for name in names:
            if os.path.splitext(name)[1].lower() in endings and not name.startswith("."):
                found.append(os.path.join(place, name))
    return sorted(found)


def read_bytes(path: str) -> bytes | None:
    """Read a small file; None if it is not there.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable ({getattr(error, 'strerror', None) or error})") from error


def as_text(content: bytes, path: str) -> str:
    """Decode UTF-8, with or without a byte-order mark.

    Raises:
        InputError: it is something else.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not readable as text, expected UTF-8 ({error.reason})") from error


def below(path: str, folder: str) -> str:
    """Return a path relative to a folder if it lies below it, else the path; both are absolute."""
    return path.removeprefix(folder.rstrip(os.sep) + os.sep)


def stem(path: str) -> str:
    """Return the name of a file without folder and ending."""
    return os.path.splitext(os.path.basename(path))[0]


def sizes(paths: Sequence[str], advance: Advance | None = None) -> list[tuple[int, int]]:
    """Return (width, height) of images as training reads them, by their headers; ``UNKNOWN`` if that is impossible."""
    from imbalance_bench.datasets import images

    reader = images.Reader()
    seen = in_threads(lambda path: images.look(Path(path), reader), paths, advance)
    return [(found.size[1], found.size[0]) if found.size else UNKNOWN for found in seen]


def coco_content(
    categories: Mapping[int, str], images: Sequence[Mapping[str, Any]], boxes: Iterable[Box]
) -> dict[str, Any]:
    """Return COCO-format content; coordinates are rounded to a thousandth of a pixel, and ids count from 1.

    Args:
        categories: name of each category, by id.
        images: records with ``id``, ``file_name``, ``width`` and ``height``.
        boxes: all boxes.
    """
    annotations = [
        {
            "id": number,
            "image_id": image_id,
            "category_id": category_id,
            "bbox": [round(x, 3), round(y, 3), round(w, 3), round(h, 3)],
            "area": round(w * h, 3),
            "iscrowd": int(crowd),
        }
        for number, (image_id, category_id, x, y, w, h, crowd) in enumerate(boxes, start=1)
    ]
    names = [{"id": category_id, "name": name} for category_id, name in categories.items()]
    return {"images": list(images), "annotations": annotations, "categories": names}
