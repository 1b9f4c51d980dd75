"""Detections in objects of objects: data sets with scores (COCO, FiftyOne), and detectron2's list of images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain
from typing import Any

from imbalance_bench.evaluation import coco_results
from imbalance_bench.evaluation.coco_results import Place
from imbalance_bench.evaluation.result_files import table
from imbalance_bench.evaluation.result_files.found import Column, Rows
from imbalance_bench.runtime.errors import InputError, first
from imbalance_bench.runtime.json_values import shown


def of_coco(content: Mapping[str, Any], source: str) -> Rows:
    """Read a data set in COCO format whose annotations have a ``score``, as FiftyOne exports predictions.

    Its images and categories are told by their names, as the tool that wrote it numbers them by itself.

    Raises:
        InputError: these are annotations without scores, or an annotation has an unknown image or category.
    """
    entries = content["annotations"]
    if not any("score" in entry for entry in entries if isinstance(entry, dict)):
        raise InputError(f"{source}: found annotations, which have no 'score', expected detections")

    def place(row: int) -> str:
        return f"{source}: annotations[{row}]"

    found = table.of_objects(entries, source, place, "a data set in COCO format with scores")
    image_names = _looked_up(content, "images", "file_name", entries, "image_id", place)
    class_names = _looked_up(content, "categories", "name", entries, "category_id", place)
    found = replace(found, image_names=image_names, class_names=class_names)
    if found.masks is not None and any(isinstance(mask, list) and mask for mask in found.masks.cells):
        return replace(found, masks=None, notes=("not read: segmentation (outlines)",))
    return found


def of_fiftyone_samples(content: Mapping[str, Any], source: str) -> Rows:
    """Read FiftyOne's ``samples.json``: the detections of each sample in the one field that has confidences.

    Raises:
        InputError: other objects, or no field or several with confidences.
    """
    samples = content["samples"]
    for number, sample in enumerate(samples):
        if not isinstance(sample, dict) or not isinstance(sample.get("filepath"), str):
            raise InputError(f"{source}: samples[{number}]: field 'filepath' is missing, expected the path of an image")
    fields = dict.fromkeys(name for sample in samples for name, value in sample.items() if _detections(value))
    scored = [
        name for name in fields
        if any(isinstance(found, dict) and found.get("confidence") is not None
               for sample in samples for found in _detections(sample.get(name)))
    ]  # fmt: skip
    if len(scored) != 1:
        what = "several fields" if scored else "no field"
        raise InputError(f"{source}: {what} of detections with a 'confidence' ({first(scored or [*fields])}), "
                         "expected the predictions of one detector")  # fmt: skip
    (field,) = scored
    images = [(sample["filepath"], f"samples[{n}].{field}", sample.get(field)) for n, sample in enumerate(samples)]
    listed = [(path, place, _detections(value)) for path, place, value in images]
    return _fiftyone(listed, source, f"FiftyOne's samples (field '{field}')", None)


def of_fiftyone_labels(content: Mapping[str, Any], source: str) -> Rows:
    """Read FiftyOne's ``labels.json``: a list of detections by the name of each image.

    Raises:
        InputError: other objects.
    """
    images = []
    for name, found in content["labels"].items():
        if found is not None and not isinstance(found, list):
            raise InputError(f"{source}: labels[{name!r:.40}] is {shown(found)}, expected a list of detections")
        images.append((name, f"labels[{name!r:.40}]", found or []))
    classes = content.get("classes")
    return _fiftyone(images, source, "FiftyOne's labels", classes if isinstance(classes, list) else None)


def of_detectron2(content: list[dict[str, Any]], source: str) -> Rows:
    """Read detectron2's ``instances_predictions.pth``: COCO results of each image, with classes counted from 0.

    Raises:
        InputError: other objects.
    """
    images = []
    for number, image in enumerate(content):
        found = image.get("instances") if isinstance(image, dict) else None
        if not isinstance(found, list):
            what = shown(found if isinstance(image, dict) else image)
            raise InputError(f"{source}: image[{number}]: field 'instances' is {what}, expected a list of results")
        images.append((f"image[{number}].instances", found))
    objects, place = _joined(images, source)
    found = table.of_objects(objects, source, place, "detectron2's predictions")
    return replace(found, counted="by id")


def of_keyed_lists(content: Mapping[Any, list[Any]], source: str) -> Rows:
    """Read a list of objects for each image, by its id or file name.

    Raises:
        InputError: other objects.
    """
    objects, place = _joined([(f"[{name!r:.40}]", found) for name, found in content.items()], source)
    coco_results.check_objects(objects, place)
    names = [name for name, found in content.items() for _ in found]
    named = [{"image_id": name, **found} for found, name in zip(objects, names, strict=True)]
    return table.of_objects(named, source, place, "lists of detections by image")


def _fiftyone(images: list[tuple[str, str, list[Any]]], source: str, kind: str, classes: list[Any] | None) -> Rows:
    """Return the columns of FiftyOne's detections: boxes are shares of the sides, x, y, width and height."""
    objects, place = _joined([(where, found) for _, where, found in images], source)
    coco_results.check_objects(objects, place)
    labels = coco_results.column(objects, "label")
    if classes is not None:
        labels = [
            classes[label] if type(label) is int and 0 <= label < len(classes) else label for label in labels
        ]  # fmt: skip
    return Rows(
        kind,
        place,
        Column("confidence", coco_results.column(objects, "confidence")),
        Column("bounding_box", coco_results.column(objects, "bounding_box")),
        image_names=Column("filepath", [name for name, _, found in images for _ in found]),
        class_names=Column("label", labels),
        form="xywh",
        relative=True,
    )


def _detections(value: Any) -> list[dict[str, Any]]:
    """Return the detections of a field of a sample; empty for a field of another kind."""
    found = value.get("detections") if isinstance(value, dict) else None
    return found if isinstance(found, list) else []


def _looked_up(
    content: Mapping[str, Any], listing: str, field: str, entries: list[Any], reference: str, place: Place
) -> Column | None:
    """Return the name of the image or category of each entry; None if the file lists none.

    Raises:
        InputError: an entry has an id that the file does not list.
    """
    listed = content.get(listing)
    names = {
        record["id"]: record[field]
        for record in (listed if isinstance(listed, list) else [])
        if isinstance(record, dict) and isinstance(record.get("id"), int | str) and isinstance(record.get(field), str)
    }
    if not names:
        return None
    ids = coco_results.column(entries, reference)

    def name(value: Any) -> Any:
        return names.get(value) if isinstance(value, int | str) else None

    expected = f"an 'id' in the file's '{listing}'"
    return Column(field, [coco_results.required(v, row, name, reference, place, expected) for row, v in enumerate(ids)])


def _joined(parts: list[tuple[str, list[Any]]], source: str) -> tuple[list[Any], Place]:
    """Return the objects of all parts, and what names the place of each."""
    objects = [*chain.from_iterable(found for _, found in parts)]

    def places() -> Iterator[str]:
        for where, found in parts:
            yield from (f"{source}: {where}[{number}]" for number in range(len(found)))

    return objects, lambda row: next(place for number, place in enumerate(places()) if number == row)
