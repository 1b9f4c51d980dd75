"""What kind of error each detection is, which box it is about, and what AP it costs (TIDE, arXiv 2008.08115).

An unmatched detection is, by its best IoU with the boxes of its image, the first of: *localisation*, .1 to .5 with a
box of its class; *classification*, .5 or more with a box of another; *duplicate*, .5 or more with a box of its class
that a better detection has; *background*, at most .1 with any; else *both*, wrong in class and place. A box is *missed*
that no detection takes and no error of localisation or classification is about. What federated evaluation ignores is
no error.

Kinds are those of tidecv; what mending classes or places gains may be more here. A box may have errors of both about
it. Here each kind is mended by itself, and the best of that kind gets the box. In tidecv the best of both kinds does,
and all others are taken away: a wrong class in the right place gains its box nothing there where a misplaced detection
of the right class, which finds the box well enough to be mended, is surer. tidecv also shows no gain below 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.evaluation.ground_truth import GroundTruth, place_in_run
from imbalance_bench.evaluation.matching import Assignment, assign, average_precision, box_iou, ranked
from imbalance_bench.runtime.equality import ByValue

KINDS = ("classification", "localisation", "both", "duplicate", "background")
"""Errors of detections; of boxes there is one, ``missed``."""
CLASSIFICATION, LOCALISATION, BOTH, DUPLICATE, BACKGROUND = range(len(KINDS))
RIGHT, IGNORED = -1, -2
FOREGROUND_IOU, BACKGROUND_IOU = 0.5, 0.1


@dataclass(frozen=True, eq=False)
class Errors(ByValue):
    """Detections and boxes of a split, each with its error.

    Attributes:
        truth: the ground truth.
        found: the D detections that count, and what they take at IoU .5 and above.
        kinds: (D,) place in ``KINDS``, or ``RIGHT`` or ``IGNORED``.
        about: (D,) the ground-truth box that a detection takes or its error is about, -1 without.
        missed: (G,) bool.
        takers: (G,) label of the best detection on each box (IoU >= .5, of whatever class), -1 without; those that
            federated evaluation leaves out are taken too, for they tell where the box goes.
    """

    truth: GroundTruth
    found: Assignment
    kinds: np.ndarray
    about: np.ndarray
    missed: np.ndarray
    takers: np.ndarray

    @property
    def counted(self) -> np.ndarray:
        """(G,) bool, boxes that are to be found."""
        return ~self.truth.ignored


def analyse(detections: Detections, truth: GroundTruth, max_detections: int = 300) -> Errors:
    """The error of every detection and box.

    Args:
        detections: as for ``detection.evaluate``.
        truth: boxes, not masks.
        max_detections: as for ``detection.evaluate``.

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
    found = assign(detections, truth, max_detections)
    taken, ignored = found.boxes[0], found.ignored[0]
    own, own_box, other, other_box = _best_overlaps(detections, found, truth)
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
    return Errors(truth, found, kinds, about, missed, _takers(detections, truth))


def _by_image(images: np.ndarray, num_images: int) -> list[np.ndarray]:
    """Places of each image's items, in their order."""
    order = np.argsort(images, kind="stable")
    return np.split(order, np.searchsorted(images[order], np.arange(1, num_images)))


