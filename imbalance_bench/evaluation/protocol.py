"""A description of an evaluation: its rules, what was left out and why, and signs of another file convention.

The same AP means different things under different rules, and files whose fields are placeholders or in other units are
evaluated without an error. So every evaluation is described in a few lines.
"""

from __future__ import annotations

import numpy as np

from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.evaluation.ground_truth import GroundTruth


def describe(truth: GroundTruth, detections: Detections | None = None) -> list[str]:
    """Describe an evaluation in two to four lines.

    These are the rules; what counts and what is left out; how the detections were read; what to check, if any.

    Args:
        truth: the ground truth of the evaluation.
        detections: the detections that were evaluated.
    """
    lines = [_rules(truth), _counted(truth)]
    if detections is not None and detections.notes:
        lines.append(f"read: {'; '.join(detections.notes)}")
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
    if not len(detections):
        return ["there are no detections"]
    found = []
    sides = detections.boxes[:, 2:] - detections.boxes[:, :2]
    if flat := int((sides <= 0).any(axis=1).sum()):
        found.append(f"{flat:,} of {len(sides):,} detections have a side that is not above 0")
    if _within_a_pixel(detections.boxes[:, :2], detections.boxes[:, 2:]):
        found.append("all detections lie within 1 x 1 pixel: are they normalised?")
    if beyond := _beyond(truth, detections):
        found.append(
            f"{beyond:,} of {len(sides):,} detections reach far beyond their image: are their boxes of another form "
            "(x, y, width, height as two corners), or of another size of the images?"
        )
    return found


def _beyond(truth: GroundTruth, detections: Detections) -> int:
    """Count the detections that reach beyond their image by a tenth of its sides; 0 if these are few."""
    size = truth.sizes[np.searchsorted(truth.image_ids, detections.image_ids)]
    low, high = detections.boxes[:, :2], detections.boxes[:, 2:]
    beyond = int(((low < -0.1 * size) | (high > 1.1 * size)).any(axis=1).sum())
    return beyond if beyond > 0.1 * len(detections) else 0


def _within_a_pixel(low: np.ndarray, high: np.ndarray) -> bool:
    return bool(min(low.min(), high.min()) >= 0 and max(low.max(), high.max()) <= 1)


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
