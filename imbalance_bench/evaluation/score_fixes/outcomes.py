"""What became of each detection, the folds of the images, and counts of both on a grid of scores.

All fits use the counts of a fold, a class and a cell of the grid, so their cost does not depend on the number of
detections. A cell reaches from one of ``LEVELS`` to the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.special import expit, logit

from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.evaluation.fixed_ap import NO_LIMIT
from imbalance_bench.evaluation.ground_truth import GroundTruth
from imbalance_bench.evaluation.matching import IOU_THRESHOLDS, Assignment, assign, box_iou
from imbalance_bench.runtime.equality import ByValue
from imbalance_bench.runtime.errors import InputError

_TAIL = np.round(expit(np.arange(-9.2, -2.2, 0.2)), 4)
LEVELS = np.unique(np.concatenate([[0.0, 0.05], _TAIL, np.round(np.arange(0.1, 0.905, 0.01), 2), 1 - _TAIL]).round(4))
"""Lower ends of the cells: steps of .01 from .1 to .9, of .2 in the logit outside, and .05."""
CENTRES = np.convolve(
    np.concatenate([logit(LEVELS[1:2]) - 0.2, logit(LEVELS[1:]), logit(LEVELS[-1:]) + 0.2]), [0.5, 0.5], "valid"
)
"""Logit of the centre of each cell."""

TARGETS = ("right", "iou", "share")
IOUS = np.concatenate([[np.nextafter(0, 1)], IOU_THRESHOLDS])
"""IoUs of the matches that outcomes are told from: any, and those of AP."""
_ROUNDING = 1e-6  # by which a sum of probabilities may leave the range


@dataclass(frozen=True, eq=False)
class Outcomes(ByValue):
    """Detections that count, with what each should have said.

    Attributes:
        num_images: I.
        num_classes: C.
        images: (D,) index of each detection's image.
        labels: (D,) label of each detection.
        scores: (D,) float64, 0 to 1.
        cells: (D,) index of the cell of the grid.
        targets: (D,) values 0 to 1 by name, NaN where the detection counts neither as true nor as false: ``right``, 1
            if matched to a box at IoU .5; ``iou``, the IoU with the box that it is matched to at any IoU, 0 without;
            ``share``, of the IoUs .5 to .95 at which it is right.
        true: (10, D) bool, whether it is matched to a box at each of the IoUs .5 to .95.
        ignored: (10, D) bool, whether it counts neither as true nor as false.
        truth_images: (G,) index of the image of each box that should be found.
        truth_labels: (G,) label of each of these boxes.
    """

    num_images: int
    num_classes: int
    images: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    cells: np.ndarray
    targets: dict[str, np.ndarray]
    true: np.ndarray
    ignored: np.ndarray
    truth_images: np.ndarray
    truth_labels: np.ndarray


def outcomes(detections: Detections, truth: GroundTruth, found: Assignment | None = None) -> Outcomes:
    """Match all detections, without a limit of detections an image.

    Args:
        detections: detections in the ground truth's images, with scores of 0 to 1.
        truth: ground truth of boxes.
        found: the detections matched so at ``IOUS``, where they are at hand.

    Raises:
        InputError: scores outside 0 to 1, or as ``GroundTruth.check``.
        ValueError: ground truth of masks.
    """
    if len(detections) and not -_ROUNDING <= detections.scores.min() <= detections.scores.max() <= 1 + _ROUNDING:
        low, high = detections.scores.min(), detections.scores.max()
        raise InputError(f"detections: field 'scores' reaches from {low:g} to {high:g}, expected 0 to 1")
    found = assign(detections, truth, NO_LIMIT, IOUS) if found is None else found
    box, matched = found.boxes[0], np.flatnonzero((found.boxes[0] >= 0) & ~found.ignored[0])
    iou = np.zeros(len(box))
    iou[matched] = box_iou(detections, found.rows[matched], truth, box[matched])
    iou[found.ignored[0]] = np.nan
    ignored = found.ignored[1:]
    true = (found.boxes[1:] >= 0) & ~ignored
    counted = (~ignored).sum(axis=0)
    share = np.divide(true.sum(axis=0), counted, out=np.full(len(box), np.nan), where=counted > 0)
    right = np.where(ignored[0], np.nan, true[0])
    return Outcomes(
        len(truth.image_ids),
        truth.categories.num_classes,
        found.images,
        found.labels,
        np.clip(found.scores, 0, 1),
        np.searchsorted(LEVELS, np.clip(found.scores, 0, 1), side="right") - 1,
        {"right": right, "iou": iou, "share": share},
        true,
        ignored,
        truth.images[~truth.ignored],
        truth.labels[~truth.ignored],
    )


def folds_of(num_images: int, folds: int, seed: int) -> np.ndarray:
    """Return the (I,) fold of each image: equally many images in each, by chance."""
    return np.random.default_rng(seed).permutation(num_images) % folds


@dataclass(frozen=True, eq=False)
class Counts(ByValue):
    """Sums over the detections of each fold, class and cell.

    Attributes:
        seen: (F, C, T) detections that count.
        target: (F, C, T) sum of their targets.
    """

    seen: np.ndarray
    target: np.ndarray

    def only(self, folds: Sequence[int]) -> Counts:
        """Return the counts of some folds."""
        return Counts(self.seen[folds], self.target[folds])

    def above(self, levels: np.ndarray) -> Counts:
        """Return the counts of the cells from a level of each class on."""
        keeps = np.arange(self.seen.shape[2]) >= levels[:, None]
        return Counts(self.seen * keeps, self.target * keeps)


def count(found: Outcomes, target: str, folds: np.ndarray) -> Counts:
    """Count detections and sum one of ``TARGETS``.

    Args:
        found: result of ``outcomes``.
        target: its name.
        folds: (I,) fold of each image.
    """
    values = found.targets[target]
    rows = np.flatnonzero(~np.isnan(values))
    shape = (int(folds.max(initial=-1)) + 1, found.num_classes, len(LEVELS))
    cells = np.ravel_multi_index((folds[found.images[rows]], found.labels[rows], found.cells[rows]), shape)
    seen, total = (np.bincount(cells, w, minlength=int(np.prod(shape))).reshape(shape) for w in (None, values[rows]))
    return Counts(seen.astype(np.float64), total)


def count_boxes(found: Outcomes, folds: np.ndarray) -> np.ndarray:
    """Count the boxes of each fold and class that should be found, (F, C)."""
    shape = (int(folds.max(initial=-1)) + 1, found.num_classes)
    cells = np.ravel_multi_index((folds[found.truth_images], found.truth_labels), shape)
    return np.bincount(cells, minlength=int(np.prod(shape))).reshape(shape).astype(np.float64)


def drawn_sums(
    draws: np.ndarray, images: np.ndarray, cells: np.ndarray, width: int, values: np.ndarray | None = None
) -> np.ndarray:
    """Sum values over cells for each draw of images, (width, R).

    Args:
        draws: (I, R) how often each image counts in each draw.
        images: (n,) index of the image of each value.
        cells: (n,) cell of each value, below ``width``.
        values: (n,) values; None: ones.
    """
    ones = np.ones(len(images)) if values is None else values
    return np.asarray(sparse.csr_array((ones, (cells, images)), shape=(width, len(draws))) @ draws)
