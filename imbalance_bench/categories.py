"""Category ids, names and training counts, which only this module handles.

All other modules refer to a class by its *label*: 0..C-1 in ascending order of category id, background last (C).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from imbalance_bench.bins import EXPECTED_EDGES, LVIS_BIN_EDGES, are_bin_edges, bin_index, bin_names, tail_bins
from imbalance_bench.runtime.arrays import as_array
from imbalance_bench.runtime.equality import ByValue
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.files import load_json
from imbalance_bench.runtime.json_values import whole

FREQUENCIES = ("r", "c", "f")
"""LVIS's letters: rare, common, frequent."""


def lvis_frequency(image_count: int) -> str:
    """Return the letter of a category by LVIS v0.5's rule on training images: r up to 10, c up to 100, f above."""
    return "r" if image_count <= 10 else "c" if image_count <= 100 else "f"


def background_id(ids: np.ndarray) -> int:
    """Return the id of background in tables: 0, or below all category ids if one of them is 0 or less."""
    return min(0, int(ids.min()) - 1)


def is_object(annotation: Mapping[str, Any]) -> bool:
    """Tell whether an annotation is used for training and counts: not a crowd region, and not a box without area.

    If the box is missing or malformed, the annotation counts; functions that need boxes check them.
    """
    if annotation.get("iscrowd"):
        return False
    box = annotation.get("bbox")
    sides = box[2:] if isinstance(box, list) and len(box) == 4 else ()
    return not any(isinstance(side, int | float) and side <= 0 for side in sides)


