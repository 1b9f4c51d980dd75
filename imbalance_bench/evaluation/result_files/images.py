"""Whose image a detection is of: by file name where a file has names, else by id, else by a number in the name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from imbalance_bench.evaluation.ground_truth import GroundTruth
from imbalance_bench.evaluation.result_files.found import Found, Keys
from imbalance_bench.evaluation.result_files.overlaps import LEAST, boxes_met
from imbalance_bench.runtime.equality import ByValue
from imbalance_bench.runtime.errors import InputError, first

NONE, SEVERAL = -1, -2
"""Places of what the annotations do not list, and of a name that several images have."""
FOLDERS = 16
"""Number of folders of a path that are looked at."""


@dataclass(frozen=True, eq=False)
class Listed(ByValue):
    """The images of annotations, as they list them.

    Attributes:
        ids: (I,) id of each image in the order of the file.
        places: (I,) its place in ``GroundTruth.image_ids``.
        names: its file name, or None.
    """

    ids: list[int]
    places: np.ndarray
    names: list[str | None]

    @classmethod
    def of(cls, truth: GroundTruth) -> Listed:
        """Return the images of annotations."""
        listed = truth.content["images"]
        ids = [image["id"] for image in listed]
        places = np.searchsorted(truth.image_ids, np.array(ids, dtype=np.int64))
        return cls(ids, places, [image.get("file_name") for image in listed])


class _Reading(NamedTuple):
    """One meaning of the values in a column: the place of each distinct value's image."""

    how: str
    keys: Keys
    places: np.ndarray


class Match(NamedTuple):
    """The (D,) place of each detection's image, negative for none, how it was found, and remarks."""

    places: np.ndarray
    how: str
    notes: tuple[str, ...]


def match(found: Found, truth: GroundTruth, source: str) -> Match:
    """Find the image of each detection.

    Raises:
        InputError: the annotations list none of them, or another number of images where a file has them in order.
    """
    listed = Listed.of(truth)
    if found.rows.images_in_order is not None:
        return _in_order(found, listed, source)
    names = _Names(listed)
    readings: list[_Reading] = []
    if (keys := found.image_names) is not None:
        readings = [_Reading("by file name", keys, np.array([names.find(str(value)) for value in keys.values], int))]
    if (keys := found.image_ids) is not None and not any((reading.places >= 0).any() for reading in readings):
        readings = _readings_of_ids(keys, listed, names)
    chosen = _choose(readings, found, truth)
    return Match(chosen.places[chosen.keys.codes], chosen.how, _left_out(chosen, listed, source))


def _in_order(found: Found, listed: Listed, source: str) -> Match:
    """Take the images as the annotations list them."""
    count, keys = found.rows.images_in_order, found.image_ids
    if count != len(listed.ids):
        raise InputError(f"{source}: names none of its {count:,} images, so they are taken in the order of the "
                         f"annotations, which have {len(listed.ids):,}: expected as many")  # fmt: skip
    assert keys is not None
    place = np.asarray(keys.values, dtype=np.int64)[keys.codes] if len(keys.values) else keys.codes
    return Match(listed.places[place], "in the order of the annotations", ())


def _readings_of_ids(keys: Keys, listed: Listed, names: _Names) -> list[_Reading]:
    """Return what ids may mean: ids of images, and names or numbers in names; text is rather a name."""
    place_of = dict(zip(listed.ids, listed.places.tolist(), strict=True))
    by_id, by_name = [], []
    for value in keys.values:
        number = value if isinstance(value, int) else _number(value)
        named = names.number(value) if isinstance(value, int) else names.find(value)
        by_id.append(named if number is None else place_of.get(number, NONE))
        by_name.append(named)
    texts = sum(isinstance(value, str) for value in keys.values)
    readings = [
        _Reading("by id", keys, np.array(by_id, int)),
        _Reading("by file name" if texts else "by the number in the file name", keys, np.array(by_name, int)),
    ]
    return readings[::-1] if texts == len(keys.values) else readings


def _choose(readings: list[_Reading], found: Found, truth: GroundTruth) -> _Reading:
    """Return the reading that finds most images; of two, rather the one that clearly meets more annotated boxes."""
    best, *others = sorted(readings, key=lambda reading: -int((reading.places >= 0).sum()))
    for other in others:
        if (other.places >= 0).any() and not np.array_equal(best.places, other.places):
            met, so = (_boxes_met(reading, found, truth) for reading in (best, other))
            if so >= LEAST and so > 2 * met:
                best = other
    return best


def _boxes_met(reading: _Reading, found: Found, truth: GroundTruth) -> int:
    places = reading.places[reading.keys.codes]
    rows = np.flatnonzero(places >= 0)
    return len(boxes_met(found.boxes[rows], found.scores[rows], places[rows], truth).labels)


def _left_out(reading: _Reading, listed: Listed, source: str) -> tuple[str, ...]:
    """Describe the images that the annotations do not list.

    Raises:
        InputError: they list none.
    """
    keys, places = reading.keys, reading.places
    unknown = [value for value, place in zip(keys.values, places.tolist(), strict=True) if place < 0]
    if not unknown:
        return ()
    several = int((places == SEVERAL).sum())
    which = f" ({several:,} of them as several have the name)" if several else ""
    if len(unknown) == len(keys.values):
        theirs = [name for name in listed.names if name]
        named = f"file names such as {first(theirs, 2)}" if theirs else "no file names"
        raise InputError(
            f"{source}: field '{keys.name}': none of the images ({len(unknown):,}) is found in the annotations{which}, "
            f"which have ids such as {first(listed.ids, 2)} and {named}: found {first(unknown)}"
        )
    lost = int((places[keys.codes] < 0).sum())
    return (
        f"left out: {lost:,} of {len(keys.codes):,} detections, on {len(unknown):,} of {len(keys.values):,} images "
        f"that are not found in the annotations{which}: {first(unknown)}",
    )


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) < 19 else None


class _Names:
    """Images by the end of their path, with and without the suffix, and by a number that is the name."""

    def __init__(self, listed: Listed) -> None:
        self.whole: dict[str, int] = {}
        self.stems: dict[str, int] = {}
        self.numbers: dict[int, int] = {}
        for name, place in zip(listed.names, listed.places.tolist(), strict=True):
            if name is None:
                continue
            for end in _ends(name):
                stem = os.path.splitext(end)[0]
                _add(self.whole, end, place)
                _add(self.stems, stem, place)
                if (number := _number(stem)) is not None:
                    _add(self.numbers, number, place)

    def find(self, name: str) -> int:
        """Return the place of an image by as much of its path as fits."""
        ends = [*_ends(name)]
        stems = [os.path.splitext(end)[0] for end in ends]
        for table, keys in ((self.whole, ends), (self.stems, ends), (self.stems, stems)):
            for key in keys:
                if key in table:
                    return table[key]
        return NONE

    def number(self, value: int) -> int:
        """Return the place of the image whose name is a number."""
        return self.numbers.get(value, NONE)


def _add(table: dict, key: str | int, place: int) -> None:  # type: ignore[type-arg]
    if table.setdefault(key, place) != place:
        table[key] = SEVERAL


def _ends(path: str) -> Iterator[str]:
    """Yield a path, then without its first folder, and so on to the name alone."""
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")][-FOLDERS:]
    for start in range(len(parts)):
        yield "/".join(parts[start:])
