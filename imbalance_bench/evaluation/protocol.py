"""A description of an evaluation: its rules, what was left out and why, and signs of another file convention.

The same AP means different things under different rules, and files whose fields are placeholders or in other units are
evaluated without an error. So every evaluation is described in one to three lines.
"""

from __future__ import annotations

import numpy as np

from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.evaluation.ground_truth import GroundTruth
from imbalance_bench.evaluation.matching import box_iou

_IMAGES = 200
"""Number of images that are used to check the category ids of detections."""
_MEETINGS = 3
"""Least number of boxes that must agree in class before other ids are reported."""


def describe(truth: GroundTruth, detections: Detections | None = None) -> list[str]:
    """Describe an evaluation in one to three lines: the rules; what counts and what is left out; what to check, if any.

    Args:
        truth: the ground truth of the evaluation.
        detections: the detections that were evaluated.
    """
    lines = [_rules(truth), _counted(truth)]
    odd = [*_oddities(truth), *(_of_detections(truth, detections) if detections is not None else [])]
    return [*lines, f"look at: {'; '.join(odd)}"] if odd else lines


def _rules(truth: GroundTruth) -> str:
    images, listed = len(truth.image_ids), truth.listed
    if truth.judged is None or truth.open is None:
        line = "rules: COCO's, every class is judged in every image"
        if listed.crowd:
            line += f"; {_count(listed.crowd, 'crowd region')} ignored"
        if listed.neg_category_ids:
            line += "; its neg_category_ids are not used, as the data set is known to be annotated exhaustively"
        elif listed.not_exhaustive_category_ids:
            line += "; not_exhaustive_category_ids is not used, for no image has neg_category_ids"
        return line
    line = "rules: LVIS's (federated), a class is judged in images that have it or list it in neg_category_ids"
    if listed.neg_category_ids < images:
        line += f" ({images - listed.neg_category_ids:,} of {images:,} images lack this field)"
    if pairs := int(truth.open.sum()):
        line += f"; not exhaustive in {_count(pairs, 'pair')} of image and class"
    return line


def _counted(truth: GroundTruth) -> str:
    listed, classes, images = truth.listed, truth.categories.num_classes, len(truth.image_ids)
    counted = ~truth.ignored
    present = len(np.unique(truth.labels[counted]))
    line = f"counted: {_count(int(counted.sum()), 'box', 'boxes')} of {_count(present, 'class', 'classes')}"
    left = []
    if present < classes:
        left.append(f"{classes - present:,} of {classes:,} classes have no box, so no AP")
    if truth.judged is not None and listed.without_area:
        left.append(f"{listed.without_area:,} of {listed.boxes:,} boxes have area <= 0 and are left out")
    if truth.judged is None and (outside := int((truth.ignored & ~truth.crowd).sum())):
        left.append(f"{outside:,} of {listed.boxes:,} boxes have area < 0 and are ignored")
    empty = images - len(np.unique(truth.images[counted]))
    if empty and truth.judged is None:
        left.append(f"{empty:,} of {images:,} images have none, all found there is false")
    elif empty and truth.judged is not None:
        negative = int(truth.judged.any(axis=1).sum()) - (images - empty)
        parts = [f"{negative:,} with absent classes alone"] if negative else []
        parts += [f"{empty - negative:,} with no class judged"] if empty > negative else []
        left.append(f"{empty:,} of {images:,} images have none: {', '.join(parts)}")
    return f"{line}; {'; '.join(left)}" if left else line


def _oddities(truth: GroundTruth) -> list[str]:
    """List signs that the annotations follow another convention."""
    listed, found = truth.listed, []
    if truth.judged is not None and listed.with_sides_alone:
        found.append(
            f"field 'area' of {_count(listed.with_sides_alone, 'box', 'boxes')} is <= 0 though the sides are not"
        )
    if truth.judged is not None and listed.crowd:
        found.append(f"'iscrowd' of {_count(listed.crowd, 'box', 'boxes')} has no meaning in LVIS's rules")
    if listed.without_sides:
        found.append(
            f"{listed.without_sides:,} of {listed.boxes:,} boxes have a side that is not above 0: no training uses them"
        )
    if len(truth.boxes) and _within_a_pixel(truth.boxes[:, :2], truth.boxes[:, :2] + truth.boxes[:, 2:]):
        found.append("all boxes lie within 1 x 1 pixel: are they normalised?")
    return found


def _of_detections(truth: GroundTruth, detections: Detections) -> list[str]:
    """List signs that the detections follow another convention."""
    found = list(detections.notes)
    if not len(detections):
        return [*found, "there are no detections"]
    sides = detections.boxes[:, 2:] - detections.boxes[:, :2]
    if flat := int((sides <= 0).any(axis=1).sum()):
        found.append(f"{flat:,} of {len(sides):,} detections have a side that is not above 0")
    if _within_a_pixel(detections.boxes[:, :2], detections.boxes[:, 2:]):
        found.append("all detections lie within 1 x 1 pixel: are they normalised?")
    return found + _other_ids(truth, detections)


def _within_a_pixel(low: np.ndarray, high: np.ndarray) -> bool:
    return bool(min(low.min(), high.min()) >= 0 and max(low.max(), high.max()) <= 1)


def _other_ids(truth: GroundTruth, detections: Detections) -> list[str]:
    """Check whether category ids seem to count the classes from 0 or 1 instead of being the annotations' ids.

    For this, the boxes of some images are compared with the ground truth under both readings.
    """
    ids, width = truth.categories.ids, truth.categories.num_classes
    images = np.unique(truth.images)[:_IMAGES]
    rows = np.flatnonzero(np.isin(detections.image_ids, truth.image_ids[images]))
    boxes = np.flatnonzero(np.isin(truth.images, images))
    image = np.searchsorted(truth.image_ids, detections.image_ids[rows])
    # Pairs of a detection and a box of its image, grouped by detection; boxes are sorted by image.
    boxes = boxes[np.argsort(truth.images[boxes], kind="stable")]
    first, last = (np.searchsorted(truth.images[boxes], image, side=side) for side in ("left", "right"))
    row = np.repeat(rows, last - first)
    place = np.arange(len(row)) - np.repeat(np.cumsum(last - first) - last, last - first)
    box = boxes[place]
    hit = box_iou(detections, row, truth, box) >= 0.5
    stated, true = ids[detections.labels[row[hit]]], truth.labels[box[hit]]
    as_they_are = int((ids[true] == stated).sum())
    for start in (0, 1):
        if (ids == np.arange(width) + start).all():
            continue
        counted = int((true == stated - start).sum())
        if counted >= _MEETINGS and counted > 2 * as_they_are and counted > len(true) / 2:
            return [
                f"category ids seem to count the classes from {start}, not to be the annotations' ({ids[0]} to "
                f"{ids[-1]}): so {counted:,} boxes of a class meet, as they are {as_they_are:,}"
            ]
    return []


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