@dataclass(frozen=True, eq=False)
class CategoryTable(ByValue):
    """The categories of a data set in label order, with counts over its *training* annotations.

    Attributes:
        ids: (C,) category ids, ascending.
        names: C names.
        image_counts: (C,) training images that hold the category (RFS, r/c/f and LVIS methods use these).
        instance_counts: (C,) training boxes (bins, BAGS and re-weighting use these).
        frequencies: C letters, LVIS's r, c or f.
        bin_edges: lower bounds of bins 2, 3, ...; a property of the data set.
        num_images: training images; 0 if only counts are known.
        listed_ids: the ids in the order of the file that they were read from; empty if the order is not known.
        untrained_in_bins: whether classes without a train instance are of bin 1. Otherwise they are of bin 0, which no
            mean over bins or all classes includes: nothing can be learned of them. LVIS has none.

    Example:
        >>> table = CategoryTable.from_arrays([4, 120, 2500], names=["ladle", "kite", "chair"])
        >>> table.num_classes, table.background, table.bin_names
        (3, 3, ['[0,10)', '[10,100)', '[100,1000)', '[1000,inf)'])
        >>> table == CategoryTable.from_arrays([4, 120, 2500])
        False
    """

    ids: np.ndarray
    names: tuple[str, ...]
    image_counts: np.ndarray
    instance_counts: np.ndarray
    frequencies: tuple[str, ...]
    bin_edges: tuple[int, ...] = LVIS_BIN_EDGES
    num_images: int = 0
    listed_ids: tuple[int, ...] = ()
    untrained_in_bins: bool = False

    def __post_init__(self) -> None:
        lengths = {len(self.ids), len(self.names), len(self.image_counts), len(self.instance_counts),
                   len(self.frequencies)}  # fmt: skip
        if len(lengths) != 1:
            raise ValueError(f"category columns differ in length: {sorted(lengths)}")
        if np.any(self.ids[1:] <= self.ids[:-1]):
            raise ValueError("category ids must ascend strictly")
        if not are_bin_edges(self.bin_edges):
            raise ValueError(f"bin edges are {self.bin_edges}, {EXPECTED_EDGES}")

    @property
    def num_classes(self) -> int:
        """The number of foreground classes, C."""
        return len(self.ids)

    @property
    def background(self) -> int:
        """The label of background: C, the last index."""
        return self.num_classes

    @property
    def total_images(self) -> int:
        """The number of training images, I; if only counts are known, the largest image count plus one."""
        return max(self.num_images, int(self.image_counts.max()) + 1)

    @property
    def bins(self) -> np.ndarray:
        """The (C,) bin 1.. of each class by train instances; 0 without one, unless no class has any (not counted)."""
        bins = bin_index(self.instance_counts, self.bin_edges)
        if self.untrained_in_bins or not self.instance_counts.any():
            return bins
        return np.where(self.instance_counts > 0, bins, 0)

    @property
    def num_bins(self) -> int:
        """The number of bins, including empty bins."""
        return len(self.bin_edges) + 1

    @property
    def bin_numbers(self) -> list[int]:
        """The numbers of all bins: 1.., and before them 0 where a class has no train instance."""
        return [0] * bool((self.bins == 0).any()) + list(range(1, self.num_bins + 1))

    @property
    def binned_labels(self) -> np.ndarray:
        """The labels of the classes of bins 1.., over which means over all classes are computed."""
        return np.flatnonzero(self.bins)

    @property
    def bin_names(self) -> list[str]:
        """The interval of each bin, e.g. ``['[0,10)', '[10,100)', ...]``."""
        return bin_names(self.bin_edges)

    @property
    def bins_line(self) -> str:
        """The intervals of the bins in a line, and how many classes are of none, for captions."""
        apart = int((self.bins == 0).sum())
        left = f"; {apart} without training instances, in no bin and no mean over classes" if apart else ""
        return f"bins by train instances: {', '.join(self.bin_names)}{left}"

    @property
    def tail_bins(self) -> list[int]:
        """The numbers of the tail bins, the lower half; see ``bins.tail_bins``."""
        return tail_bins(self.bin_edges)

    @property
    def head_labels(self) -> list[int]:
        """The labels of the classes in the head bins."""
        return np.flatnonzero(self.bins > len(self.tail_bins)).tolist()

    @property
    def tail_labels(self) -> list[int]:
        """The labels of the classes in the tail bins."""
        return np.flatnonzero(np.isin(self.bins, self.tail_bins)).tolist()

    def subset(self, labels: Sequence[int] | np.ndarray) -> CategoryTable:
        """Return the table of some of the classes; ``labels`` must ascend."""
        keep = np.asarray(labels, dtype=np.int64)
        ids = self.ids[keep]
        return replace(
            self,
            ids=ids,
            names=tuple(self.names[label] for label in keep),
            image_counts=self.image_counts[keep],
            instance_counts=self.instance_counts[keep],
            frequencies=tuple(self.frequencies[label] for label in keep),
            listed_ids=tuple(i for i in self.listed_ids if i in set(ids.tolist())),
        )

    def listed(self) -> list[tuple[int, str]]:
        """Return (id, name) of each category in the order of the file, or by ascending id if it is not known."""
        name_of = dict(zip(self.ids.tolist(), self.names, strict=True))
        return [(category_id, name_of[category_id]) for category_id in self.listed_ids or name_of]

    def labels_of(self, category_ids: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return the labels of category ids; raises KeyError for an id that is not in the table."""
        category_ids = np.asarray(category_ids, dtype=np.int64)
        labels = np.searchsorted(self.ids, category_ids).clip(max=self.num_classes - 1)
        unknown = category_ids[self.ids[labels] != category_ids]
        if len(unknown):
            raise KeyError(f"category id {unknown[0]} is not among the {self.num_classes} categories")
        return labels

    def frame(self, background: bool = False) -> pd.DataFrame:
        """Return the table as a DataFrame, index ``label``; it is the left side of every per-category join.

        Args:
            background: add it as the last row: counts and bin 0, no frequency, an id that no category has
                (``background_id``).
        """
        columns = {
            "id": self.ids,
            "name": list(self.names),
            "image_count": self.image_counts,
            "instance_count": self.instance_counts,
            "frequency": list(self.frequencies),
            "bin": self.bins,
        }
        frame = pd.DataFrame(columns, index=pd.RangeIndex(self.num_classes, name="label"))
        if background:
            frame.loc[self.background] = [background_id(self.ids), "background", 0, 0, "", 0]
        return frame

    def in_file_order(self) -> CategoryTable:
        """Return the table in the order of its file, with ids 1..C; mmdet's data sets assign labels in this order."""
        order = np.array([self.ids.tolist().index(listed) for listed in self.listed_ids or self.ids], dtype=np.int64)
        return replace(
            self,
            ids=np.arange(1, self.num_classes + 1),
            names=tuple(self.names[label] for label in order),
            image_counts=self.image_counts[order],
            instance_counts=self.instance_counts[order],
            frequencies=tuple(self.frequencies[label] for label in order),
            listed_ids=(),
        )

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> CategoryTable:
        """Read the table from a file: a CSV by ``from_counts``, any other file by ``from_annotations``.

        Raises:
            InputError: as these methods.
        """
        return cls.from_counts(path) if str(path).endswith(".csv") else cls.from_annotations(path)

    @classmethod
    def from_annotations(
        cls, source: str | os.PathLike[str] | Mapping[str, Any], bin_edges: Sequence[int] | None = None
    ) -> CategoryTable:
        """Read the table from a COCO- or LVIS-format training annotation file (or its parsed content).

        Annotations are counted, without crowd regions and boxes without area, as in training. If the file has no
        annotations, but all categories have ``instance_count``, the counts are read from there and from
        ``image_count``. ``frequency`` is that of the file if given, else by LVIS v0.5's rule on image counts: r <= 10,
        c <= 100, f. The edges are ``bin_edges``, else the file's ``info.bin_edges``, else LVIS's.
        ``info.untrained_in_bins`` is read, too.

        Raises:
            InputError: not JSON, a missing field, a duplicate id or an annotation of an unknown category.
        """
        content, name = (source, "annotations") if isinstance(source, Mapping) else (read_json(source), str(source))
        listed = [field_of(c, "id", int, name) for c in field_of(content, "categories", list, name)]
        categories = sorted(content["categories"], key=lambda c: c["id"])
        if not categories:
            raise InputError(f"{name}: field 'categories' is empty, expected at least one category")
        ids = np.array([c["id"] for c in categories], dtype=np.int64)
        if len(np.unique(ids)) != len(ids):
            raise InputError(f"{name}: field 'categories' has a duplicate id")
        names = tuple(str(field_of(c, "name", str, name)) for c in categories)

        instance_counts, image_counts = _count(content, ids, name)
        if not content["annotations"] and all(c.get("instance_count") is not None for c in categories):
            instance_counts = np.array([_stated(c, "instance_count", name) for c in categories], dtype=np.int64)
            fields = ["instance_count" if c.get("image_count") is None else "image_count" for c in categories]
            image_counts = np.array([_stated(*pair, name) for pair in zip(categories, fields, strict=True)])
        frequencies = tuple(_frequency(c.get("frequency"), n) for c, n in zip(categories, image_counts, strict=True))
        info = content.get("info")
        info = info if isinstance(info, Mapping) else {}
        edges = bin_edges or info.get("bin_edges") or LVIS_BIN_EDGES
        if not isinstance(edges, Sequence) or not are_bin_edges(edges):
            raise InputError(f"{name}: field 'info.bin_edges' is {edges!r:.40}, {EXPECTED_EDGES}")
        images = content.get("images")
        num_images = len(images) if isinstance(images, list) else 0
        if info.get("num_images") is not None:
            num_images = _stated(info, "num_images", name)
        edges = tuple(int(edge) for edge in edges)
        return cls(
            ids, names, image_counts, instance_counts, frequencies, edges, num_images, tuple(listed),
            info.get("untrained_in_bins") is True,
        )  # fmt: skip

    @classmethod
    def from_arrays(
        cls,
        instance_counts: ArrayLike,
        *,
        image_counts: ArrayLike | None = None,
        names: Sequence[str] | None = None,
        ids: ArrayLike | None = None,
        bin_edges: Sequence[int] = LVIS_BIN_EDGES,
        num_images: int = 0,
    ) -> CategoryTable:
        """Create the table from counts in label order.

        Args:
            instance_counts: (C,) training boxes of each class.
            image_counts: (C,) training images that contain the class; None: as many as boxes.
            names: C names; None: the ids as text.
            ids: (C,) ascending category ids; None: 1..C.
            bin_edges: lower bounds of bins 2, 3, ..., in training boxes; LVIS's (section 5.1) if not given.
            num_images: number of training images, if known.

        Raises:
            InputError: arrays of other shapes, counts that are negative or no whole numbers, or ids that do not ascend.

        Example:
            >>> table = CategoryTable.from_arrays([4, 120, 2500], names=["ladle", "kite", "chair"])
            >>> table.bins.tolist(), table.frequencies
            ([1, 3, 4], ('r', 'f', 'f'))
        """
        instances = as_array("instance_counts", instance_counts, (None,), "integers")
        shape = (len(instances),)
        images = instances if image_counts is None else as_array("image_counts", image_counts, shape, "integers")
        own_ids = np.arange(1, len(instances) + 1) if ids is None else as_array("ids", ids, shape, "integers")
        for name, counts in (("instance_counts", instances), ("image_counts", images)):
            if not counts.size or counts.min() < 0:
                raise InputError(f"{name}: expected at least one count, and none below 0")
        own_names = tuple(map(str, own_ids if names is None else names))
        frequencies = tuple(_frequency(None, int(number)) for number in images)
        try:
            return cls(own_ids, own_names, images, instances, frequencies, tuple(bin_edges), num_images)
        except ValueError as error:
            raise InputError(f"categories: {error}") from error

    @classmethod
    def from_counts(cls, path: str | os.PathLike[str], bin_edges: Sequence[int] = LVIS_BIN_EDGES) -> CategoryTable:
        """Read the table from a CSV with one row per category and the column ``instance_count``.

        Optional columns: ``id`` (default 1, 2, ... by row), ``name``, ``image_count`` (if missing or empty, the
        instances) and ``frequency`` (if missing or empty, by LVIS v0.5's rule).

        Raises:
            InputError: not a CSV, no column ``instance_count``, or a value that is not a count.
        """
        try:
            frame = pd.read_csv(path, keep_default_na=False, dtype=str)
        except FileNotFoundError as error:
            raise InputError(f"{path}: no such file, expected a CSV of counts") from error
        except (OSError, ValueError, pd.errors.ParserError) as error:
            raise InputError(f"{path}: not readable as CSV ({error})") from error
        if "instance_count" not in frame or frame.empty:
            raise InputError(f"{path}: column 'instance_count' is missing or empty, expected a row a category")
        numbers = {}
        for column in ("id", "instance_count", "image_count"):
            if column in frame:
                cells = frame[column]
                if column == "image_count":
                    cells = cells.mask(cells.str.strip() == "", frame["instance_count"])
                number = pd.to_numeric(cells, errors="coerce")
                if not ((number >= 0) & (number % 1 == 0) & (number < 1 << 53)).all():
                    raise InputError(f"{path}: column '{column}' has a value that is no count")
                numbers[column] = number.to_numpy(dtype=np.int64)
        ids = numbers.get("id", np.arange(1, len(frame) + 1))
        order = np.argsort(ids, kind="stable")
        instances = numbers["instance_count"]
        images = numbers.get("image_count", instances)[order]
        names = frame["name"] if "name" in frame else ids.astype(str)
        letters = frame["frequency"].to_numpy()[order] if "frequency" in frame else [""] * len(frame)
        frequencies = tuple(_frequency(*pair) for pair in zip(letters, images, strict=True))
        try:
            return cls(ids[order], tuple(np.asarray(names)[order]), images, instances[order], frequencies,
                       tuple(bin_edges), listed_ids=tuple(ids.tolist()))  # fmt: skip
        except ValueError as error:
            raise InputError(f"{path}: column 'id': {error}") from error


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Parse a JSON file that must hold an object; the error is one clear line.

    Raises:
        InputError: the file is missing, unreadable, not JSON, or not an object.
    """
    content = load_json(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content


def _frequency(stated: Any, image_count: int) -> str:
    """Return LVIS's letter if stated, else the letter by LVIS v0.5's rule."""
    return stated if stated in FREQUENCIES else lvis_frequency(image_count)


def _stated(category: Mapping[str, Any], field: str, source: str) -> int:
    """Return a count from a field, checked for its range."""
    count: int = field_of(category, field, int, source)
    if not 0 <= count < 1 << 53:
        raise InputError(f"{source}: field '{field}' of a category is {count:.4g}, which is no count")
    return count


def field_of(record: Any, field: str, kind: type, source: str) -> Any:
    """Return a required field of a JSON record, checked for its type.

    Raises:
        InputError: the field is missing, of another type, or an integer beyond 64 bits.
    """
    if not isinstance(record, Mapping):
        raise InputError(f"{source}: expected an object with field '{field}', found {type(record).__name__}")
    if field not in record:
        raise InputError(f"{source}: field '{field}' is missing, expected {kind.__name__}")
    value = record[field]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise InputError(f"{source}: field '{field}' is {type(value).__name__}, expected {kind.__name__}")
    if kind is int and whole(value) is None:
        raise InputError(f"{source}: field '{field}' does not fit 64 bits")
    return value


def _count(content: Mapping[str, Any], ids: np.ndarray, source: str) -> tuple[np.ndarray, np.ndarray]:
    """Count (instances, images) per category over the annotations that are objects."""
    annotations = field_of(content, "annotations", list, source)
    pairs = np.array(
        [
            (field_of(a, "category_id", int, source), field_of(a, "image_id", int, source))
            for a in annotations
            if not isinstance(a, Mapping) or is_object(a)
        ],
        dtype=np.int64,
    ).reshape(-1, 2)
    labels = np.searchsorted(ids, pairs[:, 0]).clip(max=len(ids) - 1)
    unknown = pairs[ids[labels] != pairs[:, 0], 0]
    if len(unknown):
        raise InputError(f"{source}: field 'annotations' uses category_id {unknown[0]}, which 'categories' lacks")
    unique_pairs = np.unique(np.stack([labels, pairs[:, 1]], axis=1), axis=0)
    return np.bincount(labels, minlength=len(ids)), np.bincount(unique_pairs[:, 0], minlength=len(ids))