def _best_overlaps(
    detections: Detections, found: Assignment, truth: GroundTruth
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of each detection the best IoU with a box of its class and that box; the same with one of another class."""
    best, box = np.zeros((2, len(found.rows))), np.full((2, len(found.rows)), -1)
    counted = np.flatnonzero(~truth.ignored)
    boxes_of = _by_image(truth.images[counted], len(truth.image_ids))
    for own, places in zip(_by_image(found.images, len(truth.image_ids)), boxes_of, strict=True):
        if len(own) == 0 or len(places) == 0:
            continue
        here = counted[places]
        iou = _overlaps(detections, found.rows[own], truth, here)
        same = found.labels[own][:, None] == truth.labels[here]
        for kind, allowed in enumerate((same, ~same)):
            overlap = np.where(allowed, iou, 0)
            first = overlap.argmax(axis=1)
            best[kind, own] = overlap[np.arange(len(own)), first]
            box[kind, own] = np.where(best[kind, own] > 0, here[first], -1)
    return best[0], box[0], best[1], box[1]


def _overlaps(detections: Detections, rows: np.ndarray, truth: GroundTruth, boxes: np.ndarray) -> np.ndarray:
    """(D, G) IoU of some detections and boxes."""
    pairs = box_iou(detections, np.repeat(rows, len(boxes)), truth, np.tile(boxes, len(rows)))
    return pairs.reshape(len(rows), len(boxes))


def _takers(detections: Detections, truth: GroundTruth) -> np.ndarray:
    """(G,) label of the best-scored detection on each box, -1 without."""
    takers = np.full(len(truth.boxes), -1)
    order = np.argsort(-detections.scores, kind="stable")
    images = np.searchsorted(truth.image_ids, detections.image_ids[order])
    boxes_of = _by_image(truth.images, len(truth.image_ids))
    for own, here in zip(_by_image(images, len(truth.image_ids)), boxes_of, strict=True):
        if len(own) and len(here):
            rows = order[own]
            on_box = _overlaps(detections, rows, truth, here) >= FOREGROUND_IOU
            takers[here] = np.where(on_box.any(axis=0), detections.labels[rows][on_box.argmax(axis=0)], -1)
    return takers


def gains(errors: Errors) -> pd.DataFrame:
    """AP50 of each category, and by how much it rises where all errors of a kind are mended.

    *Classification*: of the errors about a box that nobody takes, the best gets the box and its class; *localisation*:
    it gets the box; the other errors of the kind go away, as all do of the other kinds. *missed*: boxes that are missed
    are not asked for. How tidecv differs, the module says.

    Returns:
        Index ``label``; columns ``ap50``, ``KINDS`` and ``missed`` (fractions, NaN without ground truth).
    """
    found, kinds = errors.found, errors.kinds
    right, ignored, boxes = kinds == RIGHT, kinds == IGNORED, errors.counted

    def ap50(labels: np.ndarray, right: np.ndarray, ignored: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        return average_precision(ranked(found, labels, right[None], ignored[None], errors.truth, boxes))

    before = ap50(found.labels, right, ignored, boxes)
    columns = {"ap50": before}
    for kind, name in enumerate(KINDS):
        wrong = kinds == kind
        mended, labels = np.zeros_like(wrong), found.labels.copy()
        if kind in (CLASSIFICATION, LOCALISATION):
            mended = _best_about_each_free_box(errors, wrong)
            labels[mended] = errors.truth.labels[errors.about[mended]]
        columns[name] = ap50(labels, right | mended, ignored | (wrong & ~mended), boxes) - before
    columns["missed"] = ap50(found.labels, right, ignored, boxes & ~errors.missed) - before
    # A category of which all boxes are missed has nothing left to be asked for.
    nothing_left = np.isnan(columns["missed"]) & ~np.isnan(before)
    columns["missed"] = np.where(nothing_left, 1 - before, columns["missed"])
    return pd.DataFrame(columns, index=pd.RangeIndex(errors.truth.categories.num_classes, name="label"))


def _best_about_each_free_box(errors: Errors, wrong: np.ndarray) -> np.ndarray:
    """(D,) bool: of the errors about each box that no detection takes, the one of the highest score."""
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
    """Errors among the best detections of each category: as many of them as it has boxes (Hoiem et al., ECCV 2012).

    Without such a limit the count is of the many detections with scores near zero that an image's 300 places leave.

    Returns:
        Index ``label``; columns ``right``, ``bin 1``.. (errors of classification by the bin of the *true* class) and
        the other ``KINDS``, summing to the detections looked at; then ``boxes`` and ``missed`` of them.
    """
    truth, found, categories = errors.truth, errors.found, errors.truth.categories
    boxes = np.bincount(truth.labels[errors.counted], minlength=categories.num_classes)
    order = np.lexsort((found.images, -found.scores, found.labels))
    order = order[errors.kinds[order] != IGNORED]
    order = order[place_in_run(found.labels[order]) < boxes[found.labels[order]]]
    kinds, labels = errors.kinds[order], found.labels[order]
    true_bin = categories.bins[truth.labels[errors.about[order]]]
    chosen = {"right": kinds == RIGHT}
    for number in range(1, categories.num_bins + 1):
        chosen[f"bin {number}"] = (kinds == CLASSIFICATION) & (true_bin == number)
    chosen |= {name: kinds == kind for kind, name in enumerate(KINDS) if kind != CLASSIFICATION}
    width = categories.num_classes
    columns = {name: np.bincount(labels[rows], minlength=width) for name, rows in chosen.items()}
    columns |= {"boxes": boxes, "missed": np.bincount(truth.labels[errors.missed], minlength=width)}
    return pd.DataFrame(columns, index=pd.RangeIndex(width, name="label"))


def takers(errors: Errors, overlaps: np.ndarray | None = None) -> pd.DataFrame:
    """Who stands on the boxes of each category: the best detection on a box is of its class, of another, or not there.

    Args:
        errors: of ``analyse``.
        overlaps: of ``coverage.best_overlaps``: tells boxes that a proposal covers from those that none does.

    Returns:
        Index ``label``, counts of boxes: ``right``, ``bin 1``.. (another class, by its bin), and ``no detection``, or
        ``proposal only`` and ``no proposal``.
    """
    truth, categories = errors.truth, errors.truth.categories
    labels, taker = truth.labels[errors.counted], errors.takers[errors.counted]
    right, nobody = taker == labels, taker < 0
    chosen = {"right": right}
    for number in range(1, categories.num_bins + 1):
        chosen[f"bin {number}"] = ~right & ~nobody & (categories.bins[taker] == number)
    if overlaps is None:
        chosen["no detection"] = nobody
    else:
        covered = overlaps[errors.counted] >= FOREGROUND_IOU
        chosen |= {"proposal only": nobody & covered, "no proposal": nobody & ~covered}
    width = categories.num_classes
    columns = {name: np.bincount(labels[rows], minlength=width) for name, rows in chosen.items()}
    return pd.DataFrame(columns, index=pd.RangeIndex(width, name="label"))
