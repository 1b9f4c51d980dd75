"""What detections are held against: annotations, checked, as arrays. Read once, used for any number of evaluations."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from imbalance_bench.categories import CategoryTable, read_json
from imbalance_bench.equality import ByValue
from imbalance_bench.errors import InputError
from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.evaluation.masks import to_rle

IouType = Literal["bbox", "segm"]
Annotations = str | os.PathLike[str] | Mapping[str, Any]
AREA_ALL = (0.0, 1e10)


@dataclass(frozen=True, eq=False)
class GroundTruth(ByValue):
    """Ground truth of a split.

    Attributes:
        categories: C, whose labels are used throughout.
        lvis_style: federated (``detection.evaluate`` says what that means).
        iou_type: overlap of boxes or of masks.
        image_ids: (I,) ascending; images are counted by their place here.
        images: (G,) image of each ground-truth box; boxes are sorted by label, then image.
        labels: (G,).
        boxes: (G, 4) xywh.
        masks: of each box as RLE; empty where boxes are compared.
        crowd: (G,) bool, any number of detections may match it.
        ignored: (G,) bool, a match counts neither as true nor as false.
        judged: (I, C) bool, detections of the category count in the image; None: all do.
        open: (I, C) bool, not all boxes of the category are annotated in the image; None: all are.
        content: the checked annotations that all this was made of, as the packages read them.
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

    @classmethod
    def read(
        cls, annotations: Annotations, categories: CategoryTable, *, lvis_style: bool, iou_type: IouType = "bbox"
    ) -> GroundTruth:
        """From a COCO- or LVIS-format file or its content.

        Without ``area`` the box's is taken; ``iscrowd``, ``neg_category_ids`` and ``not_exhaustive_category_ids`` may
        be absent. Federated, ``iscrowd`` has no meaning, and boxes without area are left out.

        Raises:
            InputError: a field is missing or wrong, or an annotation has a category or image that is not there.
        """
        content = _checked(annotations, categories, lvis_style, iou_type)
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
            for table, field in ((judged, "neg_category_ids"), (unexhausted, "not_exhaustive_category_ids")):
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
        )

    def check(self, detections: Detections) -> None:
        """Whether these detections can be held against it.

        Raises:
            InputError: an image or label that is not there, no masks where masks are compared, or one of another size
                than its image.
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
        """Rows that count in federated evaluation: of each image's best those whose category is judged there.

        Boxes without area do not count where boxes are compared. Otherwise than federated all rows count.
        """
        if self.judged is None:
            return np.arange(len(detections))
        rows = np.lexsort((-detections.scores.astype(np.float64), detections.image_ids))
        rows = np.sort(rows[place_in_run(detections.image_ids[rows]) < max_per_image])
        rows = rows[self.judged[np.searchsorted(self.image_ids, detections.image_ids[rows]), detections.labels[rows]]]
        if self.iou_type == "bbox":
            sides = detections.boxes[rows, 2:].astype(np.float64) - detections.boxes[rows, :2]
            rows = rows[sides.prod(axis=1) > 0]
        return rows


def outside(area: np.ndarray) -> np.ndarray:
    """Whether an area does not count."""
    return (area < AREA_ALL[0]) | (area > AREA_ALL[1])


def place_in_run(values: np.ndarray) -> np.ndarray:
    """Of sorted values the place of each among its equals, from 0."""
    starts = np.flatnonzero(np.diff(values, prepend=values[:1] - 1))
    return np.arange(len(values)) - np.repeat(starts, np.diff([*starts, len(values)]))


def _checked(
    annotations: Annotations, categories: CategoryTable, lvis_style: bool, iou_type: IouType
) -> dict[str, Any]:
    """The part of the annotations that both packages read, complete and checked; ids of boxes made anew from 1.

    (To the packages an annotation id of 0 means "not matched".)
    """
    source = "annotations" if isinstance(annotations, Mapping) else str(annotations)
    content = annotations if isinstance(annotations, Mapping) else read_json(annotations)
    known = set(categories.ids.tolist())
    try:
        images = [
            {
                "id": int(image["id"]),
                "height": image.get("height"),
                "width": image.get("width"),
                "neg_category_ids": list(image.get("neg_category_ids", ())),
                "not_exhaustive_category_ids": list(image.get("not_exhaustive_category_ids", ())),
            }
            for image in content["images"]
        ]
        image_ids = {image["id"] for image in images}
        sizes = {image["id"]: (image["height"], image["width"]) for image in images}
        boxes: list[dict[str, Any]] = []
        for entry in content["annotations"]:
            x, y, width, height = (float(v) for v in entry["bbox"])
            area = float(entry.get("area", width * height))
            if entry["category_id"] not in known:
                raise InputError(f"{source}: field 'category_id' is {entry['category_id']}, not a training category")
            if entry["image_id"] not in image_ids:
                raise InputError(f"{source}: field 'image_id' is {entry['image_id']}, which 'images' lacks")
            if not np.isfinite([x, y, width, height, area]).all():
                raise InputError(f"{source}: field 'bbox' or 'area' of an annotation is not finite")
            if lvis_style and area <= 0:
                continue
            boxes.append(
                {
                    "id": len(boxes) + 1,
                    "image_id": int(entry["image_id"]),
                    "category_id": int(entry["category_id"]),
                    "bbox": [x, y, width, height],
                    "area": area,
                    "iscrowd": 0 if lvis_style else int(entry.get("iscrowd", 0)),
                }
            )
            if iou_type == "segm":
                boxes[-1]["segmentation"] = _rle(entry, *sizes[entry["image_id"]], source)
    except KeyError as error:
        raise InputError(f"{source}: field {error} is missing, expected COCO- or LVIS-format annotations") from error
    except (TypeError, ValueError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{source}: not COCO- or LVIS-format annotations ({error})") from error
    table = categories.frame()[["id", "name", "frequency"]].to_dict("records")
    return {"images": images, "annotations": boxes, "categories": table}


def _rle(entry: Mapping[str, Any], height: Any, width: Any, source: str) -> dict[str, Any]:
    """Mask of an annotation; as text, so that it can be written as JSON."""
    where = f"{source}: annotation {entry.get('id')}: field 'segmentation'"
    if not (isinstance(height, int) and isinstance(width, int)):
        raise InputError(f"{source}: image {entry['image_id']} lacks 'height' or 'width', which masks need")
    if "segmentation" not in entry:
        raise InputError(f"{where} is missing, expected a mask")
    try:
        rle = to_rle(entry["segmentation"], height, width)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: {error}") from error
    counts = rle["counts"]
    return {"size": [height, width], "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts}
