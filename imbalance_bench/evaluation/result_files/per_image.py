"""Detections as arrays of each image: torchvision, transformers, RF-DETR and mmdet, as JSON, pickles or torch files."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from imbalance_bench.checkpoints.pickles import Array
from imbalance_bench.checkpoints.tensors import Tensor
from imbalance_bench.evaluation.result_files.found import Column, Counted, Rows
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.json_values import shown

BOXES, SCORES, LABELS = ("boxes", "bboxes"), ("scores",), ("labels", "class_ids", "category_ids", "classes")
IDS, NAMES = ("image_id", "img_id", "id"), ("file_name", "img_path", "image_path", "filename", "image")


@dataclass
class Flat:
    """Detections of all images, one after the other.

    Attributes:
        places: place of each image in the file.
        ids: id of each image, None where there is none.
        names: file name of each image, None where there is none.
        ends: number of detections up to and with each image.
        scores, boxes, labels, masks: of the detections.
        has_other_masks: there were masks that are no run-length encodings.
    """

    places: list[str] = field(default_factory=list)
    ids: list[Any] = field(default_factory=list)
    names: list[Any] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    scores: list[Any] = field(default_factory=list)
    boxes: list[Any] = field(default_factory=list)
    labels: list[Any] = field(default_factory=list)
    masks: list[Any] = field(default_factory=list)
    has_other_masks: bool = False

    def end_image(self, place: str, image_id: Any = None, name: Any = None) -> None:
        """Note the image of what was added since the last."""
        self.places.append(place)
        self.ids.append(image_id)
        self.names.append(name)
        self.ends.append(len(self.scores))

    def repeated(self, values: Sequence[Any]) -> list[Any]:
        """Return a value of each detection from one of each image."""
        starts = [0, *self.ends]
        return [value for value, low, high in zip(values, starts, self.ends, strict=False) for _ in range(high - low)]

    def place(self, row: int) -> str:
        """Name the image of a detection, and its place in there."""
        image = bisect_right(self.ends, row)
        return f"{self.places[image]}: detection {row - (self.ends[image - 1] if image else 0)}"


def is_image(value: Any) -> bool:
    """Tell whether a value is an object with the boxes of an image; one without a field is an image without any."""
    if not isinstance(value, dict):
        return False
    own = value.get("pred_instances", value)
    return isinstance(own, dict) and (not own or _field(own, BOXES) is not None)


def of_images(
    images: Sequence[Any], source: str, *, ids: Sequence[Any] | None = None, names: Sequence[Any] | None = None
) -> Rows:
    """Read an object of arrays for each image: ``boxes`` (x1, y1, x2, y2), ``scores`` and ``labels``.

    Args:
        images: the objects; the arrays may also be in ``pred_instances``, as mmdet writes them.
        source: name of the file, for messages.
        ids: id of each image, if not in the object.
        names: file name of each image, if not in the object. Without either, images are in the annotations' order.

    Raises:
        InputError: other objects, a missing field, or arrays that do not fit each other.
    """
    flat, is_mmdet = Flat(), False
    for number, image in enumerate(images):
        where = f"{source}: image[{number}]" if ids is None else f"{source}: image {_called(ids[number])}"
        if not is_image(image):
            raise InputError(f"{where} is {shown(image)}, expected an object with boxes, scores and labels")
        own = image.get("pred_instances", image)
        is_mmdet |= own is not image
        if own:
            _add(flat, own, where)
        own_id, own_name = (image.get(_field(image, names)) for names in (IDS, NAMES))
        own_id = _scalar(own_id, where) if ids is None else ids[number]
        flat.end_image(where, own_id, own_name if names is None else names[number])
    kind = "mmdet's results.pkl" if is_mmdet else "arrays of each image"
    return _rows(flat, source, kind, "by file" if is_mmdet else "")


def of_mmdet_2(content: Sequence[Any], source: str) -> Rows:
    """Read mmdet 2's ``results.pkl``: for each image an (N, 5) array a class, or these and masks; images in order.

    Raises:
        InputError: other objects, or an image with another number of classes than the first.
    """
    flat = Flat()
    width = None
    for number, image in enumerate(content):
        where = f"{source}: image[{number}]"
        by_class, masks = image if isinstance(image, tuple) and len(image) == 2 else (image, None)
        if not isinstance(by_class, list) or len(by_class) != (width or len(by_class)):
            raise InputError(f"{where} is {shown(by_class)}, expected a list of {width or 'an array a class'}")
        width = len(by_class)
        for label, found in enumerate(by_class):
            rows = _values(found, f"{where}: class {label}")
            if not all(isinstance(row, list) and len(row) == 5 for row in rows):
                raise InputError(f"{where}: class {label}: expected an array (N, 5) of x1, y1, x2, y2 and score")
            flat.boxes += [row[:4] for row in rows]
            flat.scores += [row[4] for row in rows]
            flat.labels += [label] * len(rows)
            if masks is not None:
                flat.masks += _masks_of_class(masks, label, len(rows), where)
        flat.end_image(where)
    return _rows(flat, source, "mmdet 2's results.pkl", "by file")


def is_mmdet_2(content: Any) -> bool:
    """Tell whether content is a list of images, each a list of an array a class, or this with masks."""
    if not isinstance(content, list) or not content or not isinstance(content[0], list | tuple):
        return False
    by_class = content[0][0] if isinstance(content[0], tuple) and content[0] else content[0]
    return isinstance(by_class, list) and all(isinstance(found, list | Array | Tensor) for found in by_class)


def _rows(flat: Flat, source: str, kind: str, counted: Counted) -> Rows:
    """Return the columns of all images; where no image is named, they are in order."""
    ids, names = flat.ids, flat.names
    has_ids, has_names = (any(value is not None for value in values) for values in (ids, names))
    in_order = not has_ids and not has_names
    if flat.masks and len(flat.masks) != len(flat.scores):
        raise InputError(f"{source}: some images have masks and others do not, expected all or none")
    if in_order:
        ids = [*range(len(ids))]
    return Rows(
        kind,
        flat.place,
        Column("scores", flat.scores),
        Column("boxes", flat.boxes),
        image_ids=Column("image_id", flat.repeated(ids)) if has_ids or in_order else None,
        image_names=Column("file_name", flat.repeated(names)) if has_names else None,
        class_ids=Column("labels", flat.labels),
        masks=Column("masks", flat.masks) if flat.masks else None,
        images_in_order=len(ids) if in_order else None,
        counted=counted,
        notes=("not read: masks (no run-length encodings)",) if flat.has_other_masks else (),
    )


def _add(flat: Flat, image: dict[str, Any], where: str) -> None:
    """Add the detections of an image."""
    columns = {}
    for role, names in (("boxes", BOXES), ("scores", SCORES), ("labels", LABELS)):
        name = _field(image, names)
        if name is None:
            raise InputError(f"{where}: field '{names[0]}' is missing, expected boxes, scores and labels")
        columns[role] = _values(image[name], f"{where}: field '{name}'")
    lengths = {role: len(values) for role, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise InputError(f"{where}: has {', '.join(f'{count} {role}' for role, count in lengths.items())}, "
                         "expected as many of each")  # fmt: skip
    flat.boxes += columns["boxes"]
    flat.scores += columns["scores"]
    flat.labels += columns["labels"]
    masks = image.get("masks")
    if isinstance(masks, list) and masks and isinstance(masks[0], dict):
        if len(masks) != lengths["scores"]:
            raise InputError(f"{where}: has {len(masks)} masks of {lengths['scores']} detections")
        flat.masks += masks
    elif masks is not None and not (isinstance(masks, list) and not masks):
        flat.has_other_masks = True


def _masks_of_class(masks: Any, label: int, count: int, where: str) -> list[Any]:
    """Return the masks of a class; with Mask Scoring R-CNN they come with scores of their own."""
    by_class = masks[0] if isinstance(masks, tuple) and masks else masks
    found = by_class[label] if isinstance(by_class, list) and len(by_class) > label else None
    if not isinstance(found, list) or len(found) != count:
        raise InputError(f"{where}: class {label}: expected as many masks as boxes, {count}")
    return found


def _values(value: Any, where: str) -> list[Any]:
    """Return a list, or the numbers of an array."""
    if isinstance(value, list):
        return value
    if isinstance(value, Array | Tensor):
        numbers = _numbers(value, where)
        if numbers is not None and numbers.ndim:
            listed: list[Any] = numbers.tolist()
            return listed
    what = "no list" if isinstance(value, Array | Tensor) else shown(value)
    raise InputError(f"{where}: is {what}, expected a list or an array of numbers")


def _numbers(value: Array | Tensor, where: str) -> np.ndarray | None:
    try:
        return value.numbers()
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{where}: is no array ({error})") from error


def _scalar(value: Any, where: str) -> Any:
    """Return the number in a tensor of one; anything else as it is."""
    if isinstance(value, Array | Tensor):
        numbers = _numbers(value, where)
        return numbers.item() if numbers is not None and numbers.size == 1 else None
    return value


def _called(key: Any) -> str:
    return repr(key[:40]) if isinstance(key, str) else shown(key)


def _field(record: dict[str, Any], names: Sequence[str]) -> str | None:
    return next((name for name in names if name in record), None)
