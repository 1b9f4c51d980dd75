"""Greedy matching of detections and ground-truth boxes, and AP of many draws of images from one matching.

Used for results beyond the AP of each category (``average_precision``): intervals over images, AP of all categories
pooled, kinds of errors. The match of a detection depends only on its own image and category, so boxes are matched once.
A draw of images only changes how often each detection and each box counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from scipy import sparse

from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.evaluation.ground_truth import GroundTruth, outside, place_in_run
from imbalance_bench.runtime.equality import ByValue

# Equal to those of the evaluators, to the last bit: a recall of 7 in 10 must fall on the same side of 0.7.
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALL_LEVELS = np.linspace(0, 1, 101)

_DRAWS = 32  # of images at a time, at least
_CELLS = 1 << 21  # detections of a category times draws at a time: bounds memory to some 100 MB
_PAIRS = 1 << 20  # of detections and boxes at a time


@dataclass(frozen=True, eq=False)
class Assignment(ByValue):
    """The ground-truth box matched to each detection, at each IoU.

    Attributes:
        rows: (D,) rows of the detections that count, grouped by image and category, best first in each group.
        images: (D,) index of each detection's image.
        labels: (D,) label of each detection.
        scores: (D,) float64.
        boxes: (L, D) index of the matched ground-truth box at each IoU, -1 for none.
        ignored: (L, D) bool, whether the detection counts neither as true nor as false.
    """

    rows: np.ndarray
    images: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray
    ignored: np.ndarray

    def at(self, levels: slice) -> Assignment:
        """Return the matches at some of the IoUs."""
        return replace(self, boxes=self.boxes[levels], ignored=self.ignored[levels])

    def only(self, counted: np.ndarray) -> Assignment:
        """Return the matches where only some detections count, the best of an image or class; (D,) bool.

        The match of a detection does not depend on those with lower scores, so nothing is matched again.
        """
        return self if counted.all() else replace(self, ignored=self.ignored | ~counted)


@dataclass(frozen=True, eq=False)
class CategoryMatches(ByValue):
    """Matched detections of a category, as its AP needs them: best first, ties in the order of the evaluators.

    Attributes:
        images: (D,) index of each detection's image; detections that are ignored at all IoUs are left out.
        true: (L, D) bool, whether a detection is matched to a box, at each of L IoUs.
        ignored: (L, D) bool, whether a detection counts neither as true nor as false.
        truth_images: (G,) index of each ground-truth box's image, ignored ones left out.
        scores: (D,) score of each detection.
    """

    images: np.ndarray
    true: np.ndarray
    ignored: np.ndarray
    truth_images: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True, eq=False)
class Matches(ByValue):
    """Matched detections of a split.

    Attributes:
        image_ids: (I,) ascending.
        categories: matches of the C categories, in label order.
    """

    image_ids: np.ndarray
    categories: tuple[CategoryMatches, ...]


def assign(
    detections: Detections, truth: GroundTruth, max_detections: int = 300, ious: np.ndarray = IOU_THRESHOLDS
) -> Assignment:
    """Match detections to boxes by the rules of ``average_precision.evaluate``.

    Greedy matching in each image and category: by descending score, each detection is matched to the unmatched box with
    the highest IoU. Boxes that count are preferred to ignored ones; at equal IoU the last box is chosen, as in the
    evaluators.

    Args:
        detections: as for ``average_precision.evaluate``.
        truth: ground truth of boxes, not masks.
        max_detections: as for ``average_precision.evaluate``.
        ious: (L,) least IoU of a match, ascending from above 0; the L rows of the result.

    Raises:
        InputError: as ``GroundTruth.check``.
        ValueError: ground truth of masks.
    """
    if truth.iou_type != "bbox":
        raise ValueError("detections are matched by their boxes, expected ground truth of iou_type 'bbox'")
    truth.check(detections)
    rows = truth.counted(detections, max_detections)
    scores, labels = detections.scores[rows].astype(np.float64), detections.labels[rows]
    images = np.searchsorted(truth.image_ids, detections.image_ids[rows])
    order = np.lexsort((-scores, images, labels))  # grouped by image and category, best first
    keys = labels[order] * len(truth.image_ids) + images[order]
    order = order[place_in_run(keys) < max_detections]
    rows, images, labels, scores = rows[order], images[order], labels[order], scores[order]

    detection, box, iou = _overlapping_pairs(detections, rows, images, labels, truth, ious[0])
    assigned = _assign(detection, box, iou >= ious[:, None], len(rows), truth)
    has_box = assigned >= 0
    corners = detections.boxes[rows].astype(np.float64)
    leniently = outside((corners[:, 2:] - corners[:, :2]).prod(axis=1))
    if truth.open is not None:
        # If not all boxes are annotated, an unmatched detection is ignored.
        leniently |= truth.open[images, labels]
    ignored = np.append(truth.ignored, False)[assigned] | (
        ~has_box & leniently
    )  # index -1, no box, is the appended one
    return Assignment(rows, images, labels, scores, assigned, ignored)


def best_of_each_image(detections: Detections, truth: GroundTruth, max_detections: int = 300) -> np.ndarray:
    """Tell which detections are among the best of their image, or, if not federated, of image and class, (D,) bool."""
    best = np.ones(len(detections), dtype=bool)
    groups = np.searchsorted(truth.image_ids, detections.image_ids)
    if not truth.lvis_style:
        groups = groups * truth.categories.num_classes + detections.labels
    if len(groups) and np.unique(groups, return_counts=True)[1].max() > max_detections:
        order = np.lexsort((-detections.scores.astype(np.float64), groups))
        best[order[place_in_run(groups[order]) >= max_detections]] = False
    return best


def match(detections: Detections, truth: GroundTruth, max_detections: int = 300) -> Matches:
    """Match detections as ``assign``, and sort them by category and rank.

    Raises:
        InputError, ValueError: as ``assign``.
    """
    return by_category(assign(detections, truth, max_detections), truth)


def by_category(found: Assignment, truth: GroundTruth, order: np.ndarray | None = None) -> Matches:
    """Sort matched detections by category, best first; ``order`` as for ``ranked``."""
    true, counted = (found.boxes >= 0) & ~found.ignored, ~truth.ignored
    return ranked(found, found.labels, true, found.ignored, truth, counted, order)


def rank_order(found: Assignment, labels: np.ndarray) -> np.ndarray:
    """Return the order of detections by category, best first; ties in the order of the evaluators."""
    return np.lexsort((found.images, -found.scores, labels))


def ranked(
    found: Assignment, labels: np.ndarray, true: np.ndarray, ignored: np.ndarray, truth: GroundTruth,
    boxes: np.ndarray, order: np.ndarray | None = None,
) -> Matches:  # fmt: skip
    """Sort matched detections by category, best first, as the AP needs them.

    Args:
        found: images and scores of the detections.
        labels: (D,) the category that each detection counts for.
        true: (L, D) bool, whether a detection is matched to a box, at each of L IoUs.
        ignored: (L, D) bool, whether a detection counts neither as true nor as false.
        truth: ground truth.
        boxes: (G,) bool, the boxes that should be found.
        order: result of ``rank_order``, where it is at hand.
    """
    order = rank_order(found, labels) if order is None else order
    kept = order[~np.asarray(ignored.all(axis=0))[order]]
    true, ignored = true[:, kept], ignored[:, kept]
    labels, images, scores = labels[kept], found.images[kept], found.scores[kept]
    truth_images, truth_labels = truth.images[boxes], truth.labels[boxes]
    all_labels = np.arange(truth.categories.num_classes + 1)
    return Matches(
        truth.image_ids,
        tuple(
            CategoryMatches(images[a:b], true[:, a:b], ignored[:, a:b], truth_images[c:d], scores[a:b])
            for (a, b), (c, d) in zip(
                pairwise(np.searchsorted(labels, all_labels)),
                pairwise(np.searchsorted(truth_labels, all_labels)),
                strict=True,
            )
        ),
    )


def _overlapping_pairs(
    detections: Detections, rows: np.ndarray, images: np.ndarray, labels: np.ndarray, truth: GroundTruth, least: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find pairs of a detection (index in ``rows``) and a box of its image and category of an IoU that is enough.

    Pairs are sorted by detection, and the boxes of each detection by preference. The IoU of each pair is returned too.
    """
    keys = labels * len(truth.image_ids) + images
    truth_keys = truth.labels * len(truth.image_ids) + truth.images
    first = np.searchsorted(truth_keys, keys)
    counts = np.searchsorted(truth_keys, keys, side="right") - first
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for block in _blocks(counts):
        repeats = counts[block]
        detection = np.repeat(np.arange(block.start, block.stop), repeats)
        box = np.arange(len(detection)) - np.repeat(np.cumsum(repeats) - repeats - first[block], repeats)
        iou = box_iou(detections, rows[detection], truth, box)
        enough = np.flatnonzero(iou >= least)
        found.append((detection[enough], box[enough], iou[enough]))
    detection, box, iou = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.lexsort((-box, -iou, truth.ignored[box], detection))
    return detection[order], box[order], iou[order]


