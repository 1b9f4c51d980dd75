"""Ground truth: checked annotations as arrays, read once and used for any number of evaluations."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from imbalance_bench.categories import CategoryTable, field_of, read_json
from imbalance_bench.datasets import coco_format
from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.evaluation.rle import MAX_SIDE, to_rle
from imbalance_bench.runtime import json_values
from imbalance_bench.runtime.equality import ByValue
from imbalance_bench.runtime.errors import InputError

IouType = Literal["bbox", "segm"]
Annotations = str | os.PathLike[str] | Mapping[str, Any]
AREA_ALL = (0.0, 1e10)
LISTS = ("neg_category_ids", "not_exhaustive_category_ids")
"""Fields of an image with lists of category ids, in federated annotations."""


@dataclass(frozen=True)
class Listed:
    """Counts of the annotations in a file, before any are left out.

    Attributes:
        boxes: all boxes, crowd regions included.
        crowd: boxes with ``iscrowd``.
        without_area: boxes whose area (the field, or the product of the sides) is not above 0.
        with_sides_alone: boxes of ``without_area`` whose sides are both above 0: the field ``area`` is a placeholder,
            often 0 or -1.
        without_sides: boxes whose width or height is zero or negative; training leaves these out.
        neg_category_ids: images that have this field.
        not_exhaustive_category_ids: images that have this field.
    """

    boxes: int
    crowd: int
    without_area: int
    with_sides_alone: int
    without_sides: int
    neg_category_ids: int
    not_exhaustive_category_ids: int


@dataclass(frozen=True, eq=False)
class GroundTruth(ByValue):
    """Ground truth of a split.

    Attributes:
        categories: the C categories, which define all labels.
        lvis_style: federated (``average_precision.evaluate`` describes the rules).
        iou_type: overlap of boxes or of masks.
        image_ids: (I,) ascending.
        images: (G,) index in ``image_ids`` of each ground-truth box; boxes are sorted by label, then image.
        labels: (G,) label of each ground-truth box.
        boxes: (G, 4) xywh.
        masks: mask of each box as RLE; empty if boxes are compared.
        crowd: (G,) bool, any number of detections may match the box.
        ignored: (G,) bool, a match with the box counts neither as true nor as false.
        judged: (I, C) bool, detections of the category count in the image; None: all count.
        open: (I, C) bool, not all boxes of the category are annotated in the image; None: all are annotated.
        content: the checked annotations in the form that the evaluation packages read.
        listed: counts of the annotations before any were left out.

    Example:
        >>> table = CategoryTable.from_arrays([4, 120], names=["ladle", "kite"])
        >>> box = {"image_id": 7, "category_id": 1, "bbox": [0, 0, 10, 10]}
        >>> truth = GroundTruth.read({"images": [{"id": 7}], "annotations": [box]}, table)
        >>> truth.labels.tolist(), truth.images.tolist(), truth.lvis_style
        ([0], [0], False)
    """

    categories: CategoryTable
    lvis_style: bool
    iou_type: IouType
    image_ids: np.ndarray
    images: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray
    masks: list[dict[str, Any]]
    crowd: np.ndarray
    ignored: np.ndarray
    judged: np.ndarray | None
    open: np.ndarray | None
    content: dict[str, Any]
    listed: Listed

    @classmethod
    def read(
        cls,
        annotations: Annotations,
        categories: CategoryTable,
        *,
        lvis_style: bool | None = None,
        iou_type: IouType = "bbox",
    ) -> GroundTruth:
        """Read the ground truth from a COCO- or LVIS-format file or its content.

        Args:
            annotations: annotations of the validation images.
            categories: categories of the training annotations; names in the validation annotations must agree.
            lvis_style: federated or not; None: taken from the annotations (``coco_format.is_federated``).
            iou_type: overlap of boxes or of masks.

        Without ``area``, that of the box is used; ``iscrowd``, ``neg_category_ids`` and ``not_exhaustive_category_ids``
        may be absent. In federated data ``iscrowd`` has no meaning, and boxes without area are left out.

        Raises:
            InputError: a field is missing or wrong, the categories are not those of training, or an annotation has an
                unknown category or image.
        """
        source = "annotations" if isinstance(annotations, Mapping) else str(annotations)
        given = annotations if isinstance(annotations, Mapping) else read_json(annotations)
        if given.get("categories"):
            trained = categories.frame()[["id", "name"]].to_dict("records")
            coco_format.check_same_categories({"categories": trained}, given, source)
        if lvis_style is None:
            lvis_style = coco_format.is_federated(given)
        content, listed = _checked(given, source, categories, lvis_style, iou_type)
        image_ids = np.unique(np.array([image["id"] for image in content["images"]], dtype=np.int64))
        entries = content["annotations"]
        images = np.searchsorted(image_ids, np.array([e["image_id"] for e in entries], dtype=np.int64))
        labels = categories.labels_of([e["category_id"] for e in entries])
        order = np.lexsort((images, labels))
        area = np.array([e["area"] for e in entries], dtype=np.float64)
        crowd = np.array([e["iscrowd"] for e in entries], dtype=bool)
        judged = unexhausted = None
        if lvis_style:
            judged, unexhausted = np.zeros((2, len(image_ids), categories.num_classes), dtype=bool)
            judged[images, labels] = True
            for table, field in zip((judged, unexhausted), LISTS, strict=True):
                named = np.array([(i["id"], c) for i in content["images"] for c in i[field]], np.int64).reshape(-1, 2)
                named = named[np.isin(named[:, 1], categories.ids)]
                table[np.searchsorted(image_ids, named[:, 0]), categories.labels_of(named[:, 1])] = True
        return cls(
            categories=categories,
            lvis_style=lvis_style,
            iou_type=iou_type,
            image_ids=image_ids,
            images=images[order],
            labels=labels[order],
            boxes=np.array([e["bbox"] for e in entries], dtype=np.float64).reshape(-1, 4)[order],
            masks=[entries[i]["segmentation"] for i in order] if iou_type == "segm" else [],
            crowd=crowd[order],
            ignored=(crowd | outside(area))[order],
            judged=judged,
            open=unexhausted,
            content=content,
            listed=listed,
        )

    @property
    def sizes(self) -> np.ndarray:
        """The (I, 2) width and height of each image, NaN where the annotations do not tell."""
        listed = self.content["images"]
        sides = [[json_values.coordinate(image[side]) for side in ("width", "height")] for image in listed]
        sizes = np.full((len(self.image_ids), 2), np.nan)
        sizes[np.searchsorted(self.image_ids, [image["id"] for image in listed])] = np.array(sides, dtype=np.float64)
        return np.where(sizes > 0, sizes, np.nan)

    def check(self, detections: Detections) -> None:
        """Check that detections can be compared with this ground truth.

        Raises:
            InputError: an unknown image or label, no masks although masks are compared, or a mask of another size than
                its image.
        """
        strangers = detections.image_ids[~np.isin(detections.image_ids, self.image_ids)]
        if len(strangers):
            raise InputError(f"detections: field 'image_ids' has {strangers[0]}, which the annotations' 'images' lack")
        last = self.categories.num_classes - 1
        if len(detections) and not 0 <= detections.labels.min() <= detections.labels.max() <= last:
            raise InputError(f"detections: field 'labels' leaves the range 0 to {last}")
        if self.iou_type != "segm" or not len(detections):
            return
        if detections.masks is None:
            raise InputError("detections: they carry no masks, expected a 'segmentation' of each to evaluate masks")
        sizes = {image["id"]: (image["height"], image["width"]) for image in self.content["images"]}
        expected = np.array([sizes[image_id] for image_id in self.image_ids.tolist()])[
            np.searchsorted(self.image_ids, detections.image_ids)
        ]
        wrong = np.flatnonzero((detections.masks.sizes != expected).any(axis=1))
        if len(wrong):
            row = wrong[0]
            raise InputError(
                f"detections: a mask on image {detections.image_ids[row]} has 'size' "
                f"{detections.masks.sizes[row].tolist()}, the annotations say {expected[row].tolist()}"
            )

    def counted(self, detections: Detections, max_per_image: int) -> np.ndarray:
        """Return the rows that count: each image's best detections, those of categories judged in the image.

        Boxes without area do not count if boxes are compared. If the evaluation is not federated, all rows count.
        """
        if self.judged is None:
            return np.arange(len(detections))
        images = np.searchsorted(self.image_ids, detections.image_ids)
        counts = self.judged[images, detections.labels]
        if self.iou_type == "bbox":
            left, top, right, bottom = detections.boxes.T.astype(np.float64)
            counts &= (right - left) * (bottom - top) > 0
        if np.bincount(images, minlength=1).max() > max_per_image:
            rows = np.lexsort((-detections.scores.astype(np.float64), images))
            counts[rows[place_in_run(images[rows]) >= max_per_image]] = False
        return np.flatnonzero(counts)


def outside(area: np.ndarray) -> np.ndarray:
    """Tell whether an area is outside the range that counts."""
    return (area < AREA_ALL[0]) | (area > AREA_ALL[1])


def place_in_run(values: np.ndarray) -> np.ndarray:
    """Return the position of each of some sorted values among its equal values, from 0."""
    starts = np.flatnonzero(np.diff(values, prepend=values[:1] - 1))
    return np.arange(len(values)) - np.repeat(starts, np.diff([*starts, len(values)]))


def _checked(
    content: Mapping[str, Any], source: str, categories: CategoryTable, lvis_style: bool, iou_type: IouType
) -> tuple[dict[str, Any], Listed]:
    """Check and complete the part of the annotations that both packages read; boxes get new ids from 1.

    (In these packages an annotation id of 0 means "not matched".)
    """
    known = set(categories.ids.tolist())
    images, image_ids = [], set()
    for place, image in _records(content, "images", source):
        image_id = _whole(image, "id", place)
        if image_id in image_ids:
            raise InputError(f"{place}: field 'id' is {image_id}, which an image before has too")
        image_ids.add(image_id)
        images.append(
            {
                "id": image_id,
                "height": image.get("height"),
                "width": image.get("width"),
                **_file_name(image),
                **{field: _ids(image, field, place) for field in LISTS},
            }
        )
    sizes = {image["id"]: (image["height"], image["width"]) for image in images}
    boxes: list[dict[str, Any]] = []
    areas, sides, crowd = [], [], 0
    for place, entry in _records(content, "annotations", source):
        image_id, category_id = _whole(entry, "image_id", place), _whole(entry, "category_id", place)
        if category_id not in known:
            raise InputError(f"{place}: field 'category_id' is {category_id}, not a training category")
        if image_id not in image_ids:
            raise InputError(f"{place}: field 'image_id' is {image_id}, which 'images' lacks")
        box = json_values.box(entry.get("bbox"))
        if box is None:
            raise InputError(f"{place}: field 'bbox' {_found(entry, 'bbox')}, expected four finite numbers")
        area = json_values.number(entry.get("area", box[2] * box[3]))
        iscrowd = entry.get("iscrowd", 0)
        if area is None:
            raise InputError(f"{place}: field 'area' {_found(entry, 'area')}, expected a finite number")
        if iscrowd not in (0, 1):
            raise InputError(f"{place}: field 'iscrowd' {_found(entry, 'iscrowd')}, expected 0 or 1")
        areas.append(area)
        sides.append(box[2:])
        crowd += int(iscrowd)
        if lvis_style and area <= 0:
            continue
        boxes.append(
            {
                "id": len(boxes) + 1,
                "image_id": image_id,
                "category_id": category_id,
                "bbox": box,
                "area": area,
                "iscrowd": 0 if lvis_style else int(iscrowd),
            }
        )
        if iou_type == "segm":
            boxes[-1]["segmentation"] = _rle(entry, *sizes[image_id], place)
    positive = (np.array(sides).reshape(-1, 2) > 0).all(axis=1)
    small = np.array(areas) <= 0
    listed = Listed(
        boxes=len(areas),
        crowd=crowd,
        without_area=int(small.sum()),
        with_sides_alone=int((small & positive).sum()),
        without_sides=int((~positive).sum()),
        **{field: sum(field in image for image in content["images"]) for field in LISTS},
    )
    table = categories.frame()[["id", "name", "frequency"]].to_dict("records")
    return {"images": images, "annotations": boxes, "categories": table}, listed


def _records(content: Mapping[str, Any], field: str, source: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the objects of a list, each with a text that names its place."""
    for number, record in enumerate(field_of(content, field, list, source)):
        place = f"{source}: {field}[{number}]"
        if not isinstance(record, Mapping):
            raise InputError(f"{place} is {json_values.shown(record)}, expected an object")
        yield place, record


