"""Average precision of each category, from detections and COCO- or LVIS-format annotations.

``faster`` is faster-coco-eval, ``lvis`` the official lvis package; on federated annotations the two agree, and
the first is several times faster.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from imbalance_bench.categories import CategoryTable, read_json
from imbalance_bench.errors import InputError
from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.evaluation.masks import to_rle

AREA_ALL = [0.0, 1e10]


def evaluate(
    detections: Detections,
    annotations: str | os.PathLike[str] | Mapping[str, Any],
    categories: CategoryTable,
    *,
    lvis_style: bool,
    evaluator: Literal["faster", "lvis"] = "faster",
    iou_type: Literal["bbox", "segm"] = "bbox",
    max_detections: int = 300,
) -> pd.DataFrame:
    """AP of each category: 10 IoUs from .5 to .95, 101 recall levels, boxes of any area (section 5.1).

    Federated (``lvis_style``): an image counts for the categories annotated in it and in its ``neg_category_ids``
    only, unmatched detections of its ``not_exhaustive_category_ids`` are ignored, ``iscrowd`` has no meaning, boxes
    without area are left out, and the best ``max_detections`` of an image count. Otherwise as COCO: crowd regions
    are ignored, and the best ``max_detections`` of an image *and category* count.

    Args:
        detections: boxes of ``annotations``' images.
        annotations: COCO- or LVIS-format file or its content; without ``area`` the box's is taken, and
            ``iscrowd``, ``neg_category_ids`` and ``not_exhaustive_category_ids`` may be absent.
        categories: gives labels their category ids; ids in ``annotations`` must be among them.
        lvis_style: as above.
        evaluator: ``lvis`` only with ``lvis_style``.
        iou_type: overlap of boxes or of masks.
        max_detections: 300 on LVIS.

    Returns:
        Index ``label`` 0..C-1; columns ``val_instances``, ``val_images`` (crowd left out), ``ap``, ``ap50``,
        ``ap75``, ``recall`` (at the last detection, mean over IoUs): fractions, NaN without validation ground truth.

    Raises:
        InputError: bad annotations, a detection of an image or label they do not have, or no masks for ``segm``.
        ValueError: an unknown evaluator, or ``lvis`` without ``lvis_style``.
    """
    if evaluator not in ("faster", "lvis") or (evaluator == "lvis" and not lvis_style):
        raise ValueError(f"evaluator {evaluator!r}: expected 'faster', or 'lvis' on federated annotations")
    if iou_type == "segm" and detections.masks is None and len(detections):
        raise InputError("detections: they carry no masks, expected a 'segmentation' of each to evaluate masks")
    truth = checked_annotations(annotations, categories, lvis_style, iou_type)
    results = counted_results(detections, truth, categories, max_detections if lvis_style else None, iou_type)
    counted = [a for a in truth["annotations"] if not a["iscrowd"]]
    pairs = pd.DataFrame([(a["category_id"], a["image_id"]) for a in counted], columns=["id", "image"])
    instances = pairs.groupby("id").size().reindex(categories.ids, fill_value=0).to_numpy()
    images = pairs.groupby("id")["image"].nunique().reindex(categories.ids, fill_value=0).to_numpy()
    run = _run_lvis if evaluator == "lvis" else _run_faster
    # Neither package takes an empty list in all its versions; and nothing found needs no package.
    if results and counted:
        precision, recall = run(truth, results, lvis_style, max_detections, iou_type)
    else:
        precision, recall = np.zeros((10, 101, len(instances))), np.zeros((10, len(instances)))
    frame = pd.DataFrame(
        {
            "val_instances": instances,
            "val_images": images,
            "ap": precision.mean(axis=(0, 1)),
            "ap50": precision[0].mean(axis=0),
            "ap75": precision[5].mean(axis=0),
            "recall": recall.mean(axis=0),
        },
        index=pd.RangeIndex(categories.num_classes, name="label"),
    )
    frame.loc[frame["val_instances"] == 0, ["ap", "ap50", "ap75", "recall"]] = np.nan
    return frame


def checked_annotations(
    annotations: str | os.PathLike[str] | Mapping[str, Any],
    categories: CategoryTable,
    lvis_style: bool,
    iou_type: str = "bbox",
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


def counted_results(
    detections: Detections,
    truth: Mapping[str, Any],
    categories: CategoryTable,
    max_per_image: int | None,
    iou_type: str = "bbox",
) -> list[dict[str, Any]]:
    """Detections as COCO results; with ``max_per_image``, only those that count in federated evaluation.

    Dropping the others here, a vast majority, spares the packages from carrying them.
    """
    known = np.array([image["id"] for image in truth["images"]], dtype=np.int64)
    strangers = detections.image_ids[~np.isin(detections.image_ids, known)]
    if len(strangers):
        raise InputError(f"detections: field 'image_ids' has {strangers[0]}, which the annotations' 'images' lack")
    if len(detections) and not 0 <= detections.labels.min() <= detections.labels.max() < categories.num_classes:
        raise InputError(f"detections: field 'labels' leaves the range 0 to {categories.num_classes - 1}")
    category_ids = categories.ids[detections.labels]
    corners = detections.boxes.astype(np.float64)
    bboxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    rows = np.arange(len(detections))
    if max_per_image is not None:
        rows = np.lexsort((rows, -detections.scores.astype(np.float64), detections.image_ids))
        _, first, counts = np.unique(detections.image_ids[rows], return_index=True, return_counts=True)
        rank = np.arange(len(rows)) - np.repeat(first, counts)
        rows = np.sort(rows[rank < max_per_image])
        judged = {(a["image_id"], a["category_id"]) for a in truth["annotations"]}
        judged |= {(image["id"], c) for image in truth["images"] for c in image["neg_category_ids"]}
        pairs = zip(detections.image_ids[rows].tolist(), category_ids[rows].tolist(), strict=True)
        rows = rows[np.fromiter((pair in judged for pair in pairs), bool, len(rows))]
        if iou_type == "bbox":
            rows = rows[bboxes[rows, 2] * bboxes[rows, 3] > 0]
    columns = (detections.image_ids, category_ids, bboxes, detections.scores.astype(np.float64))
    # An empty segmentation keeps the packages from making a polygon of each box.
    results: list[dict[str, Any]] = [
        {"image_id": image, "category_id": category, "bbox": bbox, "score": score, "segmentation": []}
        for image, category, bbox, score in zip(*(column[rows].tolist() for column in columns), strict=True)
    ]
    if iou_type == "segm" and detections.masks is not None:
        sizes = {image["id"]: [image["height"], image["width"]] for image in truth["images"]}
        for result, row in zip(results, rows.tolist(), strict=True):
            result["segmentation"] = mask = detections.masks.rle(row)
            if mask["size"] != sizes[result["image_id"]]:
                raise InputError(
                    f"detections: a mask on image {result['image_id']} has 'size' {mask['size']}, the annotations say "
                    f"{sizes[result['image_id']]}"
                )
    return results


def _run_faster(
    truth: dict[str, Any], results: list[dict[str, Any]], lvis_style: bool, max_detections: int, iou_type: str
) -> tuple[np.ndarray, np.ndarray]:
    """(10, 101, C) precision and (10, C) recall by faster-coco-eval."""
    from faster_coco_eval import COCO, COCOeval_faster

    ground_truth = COCO(truth)
    run = COCOeval_faster(ground_truth, ground_truth.loadRes(results), iouType=iou_type, lvis_style=lvis_style)
    run.params.maxDets = [max_detections]
    run.params.areaRng, run.params.areaRngLbl = [AREA_ALL], ["all"]
    run.evaluate()
    run.accumulate()
    return run.eval["precision"][:, :, :, 0, 0], run.eval["recall"][:, :, 0, 0]


def _run_lvis(
    truth: dict[str, Any], results: list[dict[str, Any]], lvis_style: bool, max_detections: int, iou_type: str
) -> tuple[np.ndarray, np.ndarray]:
    """(10, 101, C) precision and (10, C) recall by the official lvis package."""
    with _lvis_package() as lvis, tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "annotations.json"
        path.write_text(json.dumps(truth))
        ground_truth = lvis.LVIS(str(path))
        run = lvis.LVISEval(ground_truth, lvis.LVISResults(ground_truth, results, max_detections), iou_type)
        run.params.area_rng, run.params.area_rng_lbl = [AREA_ALL], ["all"]
        run.evaluate()
        run.accumulate()
    return run.eval["precision"][:, :, :, 0], run.eval["recall"][:, :, 0]


@contextmanager
def _lvis_package() -> Iterator[Any]:
    """The lvis package, quiet and with the ``np.float`` that its 0.5.3 still uses, for the time of the block.

    Importing it configures the root logger, which is undone too.
    """
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    import lvis

    root.handlers[:] = handlers
    root.setLevel(level)
    logger = logging.getLogger("lvis")
    verbosity = logger.level
    logger.setLevel(logging.ERROR)
    absent = "float" not in vars(np)
    if absent:
        vars(np)["float"] = float
    try:
        yield lvis
    finally:
        logger.setLevel(verbosity)
        if absent:
            del vars(np)["float"]