def _blocks(counts: np.ndarray) -> Iterator[slice]:
    """Yield slices of detections with about ``_PAIRS`` pairs each; at least one slice."""
    total = np.cumsum(counts)
    levels = np.arange(_PAIRS, total[-1] if len(total) else 0, _PAIRS)
    for start, stop in pairwise([0, *np.searchsorted(total, levels).tolist(), len(counts)]):
        yield slice(start, stop)


def box_iou(detections: Detections, rows: np.ndarray, truth: GroundTruth, box: np.ndarray) -> np.ndarray:
    """Compute the (P,) IoU of pairs, as COCO: for a crowd region, the share of the detection inside it."""
    return _iou(detections.boxes[rows], truth.boxes[box], truth.crowd[box])


def all_ious(detections: Detections, rows: np.ndarray, truth: GroundTruth, boxes: np.ndarray) -> np.ndarray:
    """Compute the (D, G) IoU of each of some detections with each of some boxes, as ``box_iou``."""
    return _iou(detections.boxes[rows][:, None], truth.boxes[boxes], truth.crowd[boxes])


def _iou(corners: np.ndarray, other: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """Compute the IoU of (.., 4) corners with (.., 4) boxes xywh, one of them perhaps for each of the other."""
    corners = corners.astype(np.float64)
    sides = corners[..., 2:] - corners[..., :2]
    low = np.maximum(corners[..., :2], other[..., :2])
    # x + (x2 - x), not x2: the evaluators get x, y, width and height.
    high = np.minimum(corners[..., :2] + sides, other[..., :2] + other[..., 2:])
    inter = np.maximum(high - low, 0).prod(axis=-1)
    area = sides.prod(axis=-1)
    union = np.where(crowd, area, area + other[..., 2:].prod(axis=-1) - inter)
    overlaps: np.ndarray = np.divide(inter, union, out=np.zeros_like(inter), where=inter > 0)
    return overlaps


def _assign(
    detection: np.ndarray, box: np.ndarray, enough: np.ndarray, num_detections: int, truth: GroundTruth
) -> np.ndarray:
    """Match boxes greedily, best detection first; return the (L, D) box of each detection at each IoU, -1 for none.

    ``enough`` tells for each IoU and pair, (L, P), whether the pair may be matched.

    Greedy matching in rounds, for all images and categories at once. In each round a detection is matched to its
    preferred box if no better detection can still be matched to this box. Then matched detections and matched boxes are
    removed. Crowd regions match any number of detections and are never removed. The result is that of matching one
    detection after the other.
    """
    level, pair = np.nonzero(enough)
    # Detections and boxes get separate numbers at each IoU.
    who = level * num_detections + detection[pair]
    what = level * len(truth.boxes) + box[pair]
    crowd = truth.crowd[box[pair]]
    assigned = np.full(len(enough) * num_detections, -1, dtype=np.int32)
    first = np.empty(len(enough) * len(truth.boxes), dtype=np.int64)
    gone = np.zeros(len(first), dtype=bool)
    while len(who):
        place = np.arange(len(who))
        wanted_most = np.diff(who, prepend=-1) > 0
        first[what[::-1]] = place[::-1]  # of equal indices the last write stands
        settled = wanted_most & (crowd | (first[what] == place))
        assigned[who[settled]] = what[settled] % len(truth.boxes)
        gone[what[settled & ~crowd]] = True
        left = (assigned[who] < 0) & ~gone[what]
        who, what, crowd = who[left], what[left], crowd[left]
    return assigned.reshape(len(enough), num_detections)


def average_precision(matches: Matches, image_weights: np.ndarray | None = None) -> np.ndarray:
    """Compute the AP of each category on a multiset of images: the COCO 101-point AP, mean over 10 IoUs.

    In the ranking, the copies of an image's detections are next to each other.

    Args:
        matches: result of ``match``.
        image_weights: (I,) or (R, I) integers, how often each image counts; None: each once.

    Returns:
        (C,) or (R, C) fractions, NaN where no image has a box of the category.
    """
    return np.asarray(ap_at_each_iou(matches, image_weights).mean(axis=0))


def ap_at_each_iou(matches: Matches, image_weights: np.ndarray | None = None) -> np.ndarray:
    """Compute the same at each IoU of the matches, (L, C) or (L, R, C)."""
    weights = np.ones(len(matches.image_ids), np.int32) if image_weights is None else np.asarray(image_weights)
    if weights.shape[-1] != len(matches.image_ids) or weights.ndim not in (1, 2) or weights.dtype.kind not in "iu":
        raise ValueError(f"image_weights {weights.dtype} {weights.shape}, expected integers (.., images)")
    by_image = np.ascontiguousarray(np.atleast_2d(weights).T, dtype=np.int32)
    levels = max((len(category.true) for category in matches.categories), default=0)
    ap = np.empty((levels, by_image.shape[1], len(matches.categories)))
    for label, category in enumerate(matches.categories):
        draws = max(_DRAWS, _CELLS // max(1, len(category.scores)))
        for start in range(0, by_image.shape[1], draws):
            part = np.ascontiguousarray(by_image[:, start : start + draws])
            ap[:, start : start + draws, label] = _category_ap(category, part)
    return ap.reshape(levels, *weights.shape[:-1], len(matches.categories))


def _category_ap(category: CategoryMatches, weights: np.ndarray) -> np.ndarray:
    """Compute the (L, R) AP of a category at each IoU for (I, R) weights of the images.

    Precision rises only at true detections, so only these points of the curve are needed.
    """
    truths = weights[category.truth_images].sum(axis=0)
    ap = np.zeros((len(category.true), weights.shape[1]))
    points = np.flatnonzero(category.true.any(axis=0))
    own, seen = weights[category.images[points]], _drawn(category.images, points, weights)
    for level, (true, ignored) in enumerate(zip(category.true[:, points], category.ignored, strict=True)):
        hits, skipped = np.flatnonzero(true), np.flatnonzero(ignored)
        if len(hits) == 0:
            continue
        positives = np.cumsum(own[hits], axis=0)
        counted = seen[hits]
        if len(skipped):
            left_out = np.cumsum(np.vstack([np.zeros_like(weights[:1]), weights[category.images[skipped]]]), axis=0)
            counted = counted - left_out[np.searchsorted(skipped, points[hits])]
        ap[level] = ap_of_curve(positives, counted, truths)
    return np.where(truths > 0, ap, np.nan)


def ap_of_curve(positives: np.ndarray, counted: np.ndarray, truths: np.ndarray) -> np.ndarray:
    """Compute the (R,) COCO 101-point AP of curves.

    Each point of a curve gives the precision at the recall levels between the previous point and itself.

    Args:
        positives: (H, R) number of true detections up to each point.
        counted: (H, R) number of detections that count up to each point.
        truths: (R,) number of boxes.
    """
    precision = positives / np.maximum(counted, 1)
    envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    reached = _levels_reached(positives / np.maximum(truths, 1))
    return np.asarray((np.diff(reached, axis=0, prepend=0) * envelope).sum(axis=0) / len(RECALL_LEVELS))


def _drawn(images: np.ndarray, points: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Count the detections up to each point in the ranking, (P, R), for (I, R) weights of the images.

    A product of sparse counts, as the weights of millions of detections would fill the memory.
    """
    ends = np.append(0, points + 1)
    shape = (len(points), len(weights))
    between = sparse.csr_array((np.ones(ends[-1], np.int32), images[: ends[-1]], ends), shape=shape)
    return np.cumsum(between @ weights, axis=0)


def _levels_reached(recall: np.ndarray) -> np.ndarray:
    """Return how many of ``RECALL_LEVELS`` are at most each recall; faster than a search, as they are evenly spaced."""
    guess = (recall * 100).astype(np.int64)
    reached = guess + (RECALL_LEVELS[guess] <= recall)
    above: np.ndarray = reached + (np.append(RECALL_LEVELS, np.inf)[reached] <= recall)
    return above
