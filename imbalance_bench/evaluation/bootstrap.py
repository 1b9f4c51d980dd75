"""Chance of the validation images in AP: images drawn with replacement, AP of each draw, runs compared in pairs.

What a detection matches depends on its own image only, so matching is done once; a draw changes nothing but how
often each detection and each box counts. The spread over draws tells what another set of validation images of the
same size could have given. It does not tell what another training seed or another choice of categories would.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from imbalance_bench.categories import CategoryTable
from imbalance_bench.evaluation.detection import AREA_ALL, checked_annotations, counted_results
from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.evaluation.grouping import bin_groups, frequency_groups

# As the evaluators have them, to the last bit: a recall of 7 in 10 must fall on the same side of 0.7.
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALL_LEVELS = np.linspace(0, 1, 101)

_CHUNK = 32  # draws at a time: bounds memory to 128 bytes for each detection of a category


@dataclass(frozen=True)
class CategoryMatches:
    """What the AP of a category needs; detections best first, ties in the order of the evaluators.

    Attributes:
        images: (D,) index of each detection's image; detections that are ignored at all IoUs are left out.
        true: (10, D) bool, whether a detection has a box at each IoU.
        ignored: (10, D) bool, whether it counts neither as true nor as false.
        truth_images: (G,) index of each ground-truth box's image, crowd left out.
    """

    images: np.ndarray
    true: np.ndarray
    ignored: np.ndarray
    truth_images: np.ndarray


@dataclass(frozen=True)
class Matches:
    """Matched detections of a split.

    Attributes:
        image_ids: (I,) ascending.
        categories: C, in label order.
    """

    image_ids: np.ndarray
    categories: tuple[CategoryMatches, ...]


def match(
    detections: Detections,
    annotations: str | os.PathLike[str] | Mapping[str, Any],
    categories: CategoryTable,
    *,
    lvis_style: bool,
    max_detections: int = 300,
) -> Matches:
    """Match detections to ground truth by the rules of ``detection.evaluate``, whose arguments these are.

    Raises:
        InputError: as ``detection.evaluate``.
    """
    truth = checked_annotations(annotations, categories, lvis_style)
    results = counted_results(detections, truth, categories, max_detections if lvis_style else None)
    image_ids = np.unique([image["id"] for image in truth["images"]]).astype(np.int64)
    open_pairs = {(i["id"], c) for i in truth["images"] for c in i["not_exhaustive_category_ids"] if lvis_style}
    boxes = _table(truth["annotations"], image_ids, categories)
    boxes["crowd"] = np.array([a["iscrowd"] for a in truth["annotations"]], dtype=bool)
    boxes["ignored"] = boxes["crowd"] | _outside(np.array([a["area"] for a in truth["annotations"]], dtype=np.float64))
    found = _table(results, image_ids, categories)
    found["score"] = np.array([r["score"] for r in results], dtype=np.float64)
    # A detection without a box is ignored where nobody looked for all boxes, or where its area does not count.
    found["open"] = np.array([(r["image_id"], r["category_id"]) in open_pairs for r in results], dtype=bool)
    found["open"] |= _outside(found["box"][:, 2] * found["box"][:, 3])
    found = _take(found, np.lexsort((found["image"], -found["score"])))
    matched = []
    for label in range(categories.num_classes):
        own = _take(found, np.flatnonzero(found["label"] == label))
        matched.append(_match_category(own, _take(boxes, np.flatnonzero(boxes["label"] == label)), max_detections))
    return Matches(image_ids, tuple(matched))


def average_precision(matches: Matches, image_weights: np.ndarray | None = None) -> np.ndarray:
    """AP of each category on a multiset of images: the COCO 101-point AP, mean over 10 IoUs.

    The copies of an image's detections stand next to each other in the ranking.

    Args:
        matches: of ``match``.
        image_weights: (I,) or (R, I) integers, how often each image counts; None: once.

    Returns:
        (C,) or (R, C) fractions, NaN where no image has a box of the category.
    """
    weights = np.ones(len(matches.image_ids), np.int32) if image_weights is None else np.asarray(image_weights)
    if weights.shape[-1] != len(matches.image_ids) or weights.ndim not in (1, 2) or weights.dtype.kind not in "iu":
        raise ValueError(f"image_weights {weights.dtype} {weights.shape}, expected integers (.., images)")
    by_image = np.ascontiguousarray(np.atleast_2d(weights).T, dtype=np.int32)
    ap = np.empty((by_image.shape[1], len(matches.categories)))
    for start in range(0, len(ap), _CHUNK):
        part = np.ascontiguousarray(by_image[:, start : start + _CHUNK])
        for label, category in enumerate(matches.categories):
            ap[start : start + _CHUNK, label] = _category_ap(category, part)
    return ap.reshape(*weights.shape[:-1], len(matches.categories))


def bootstrap(
    matches_list: Sequence[Matches], categories: CategoryTable, *, resamples: int = 200, seed: int = 0
) -> pd.DataFrame:
    """Mean APs of several runs on images drawn with replacement, the same images for every run.

    A category that has no box in a draw does not count in it.

    Args:
        matches_list: of runs on the same images.
        categories: their bins and frequencies.
        resamples: number of draws.
        seed: of the generator.

    Returns:
        Columns ``resample``, ``run`` (position in ``matches_list``), ``measure`` (``mAP``, ``AP1``.., ``APr``,
        ``APc``, ``APf``), ``value`` (fraction, NaN where no category counts).

    Raises:
        ValueError: the runs' images differ.
    """
    image_ids = matches_list[0].image_ids
    if any(not np.array_equal(matches.image_ids, image_ids) for matches in matches_list):
        raise ValueError("the runs were evaluated on different images, expected the same")
    count = len(image_ids)
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    frames = []
    for run, matches in enumerate(matches_list):
        means = mean_ap(average_precision(matches, draws), categories)
        tidy = means.rename_axis("resample").reset_index().melt("resample", var_name="measure")
        frames.append(tidy.assign(run=run)[["resample", "run", "measure", "value"]])
    return pd.concat(frames, ignore_index=True)


def mean_ap(ap: np.ndarray, categories: CategoryTable) -> pd.DataFrame:
    """``grouping.summarize_ap`` of many APs at once: (R, C) to R rows, columns ``mAP``, ``AP1``.., ``APr``.. ."""
    groups = {"": np.arange(categories.num_classes)} | bin_groups(categories) | frequency_groups(categories)
    frame = pd.DataFrame(ap)
    return pd.DataFrame({f"AP{key}" if key else "mAP": frame[labels].mean(axis=1) for key, labels in groups.items()})


def _table(entries: Sequence[Mapping[str, Any]], image_ids: np.ndarray, categories: CategoryTable) -> dict[str, Any]:
    """Columns of annotations or results: image index, label, (N, 4) xywh box."""
    return {
        "image": np.searchsorted(image_ids, np.array([e["image_id"] for e in entries], dtype=np.int64)),
        "label": categories.labels_of([e["category_id"] for e in entries]),
        "box": np.array([e["bbox"] for e in entries], dtype=np.float64).reshape(-1, 4),
    }


def _take(table: Mapping[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
    return {name: column[rows] for name, column in table.items()}


def _outside(area: np.ndarray) -> np.ndarray:
    return (area < AREA_ALL[0]) | (area > AREA_ALL[1])


def _match_category(found: dict[str, Any], boxes: dict[str, Any], max_detections: int) -> CategoryMatches:
    """Greedy matching: the best detection first, each takes the box it overlaps most of those still free.

    Boxes that count come before ignored ones; of equal overlaps the last box is taken, as in the evaluators.
    """
    found = _take(found, np.sort(_best_of_each_image(found["image"], max_detections)))
    boxes = _take(boxes, np.argsort(boxes["image"], kind="stable"))
    size = max(found["image"].max(initial=-1), boxes["image"].max(initial=-1)) + 1
    per_image = np.bincount(boxes["image"], minlength=size)
    first = np.cumsum(per_image) - per_image
    repeats = per_image[found["image"]]
    detection = np.repeat(np.arange(len(repeats)), repeats)
    offset = np.arange(len(detection)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    box = first[found["image"][detection]] + offset
    iou = _iou(found["box"][detection], boxes["box"][box], boxes["crowd"][box])
    order = np.flatnonzero(iou >= IOU_THRESHOLDS[0])
    order = order[np.lexsort((-box[order], -iou[order], boxes["ignored"][box[order]], detection[order]))]
    detection, box, iou = detection[order], box[order], iou[order]

    assigned = np.full((len(IOU_THRESHOLDS), len(repeats)), -1)
    crowd = boxes["crowd"].tolist()
    for threshold, row in zip(IOU_THRESHOLDS, assigned, strict=True):
        enough = iou >= threshold
        taken: set[int] = set()
        choice: dict[int, int] = {}
        for d, b in zip(detection[enough].tolist(), box[enough].tolist(), strict=True):
            if d not in choice and (b not in taken or crowd[b]):
                choice[d] = b
                taken.add(b)
        row[list(choice)] = list(choice.values())
    has_box = assigned >= 0
    on_ignored = np.append(boxes["ignored"], False)[assigned]  # index -1, no box, is the appended one
    ignored = on_ignored | (~has_box & found["open"])
    counts = ~ignored.all(axis=0)
    return CategoryMatches(
        images=found["image"][counts],
        true=(has_box & ~ignored)[:, counts],
        ignored=ignored[:, counts],
        truth_images=boxes["image"][~boxes["ignored"]],
    )


def _best_of_each_image(images: np.ndarray, limit: int) -> np.ndarray:
    """Rows of the first ``limit`` entries of each image."""
    rows = np.argsort(images, kind="stable")
    _, first, counts = np.unique(images[rows], return_index=True, return_counts=True)
    return rows[np.arange(len(rows)) - np.repeat(first, counts) < limit]


def _iou(found: np.ndarray, boxes: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """(P,) overlap of (P, 4) xywh pairs, as COCO: with a crowd region, the share of the detection inside it."""
    low = np.maximum(found[:, :2], boxes[:, :2])
    high = np.minimum(found[:, :2] + found[:, 2:], boxes[:, :2] + boxes[:, 2:])
    inter = np.prod(np.maximum(high - low, 0), axis=1)
    area = found[:, 2] * found[:, 3]
    union = np.where(crowd, area, area + boxes[:, 2] * boxes[:, 3] - inter)
    return np.divide(inter, union, out=np.zeros_like(inter), where=inter > 0)


def _category_ap(category: CategoryMatches, weights: np.ndarray) -> np.ndarray:
    """(R,) AP of a category for (I, R) weights of the images.

    Precision rises only at true detections, so the points of the curve there are enough; a point stands for the
    recall levels between the one before and itself.
    """
    truths = weights[category.truth_images].sum(axis=0)
    seen = np.cumsum(weights[category.images], axis=0, dtype=np.int32)
    total = np.zeros(weights.shape[1])
    for true, ignored in zip(category.true, category.ignored, strict=True):
        hits, skipped = np.flatnonzero(true), np.flatnonzero(ignored)
        if len(hits) == 0:
            continue
        positives = np.cumsum(weights[category.images[hits]], axis=0)
        counted = seen[hits]
        if len(skipped):
            left_out = np.cumsum(np.vstack([np.zeros_like(weights[:1]), weights[category.images[skipped]]]), axis=0)
            counted = counted - left_out[np.searchsorted(skipped, hits)]
        precision = positives / np.maximum(counted, 1)
        envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
        reached = np.searchsorted(RECALL_LEVELS, positives / np.maximum(truths, 1), side="right")
        total += (np.diff(reached, axis=0, prepend=0) * envelope).sum(axis=0)
    return np.where(truths > 0, total / (len(IOU_THRESHOLDS) * len(RECALL_LEVELS)), np.nan)
