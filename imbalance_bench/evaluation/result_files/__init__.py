"""Detections in the files that other people's detectors write, read into this suite's columns.

``contents`` loads a file, whatever it is written in; ``table``, ``per_image`` and ``exports`` find the detections in
it; ``found`` checks every value; ``images`` and ``classes`` tell whose they are in the annotations, names before ids.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.evaluation.ground_truth import GroundTruth
from imbalance_bench.evaluation.result_files import classes, contents, exports, images, per_image, regular, table
from imbalance_bench.evaluation.result_files.contents import is_results
from imbalance_bench.evaluation.result_files.found import Found, Rows, check
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.json_values import MAX_COORDINATE, shown

__all__ = ["EXPECTED", "is_results", "match", "parse", "read", "recognise"]

MOST = 10
"""Largest share of an image's side that a box can reach; beyond, it is in pixels."""
EXPECTED = (
    "COCO results or another tool's detections (.json, .jsonl, .csv, .parquet, .pkl, .pth), detections of this suite "
    "(.npz) or a run folder"
)


def read(path: str | os.PathLike[str], truth: GroundTruth) -> Detections:
    """Read the detections of a run folder, or of a file of any format that is known.

    The format is told by the content of the file, and by its suffix where content does not tell. Images and classes
    are those of the annotations by their names where the file has names, else by their ids; where ids count classes or
    are otherwise numbered, this is told by the annotated boxes, or the file is refused. The notes say what was
    recognised and matched how, and what was left out.

    Args:
        path: a folder with ``detections.npz``, or a file.
        truth: the annotations.

    Raises:
        InputError: not a file of detections, one that is damaged or hostile, a wrong value, or detections of other
            images or classes.
    """
    return parse(path)(truth)


def parse(path: str | os.PathLike[str]) -> Callable[[GroundTruth], Detections]:
    """Read and check a file, and return a function that finds its images and classes in annotations.

    Raises:
        InputError: not a file of detections. The returned function raises it for other images or classes.
    """
    path = Path(path)
    if path.is_dir():
        stored = Detections.load(path / "detections.npz")
        return lambda truth: stored
    if not path.is_file():
        raise InputError(f"{path}: no such file, expected {EXPECTED}")
    try:
        with path.open("rb") as file:
            zipped = file.read(4) == b"PK\x03\x04"
    except OSError as error:
        raise InputError(f"{path}: not readable ({error.strerror})") from error
    if path.suffix == ".npz" or (zipped and not contents.is_torch(path)):
        stored = Detections.load(path)
        return lambda truth: stored
    if (regular_file := regular.read(path)) is not None:
        return lambda truth: match(regular_file, truth, str(path))
    try:
        content = contents.load(path)
    except InputError as error:
        raise InputError(f"{error}; expected {EXPECTED}") from error
    found = check(recognise(content, str(path)))
    return lambda truth: match(found, truth, str(path))


def recognise(content: Any, source: str) -> Rows:
    """Find the detections in the content of a file.

    Raises:
        InputError: there are none, or a field is missing.
    """
    if isinstance(content, contents.Frame):
        return table.of_frame(content.table, source, text=content.is_text)
    if isinstance(content, list):
        if per_image.is_mmdet_2(content):
            return per_image.of_mmdet_2(content, source)
        sample = next((value for value in content if value), None)
        if isinstance(sample, dict) and "instances" in sample:
            return exports.of_detectron2(content, source)
        if per_image.is_image(sample):
            return per_image.of_images(content, source)
        return table.of_objects(content, source)
    if isinstance(content, dict):
        found = _of_object(content, source)
        if found is not None:
            return found
    raise InputError(f"{source}: found {shown(content)}, expected {EXPECTED}")


def _of_object(content: dict[Any, Any], source: str, *, within: bool = False) -> Rows | None:
    """Find the detections in an object, or in one ``within`` it; None if it is no known one."""
    if isinstance(content.get("annotations"), list):
        return exports.of_coco(content, source)
    if isinstance(content.get("samples"), list):
        return exports.of_fiftyone_samples(content, source)
    if isinstance(content.get("labels"), dict):
        return exports.of_fiftyone_labels(content, source)
    for name in ("predictions", "results", "detections", "outputs"):
        inner = content.get(name)
        if isinstance(inner, list):
            ids, names = (_beside(content, keys, inner, source) for keys in (("image_ids", "img_ids"), ("file_names",)))
            if ids is None and names is None:
                return recognise(inner, source)
            return per_image.of_images(inner, source, ids=ids, names=names)
        if isinstance(inner, dict) and inner and not within:
            return _of_object(inner, source, within=True)
    if content and per_image.is_image(content):
        raise InputError(f"{source}: it holds one image, expected a list of images, or an object by image id or name")
    values = [value for value in content.values() if value]
    if values and all(map(per_image.is_image, values)):
        return per_image.of_images([*content.values()], source, ids=[*content])
    if values and all(isinstance(value, list) for value in content.values()):
        return exports.of_keyed_lists(content, source)
    return None


def _beside(content: dict[Any, Any], keys: tuple[str, ...], images: list[Any], source: str) -> list[Any] | None:
    """Return the list of ids or names beside a list of images, None if there is none.

    Raises:
        InputError: it has another length.
    """
    key = next((key for key in keys if isinstance(content.get(key), list)), None)
    if key is None:
        return None
    if len(content[key]) != len(images):
        raise InputError(f"{source}: field '{key}' has {len(content[key])} entries of {len(images)} images")
    listed: list[Any] = content[key]
    return listed


def match(found: Found, truth: GroundTruth, source: str) -> Detections:
    """Find the images and classes of detections in the annotations.

    Args:
        found: the detections.
        truth: the annotations.
        source: name of the file, for messages.

    Raises:
        InputError: none of the images or classes is in the annotations, or it is not clear which the classes are.
    """
    by_image = images.match(found, truth, source)
    rows = np.flatnonzero(by_image.places >= 0)
    place = by_image.places[rows]
    boxes = found.boxes[rows]
    if found.rows.relative:
        if len(boxes) and (reach := np.abs(boxes).max()) > MOST:
            name = found.rows.boxes.name
            raise InputError(f"{source}: field '{name}' reaches {reach:g}, expected shares of the sides of the image")
        boxes = boxes * np.tile(truth.sizes[place], 2)
        if not (np.abs(boxes) < MAX_COORDINATE).all():  # NaN where a size is not known
            raise InputError(
                f"{source}: its boxes are shares of the sides of an image, expected 'width' and 'height' of each image "
                "in the annotations"
            )
    by_class = classes.match(found, rows, boxes, place, truth, source)
    kept = by_class.labels >= 0
    rows, boxes, place = rows[kept], boxes[kept], place[kept]
    masks = found.masks
    if masks is not None and len(rows) < len(found):
        masks = masks.take(rows)
    kind = f"{found.rows.kind}: {len(found):,} detections, images {by_image.how}, classes {by_class.how}"
    notes = (kind, *by_image.notes, *by_class.notes, *found.notes)
    return Detections(truth.image_ids[place], by_class.labels[kept], boxes, found.scores[rows], masks, notes)
