"""The kind of error of each detection, the box that the error concerns, and its cost in AP (TIDE, arXiv 2008.08115).

Detections are matched by greedy matching (``matching.assign``). The kind of error of an unmatched detection depends on
its best IoU with the boxes of its image; the first that applies counts:

- *localisation*: .1 to .5 with a box of its class;
- *classification*: .5 or more with a box of another class;
- *duplicate*: .5 or more with a box of its class that is matched to a better detection;
- *background*: at most .1 with any box;
- *both*: all others, wrong in class and place.

A box is *missed* if no detection is matched to it and no error of localisation or classification concerns it.
Detections that federated evaluation ignores are no errors.

The kinds are those of tidecv, but correcting classes or places may gain more here. Errors of both kinds may concern the
same box. Here each kind is corrected separately, and the best error of that kind gets the box. In tidecv the best error
of both kinds together gets the box, and all others are removed. There, correcting a wrong class in the right place
gains nothing for its box if a misplaced detection of the right class, which can be corrected too, has a higher score.
tidecv also shows no gain below 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.evaluation.ground_truth import GroundTruth, place_in_run
from imbalance_bench.evaluation.matching import Assignment, all_ious, assign, average_precision, rank_order, ranked
from imbalance_bench.runtime.equality import ByValue

KINDS = ("classification", "localisation", "both", "duplicate", "background")
"""Kinds of errors of detections; boxes have one kind, ``missed``."""
CLASSIFICATION, LOCALISATION, BOTH, DUPLICATE, BACKGROUND = range(len(KINDS))
RIGHT, IGNORED = -1, -2
FOREGROUND_IOU, BACKGROUND_IOU = 0.5, 0.1


@dataclass(frozen=True, eq=False)
class Errors(ByValue):
    """Detections and boxes of a split, each with its error.

    Attributes:
        truth: the ground truth.
        found: the D detections that count, and their matched boxes at IoU .5 and above.
        kinds: (D,) index in ``KINDS``, or ``RIGHT`` or ``IGNORED``.
        about: (D,) the ground-truth box that a detection is matched to or that its error concerns, -1 for none.
        missed: (G,) bool.
        takers: (G,) label of the best detection on each box (IoU >= .5, of any class), -1 for none. Detections that
            federated evaluation leaves out are included, as they show which class the box is detected as.
    """

    truth: GroundTruth
    found: Assignment
    kinds: np.ndarray
    about: np.ndarray
    missed: np.ndarray
    takers: np.ndarray

    @property
    def counted(self) -> np.ndarray:
        """The boxes that should be found, (G,) bool."""
        return ~self.truth.ignored


def analyse(
    detections: Detections, truth: GroundTruth, max_detections: int = 300, found: Assignment | None = None
) -> Errors:
    """Find the kind of error of every detection and box.

    Args:
        detections: as for ``average_precision.evaluate``.
        truth: ground truth of boxes, not masks.
        max_detections: as for ``average_precision.evaluate``.
        found: the matched detections, where they are at hand.

    Raises:
        InputError: as ``GroundTruth.check``.
        ValueError: ground truth of masks.

    Example:
        >>> from imbalance_bench.categories import CategoryTable
        >>> table = CategoryTable.from_arrays([4, 120], names=["ladle", "kite"])
        >>> box = {"image_id": 7, "category_id": 1, "bbox": [0, 0, 10, 10]}
        >>> truth = GroundTruth.read({"images": [{"id": 7}], "annotations": [box]}, table)
        >>> found = Detections.from_arrays([7, 7], [[0, 0, 10, 10], [0, 0, 10, 8]], [0.9, 0.4], [1, 0])
        >>> errors = analyse(found, truth)
        >>> [KINDS[kind] if kind >= 0 else "right" for kind in errors.kinds]
        ['right', 'classification']
    """
    found = assign(detections, truth, max_detections) if found is None else found
    taken, ignored = found.boxes[0], found.ignored[0]
    near = _nearest(detections, truth)
    own, own_box, other, other_box = (column[found.rows] for column in near[:4])
    conditions = [
        ignored,
        taken >= 0,
        (own >= BACKGROUND_IOU) & (own < FOREGROUND_IOU),
        other >= FOREGROUND_IOU,
        own >= FOREGROUND_IOU,
        np.maximum(own, other) <= BACKGROUND_IOU,
    ]
    kinds = np.select(conditions, [IGNORED, RIGHT, LOCALISATION, CLASSIFICATION, DUPLICATE, BACKGROUND], BOTH)
    boxes = [np.full_like(taken, -1), taken, own_box, other_box, own_box, np.full_like(taken, -1)]
    about = np.select(conditions, boxes, other_box)
    explained = np.isin(kinds, (RIGHT, LOCALISATION, CLASSIFICATION))
    missed = ~truth.ignored
    missed[about[explained]] = False
    return Errors(truth, found, kinds, about, missed, near.takers)


class _Nearest(NamedTuple):
    """Of each of D detections the best IoU with a counted box of its class, and that box, -1 for none; the same of
    other classes; and of each of G boxes the label of the detection with the highest score on it, -1 for none."""

    own: np.ndarray
    own_box: np.ndarray
    other: np.ndarray
    other_box: np.ndarray
    takers: np.ndarray


def _nearest(detections: Detections, truth: GroundTruth) -> _Nearest:
    """Compare all detections of each image with all its boxes."""
    best, box = np.zeros((2, len(detections))), np.full((2, len(detections)), -1, dtype=np.int32)
    takers = np.full(len(truth.boxes), -1)
    images = np.searchsorted(truth.image_ids, detections.image_ids)
    order = np.lexsort((-detections.scores, images))
    rows_of = np.split(order, np.searchsorted(images[order], np.arange(1, len(truth.image_ids))))
    by_image = np.argsort(truth.images, kind="stable")
    boxes_of = np.split(by_image, np.searchsorted(truth.images[by_image], np.arange(1, len(truth.image_ids))))
    for rows, here in zip(rows_of, boxes_of, strict=True):
        if len(rows) == 0 or len(here) == 0:
            continue
        iou, labels = all_ious(detections, rows, truth, here), detections.labels[rows]
        on_box = iou >= FOREGROUND_IOU
        takers[here] = np.where(on_box.any(axis=0), labels[on_box.argmax(axis=0)], -1)
        iou[:, truth.ignored[here]] = 0
        same = labels[:, None] == truth.labels[here]
        for kind, allowed in enumerate((same, ~same)):
            overlap = np.where(allowed, iou, 0)
            first = overlap.argmax(axis=1)
            best[kind, rows] = overlap[np.arange(len(rows)), first]
            box[kind, rows] = np.where(best[kind, rows] > 0, here[first], -1)
    return _Nearest(best[0], box[0], best[1], box[1], takers)


def gains(errors: Errors) -> pd.DataFrame:
    """Compute AP50 of each category, and its gain when all errors of one kind are corrected.

    *classification*: of the errors that concern an unmatched box, the best one gets the box and its class.
    *localisation*: the best one gets the box. All other errors of the kind are removed; for the other kinds, all errors
    of the kind are removed. *missed*: the missed boxes are removed from the ground truth. The docstring of this module
    describes how tidecv differs.

    Returns:
        Index ``label``; columns ``ap50``, ``KINDS`` and ``missed`` (fractions, NaN without ground truth).
    """
    found, kinds = errors.found, errors.kinds
    right, ignored, boxes = kinds == RIGHT, kinds == IGNORED, errors.counted
    as_they_are = rank_order(found, found.labels)

    def ap50(labels: np.ndarray, right: np.ndarray, ignored: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        order = as_they_are if labels is found.labels else None
        return average_precision(ranked(found, labels, right[None], ignored[None], errors.truth, boxes, order))

    before = ap50(found.labels, right, ignored, boxes)
    columns = {"ap50": before}
    for kind, name in enumerate(KINDS):
        wrong = kinds == kind
        mended, labels = np.zeros_like(wrong), found.labels
        if kind in (CLASSIFICATION, LOCALISATION):
            mended = _best_about_each_free_box(errors, wrong)
        if kind == CLASSIFICATION:
            labels = labels.copy()
            labels[mended] = errors.truth.labels[errors.about[mended]]
        columns[name] = ap50(labels, right | mended, ignored | (wrong & ~mended), boxes) - before
    columns["missed"] = ap50(found.labels, right, ignored, boxes & ~errors.missed) - before
    # If all boxes of a category are missed, no box of it is left.
    nothing_left = np.isnan(columns["missed"]) & ~np.isnan(before)
    columns["missed"] = np.where(nothing_left, 1 - before, columns["missed"])
    return pd.DataFrame(columns, index=pd.RangeIndex(errors.truth.categories.num_classes, name="label"))


def _best_about_each_free_box(errors: Errors, wrong: np.ndarray) -> np.ndarray:
    """Select for each unmatched box the error with the highest score that concerns it; return (D,) bool."""
    free = np.ones(len(errors.truth.boxes), dtype=bool)
    free[errors.about[errors.kinds == RIGHT]] = False
    candidates = np.flatnonzero(wrong)
    candidates = candidates[free[errors.about[candidates]]]
    candidates = candidates[np.argsort(-errors.found.scores[candidates], kind="stable")]
    _, first = np.unique(errors.about[candidates], return_index=True)
    best = np.zeros_like(wrong)
    best[candidates[first]] = True
    return best


def counts(errors: Errors) -> pd.DataFrame:
    """Count errors among each category's best detections, as many as it has boxes (Hoiem et al., ECCV 2012).

    Without this limit, the counts would be dominated by the many detections with scores near zero that fill up the 300
    detections of an image.

    Returns:
        Index ``label``; columns ``right``, ``bin 1``.. (errors of classification by the bin of the *true* class) and
        the other ``KINDS``, which sum to the number of these detections; then ``boxes`` and the number ``missed``.
    """
    truth, found, categories = errors.truth, errors.found, errors.truth.categories
    boxes = np.bincount(truth.labels[errors.counted], minlength=categories.num_classes)
    order = np.lexsort((found.images, -found.scores, found.labels))
    order = order[errors.kinds[order] != IGNORED]
    order = order[place_in_run(found.labels[order]) < boxes[found.labels[order]]]
    kinds, labels = errors.kinds[order], found.labels[order]
    true_bin = categories.bins[truth.labels[errors.about[order]]]
    chosen = {"right": kinds == RIGHT}
    for number in categories.bin_numbers:
        chosen[f"bin {number}"] = (kinds == CLASSIFICATION) & (true_bin == number)
    chosen |= {name: kinds == kind for kind, name in enumerate(KINDS) if kind != CLASSIFICATION}
    width = categories.num_classes
    columns = {name: np.bincount(labels[rows], minlength=width) for name, rows in chosen.items()}
    columns |= {"boxes": boxes, "missed": np.bincount(truth.labels[errors.missed], minlength=width)}
    return pd.DataFrame(columns, index=pd.RangeIndex(width, name="label"))


def box_outcomes(errors: Errors, overlaps: np.ndarray | None = None) -> pd.DataFrame:
    """Count the boxes of each category by the class of the best detection on each box: its own, another, or none.

    Args:
        errors: result of ``analyse``.
        overlaps: result of ``coverage.best_overlaps``; separates boxes that a proposal covers from uncovered ones.

    Returns:
        Index ``label``, counts of boxes: ``right``, ``bin 1``.. (another class, by its bin), and ``no detection``; with
        ``overlaps``, ``proposal only`` and ``no proposal`` in its place.
    """
    truth, categories = errors.truth, errors.truth.categories
    labels, taker = truth.labels[errors.counted], errors.takers[errors.counted]
    right, nobody = taker == labels, taker < 0
    chosen = {"right": right}
    for number in categories.bin_numbers:
        chosen[f"bin {number}"] = ~right & ~nobody & (categories.bins[taker] == number)
    if overlaps is None:
        chosen["no detection"] = nobody
    else:
        covered = overlaps[errors.counted] >= FOREGROUND_IOU
        chosen |= {"proposal only": nobody & covered, "no proposal": nobody & ~covered}
    width = categories.num_classes
    columns = {name: np.bincount(labels[rows], minlength=width) for name, rows in chosen.items()}
    return pd.DataFrame(columns, index=pd.RangeIndex(width, name="label"))