def _file_name(image: Mapping[str, Any]) -> dict[str, str]:
    """Return the path of an image as a field, empty if there is none: only detections by file name need it."""
    try:
        return {"file_name": coco_format.image_path(image, "")}
    except InputError:
        return {}


def _whole(record: Mapping[str, Any], field: str, place: str) -> int:
    value = json_values.whole(record.get(field))
    if value is None:
        raise InputError(f"{place}: field '{field}' {_found(record, field)}, expected a whole number")
    return value


def _ids(image: Mapping[str, Any], field: str, place: str) -> list[int]:
    """Return a list of category ids, empty if the field is missing."""
    value = image.get(field, [])
    ids = [json_values.whole(item) for item in value] if isinstance(value, list | tuple) else [None]
    if None in ids:
        raise InputError(f"{place}: field '{field}' {_found(image, field)}, expected a list of category ids")
    return ids  # type: ignore[return-value]


def _found(record: Mapping[str, Any], field: str) -> str:
    return f"is {json_values.shown(record[field])}" if field in record else "is missing"


def _rle(entry: Mapping[str, Any], height: Any, width: Any, place: str) -> dict[str, Any]:
    """Return the mask of an annotation as text that can be written as JSON."""
    if not all(type(side) is int and 0 < side <= MAX_SIDE for side in (height, width)):
        raise InputError(f"{place}: its image {entry['image_id']} lacks 'height' or 'width', which masks need")
    if "segmentation" not in entry:
        raise InputError(f"{place}: field 'segmentation' is missing, expected a mask")
    try:
        return to_rle(entry["segmentation"], height, width)
    except (TypeError, ValueError) as error:
        raise InputError(f"{place}: field 'segmentation': {error}") from error
