"""Score fixes against slow obvious versions, and in the cases that go wrong."""

import ast
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from imbalance_bench.categories import CategoryTable
from imbalance_bench.evaluation import fixed_ap as fixed_ap_module
from imbalance_bench.evaluation import score_fixes
from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.evaluation.fixed_ap import Ranking, fixed_ap, pooled, pooled_ap, pooled_ap_of_draws
from imbalance_bench.evaluation.ground_truth import GroundTruth
from imbalance_bench.evaluation.matching import IOU_THRESHOLDS, assign, average_precision, match
from imbalance_bench.evaluation.score_fixes import tables
from imbalance_bench.evaluation.score_fixes.outcomes import IOUS, LEVELS, folds_of, outcomes
from imbalance_bench.evaluation.score_fixes.thresholds import (
    ALONE,
    HALF,
    LOW,
    ONE,
    PER_BIN,
    PER_CLASS,
    STRATEGIES,
    f1,
)
from imbalance_bench.runtime.errors import InputError

NAMES = ("rare", "absent", "common", "frequent", "kite")
COUNTS = (3, 5, 40, 400, 60)


def table(counts=COUNTS):
    return CategoryTable.from_arrays(counts, names=NAMES[: len(counts)], bin_edges=(10, 100))


def scene(seed, *, images=40, federated=False, crowd=False, steps=None, shift=0.0, counts=COUNTS, absent=True):
    """Boxes of all classes, but of ``absent`` only if told, and detections on them, beside them and elsewhere.

    Frequent classes have more boxes. The scores of class c are lower the higher ``shift`` times c is.
    """
    rng = np.random.default_rng(seed)
    classes = len(counts)
    odds = np.array(counts, dtype=float) ** 0.7
    if absent:
        odds[1] = 0
    content = {"images": [], "annotations": []}
    rows, scores = [], []
    for image in range(1, images + 1):
        labels = rng.choice(classes, rng.integers(1, 6), p=odds / odds.sum())
        absent = rng.choice(np.setdiff1d(np.arange(classes), labels), 1) + 1
        content["images"].append(
            {"id": image, "neg_category_ids": absent.tolist(), "not_exhaustive_category_ids": [int(labels[0]) + 1]}
            if federated
            else {"id": image}
        )
        for label in labels:
            x, y, w, h = (*rng.uniform(0, 100, 2), *rng.uniform(20, 60, 2))
            is_crowd = int(crowd and rng.random() < 0.2)
            content["annotations"].append(
                {"image_id": image, "category_id": int(label) + 1, "bbox": [x, y, w, h], "iscrowd": is_crowd}
            )
            for _ in range(4):
                dx, dy, dw, dh = rng.normal(0, 0.15, 4) * [w, h, w, h]
                own = label if rng.random() < 0.8 else rng.integers(classes)
                rows.append((image, own, x + dx, y + dy, x + dx + w + dw, y + dy + h + dh))
                scores.append(rng.normal(0.5, 1.2) - shift * own)
        for x, y, w, h in rng.uniform(10, 90, (5, 4)):
            own = rng.integers(classes)
            rows.append((image, own, x, y, x + w, y + h))
            scores.append(rng.normal(-1, 1.2) - shift * own)
    rows, scores = np.array(rows), 1 / (1 + np.exp(-np.array(scores)))
    if steps:
        scores = np.round(scores * steps) / steps
    truth = GroundTruth.read(content, table(counts), lvis_style=federated)
    return Detections(rows[:, 0].astype(int), rows[:, 1].astype(int), rows[:, 2:], scores), truth


def subset(detections, truth, keep):
    """The detections and the ground truth of some images, by their index."""
    ids = truth.image_ids[keep]
    content = {
        name: [entry for entry in truth.content[name] if entry[field] in ids]
        for name, field in (("images", "id"), ("annotations", "image_id"))
    }
    rows = np.isin(detections.image_ids, ids)
    columns = (getattr(detections, name)[rows] for name in ("image_ids", "labels", "boxes", "scores"))
    return Detections(*columns), GroundTruth.read(content, truth.categories, lvis_style=truth.lvis_style)


def overlap(one, box):
    """IoU of corners and a box of x, y, width, height."""
    x, y, w, h = box
    width = min(one[2], x + w) - max(one[0], x)
    height = min(one[3], y + h) - max(one[1], y)
    inter = max(width, 0) * max(height, 0)
    return inter / ((one[2] - one[0]) * (one[3] - one[1]) + w * h - inter)


def greedy(detections, truth, least):
    """Match one detection after the other; return for each the (IoU, whether it counts), in their order."""
    result = [(0.0, False)] * len(detections)
    for image, image_id in enumerate(truth.image_ids):
        for label in range(truth.categories.num_classes):
            if truth.judged is not None and not truth.judged[image, label]:
                continue
            own = np.flatnonzero((detections.image_ids == image_id) & (detections.labels == label))
            free = np.flatnonzero((truth.images == image) & (truth.labels == label)).tolist()
            for row in own[np.argsort(-detections.scores[own], kind="stable")]:
                ious = {box: overlap(detections.boxes[row], truth.boxes[box]) for box in free}
                best = max(ious, key=ious.get, default=None)
                if best is not None and ious[best] > 0 and ious[best] >= least:
                    free.remove(best)
                    result[row] = ious[best], True
                else:
                    result[row] = 0.0, truth.open is None or not truth.open[image, label]
    return result


@pytest.mark.parametrize("federated", [False, True])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_what_each_detection_should_have_said_is_that_of_matching_one_after_the_other(seed, federated):
    detections, truth = scene(seed, federated=federated)
    matched = assign(detections, truth, 1 << 31, IOUS)
    found, rows = outcomes(detections, truth), matched.rows
    assert found == outcomes(detections, truth, matched)
    loose, right = greedy(detections, truth, 0), greedy(detections, truth, 0.5)
    np.testing.assert_allclose(found.targets["iou"], [loose[r][0] if loose[r][1] else np.nan for r in rows], atol=1e-9)
    expected = [float(right[r][0] > 0) if right[r][1] else np.nan for r in rows]
    np.testing.assert_array_equal(found.targets["right"], expected)
    per_level = np.array(
        [[float(iou > 0) if counts else np.nan for iou, counts in greedy(detections, truth, t)] for t in IOU_THRESHOLDS]
    )[:, rows]
    means = [column[~np.isnan(column)].mean() if not np.isnan(column).all() else np.nan for column in per_level.T]
    np.testing.assert_allclose(found.targets["share"], means, atol=1e-12)
    np.testing.assert_array_equal(found.scores, detections.scores[rows])
    assert (LEVELS[found.cells] <= found.scores).all()
    assert (np.append(LEVELS, 2)[found.cells + 1] > found.scores).all()


def test_crowd_regions_count_neither_way():
    detections, truth = scene(0, crowd=True)
    found, matched = outcomes(detections, truth), assign(detections, truth, 1 << 31)
    assert truth.ignored.any() and np.isnan(found.targets["right"]).any()
    np.testing.assert_array_equal(np.isnan(found.targets["right"]), matched.ignored[0])
    assert len(found.truth_labels) == (~truth.ignored).sum()


def slow_f1(detections, truth, level, labels):
    """Mean F1 of some classes that have boxes, at one threshold, from matching the kept detections anew."""
    kept = detections.scores >= LEVELS[level]
    columns = (getattr(detections, name)[kept] for name in ("image_ids", "labels", "boxes", "scores"))
    kept = Detections(*columns)
    values = []
    for label in labels:
        boxes = ((truth.labels == label) & ~truth.ignored).sum()
        if boxes:
            found = outcomes(kept, truth)
            own = found.targets["right"][(found.labels == label) & ~np.isnan(found.targets["right"])]
            values.append(2 * own.sum() / (len(own) + boxes))
    return np.mean(values)


@pytest.mark.parametrize("federated", [False, True])
def test_thresholds_are_the_best_of_all(federated):
    detections, truth = scene(3, federated=federated, shift=0.4)
    fixes = score_fixes.fit_and_measure(detections, truth, resamples=5)
    every = range(len(LEVELS))
    curve = [slow_f1(detections, truth, level, range(5)) for level in every]
    assert slow_f1(detections, truth, np.searchsorted(LEVELS, fixes.one_threshold), range(5)) == pytest.approx(
        max(curve), abs=1e-12
    )
    assert fixes.one_threshold in LEVELS


def cross_fitted(detections, truth, strategy, seed=0, folds=5):
    """Counts of each class (right, kept, boxes), each image with thresholds fitted to the other folds alone."""
    fold = folds_of(len(truth.image_ids), folds, seed)
    sums = np.zeros((3, truth.categories.num_classes))
    for own in range(folds):
        if strategy in (LOW, HALF):
            levels = np.full(sums.shape[1], {LOW: 0.05, HALF: 0.5}[strategy])
        else:
            levels = best_levels(*subset(detections, truth, fold != own), strategy)
        found = outcomes(*subset(detections, truth, fold == own))
        for label, level in enumerate(levels):
            rows = (found.labels == label) & ~np.isnan(found.targets["right"]) & (found.scores >= level)
            sums[:, label] += (found.targets["right"][rows].sum(), rows.sum(), (found.truth_labels == label).sum())
    return sums


def best_levels(detections, truth, strategy):
    """The thresholds of one strategy that need no borrowed weight, by trying every level."""
    found, width = outcomes(detections, truth), truth.categories.num_classes
    boxes = np.bincount(found.truth_labels, minlength=width)
    curves = np.full((width, len(LEVELS)), np.nan)
    for label in np.flatnonzero(boxes):
        own = (found.labels == label) & ~np.isnan(found.targets["right"])
        for place, level in enumerate(LEVELS):
            kept = own & (found.scores >= level)
            curves[label, place] = 2 * found.targets["right"][kept].sum() / (kept.sum() + boxes[label])
    groups = {ONE: np.zeros(width), PER_BIN: truth.categories.bins, ALONE: np.arange(width)}[strategy]
    levels = []
    for label in range(width):
        alike = [
            curves[groups == groups[label]],
            curves[truth.categories.bins == truth.categories.bins[label]],
            curves,
        ]
        curve = next(np.nanmean(some, axis=0) for some in alike if not np.isnan(some).all())
        first = int(np.argmax(curve >= curve.max() - 1e-12))
        last = first
        while last + 1 < len(LEVELS) and curve[last + 1] >= curve.max() - 1e-12:
            last += 1
        levels.append(LEVELS[(first + last) // 2])
    return np.array(levels)


@pytest.mark.parametrize("federated", [False, True])
@pytest.mark.parametrize("strategy", [LOW, HALF, ONE, PER_BIN, ALONE])
def test_what_is_measured_is_fitted_to_other_images_alone(strategy, federated):
    detections, truth = scene(4, federated=federated, shift=0.4, images=30)
    fixes = score_fixes.fit_and_measure(detections, truth, resamples=5)
    right, kept, boxes = cross_fitted(detections, truth, strategy)
    some = boxes > 0
    rows = fixes.operating_points.loc[strategy]
    assert rows.loc["all", "f1"] == pytest.approx((2 * right[some] / (kept[some] + boxes[some])).mean())
    assert rows.loc["all", "recall"] == pytest.approx((right[some] / boxes[some]).mean())
    judged = some & (kept > 0)
    assert rows.loc["all", "precision"] == pytest.approx((right[judged] / kept[judged]).mean())
    assert rows.loc["all", ["classes", "boxes"]].tolist() == [some.sum(), boxes.sum()]
    if strategy == ONE:
        np.testing.assert_allclose(fixes.thresholds["f1_one"], np.where(some, 2 * right / (kept + boxes), np.nan))
    for number in (1, 2, 3):
        own = some & (truth.categories.bins == number)
        if own.any():
            assert rows.loc[str(number), "f1"] == pytest.approx((2 * right[own] / (kept[own] + boxes[own])).mean())


def test_a_case_by_hand():
    """Two classes; each has right detections at one score and false ones at another, in all 10 images."""
    categories = CategoryTable.from_arrays([4, 120], names=["ladle", "kite"])
    content = {
        "images": [{"id": image} for image in range(10)],
        "annotations": [
            {"image_id": image, "category_id": category, "bbox": [0, 0, 10, 10]}
            for image in range(10)
            for category in (1, 2)
        ],
    }
    truth = GroundTruth.read(content, categories)
    rows = [(image, label, place, score)
            for image in range(10)
            for label, place, score in ((0, 0, 0.3), (0, 50, 0.1), (1, 0, 0.9), (1, 50, 0.6))]  # fmt: skip
    images, labels, places, scores = map(np.array, zip(*rows, strict=True))
    boxes = np.stack([places, places, places + 10, places + 10], axis=1)
    fixes = score_fixes.fit_and_measure(Detections(images, labels, boxes.astype(float), scores), truth, resamples=10)
    means = fixes.operating_points["f1"].xs("all", level="bin")
    # At .05 both keep a false detection beside each right one. At .5, and with any one threshold above .6, the ladle
    # keeps nothing.
    assert means[LOW] == pytest.approx(2 / 3)
    assert means[HALF] == pytest.approx(1 / 3)
    # From .1 to .3: the ladle keeps only right ones, the kite both; F1 1 and 2/3.
    assert means[ONE] == pytest.approx(5 / 6) and 0.1 < fixes.one_threshold <= 0.3
    assert means[ALONE] == means[PER_CLASS] == means[PER_BIN] == 1
    assert fixes.by_name() == {"ladle": 0.2, "kite": 0.75}
    assert fixes.thresholds[["precision", "recall", "f1"]].to_numpy().tolist() == [[1, 1, 1]] * 2
    assert fixes.operating_points.loc[(PER_CLASS, "all"), ["gain", "gain_low", "gain_high"]].tolist() == pytest.approx(
        [1 / 6] * 3
    )
    # The scores say .9 where all is right, and .3 where all is.
    assert fixes.calibration.loc[("as it is", "all"), ["d_ece", "laece", "laace"]].tolist() == pytest.approx([0.4] * 3)
    assert (fixes.calibration.loc[("isotonic, per class, alone", "all"), ["d_ece", "laece", "laace"]] < 1e-9).all()
    # Ten false kites stand above ten right ladles in the ranking of all; calibrated none does.
    assert fixes.pooled.loc[("isotonic, per class", "all"), "ap_pool"] == 1
    assert fixes.pooled.loc[("as it is", "all"), "ap_pool"] < 0.9


def test_classes_that_are_alike_gain_nothing():
    """Classes by chance: what is fitted to each differs by chance only, and helps only where it was fitted."""
    gains = []
    for seed in range(4):
        detections, truth = scene(seed, images=60, counts=(50,) * 5, absent=False)
        fixes = score_fixes.fit_and_measure(detections, truth, resamples=2, seed=seed)
        points = fixes.operating_points["gain"].xs("all", level="bin")
        pooled_gains = fixes.pooled["gain"].xs("all", level="bin")
        found = outcomes(detections, truth)
        boxes = np.bincount(found.truth_labels, minlength=5)

        def f1_of(levels, found=found, boxes=boxes):
            kept = found.scores >= levels[found.labels]
            right = np.bincount(found.labels[kept], found.targets["right"][kept], minlength=5)
            return f1(right, np.bincount(found.labels[kept], minlength=5), boxes).mean()

        seen = f1_of(best_levels(detections, truth, ALONE)) - f1_of(np.full(5, fixes.one_threshold))
        gains.append([points[PER_CLASS], points[ALONE], *pooled_gains.drop("as it is"), seen])
    per_class, alone, platt, isotonic, seen = np.mean(gains, axis=0)
    assert seen > 0.01
    assert alone < per_class + 0.002
    assert abs(per_class) < 0.006
    assert -0.03 < platt < 0.006 and -0.03 < isotonic < 0.006


def test_classes_that_differ_gain():
    detections, truth = scene(0, images=150, shift=0.8)
    fixes = score_fixes.fit_and_measure(detections, truth, resamples=50)
    row = fixes.operating_points.loc[(PER_CLASS, "all")]
    assert row["gain"] > 0.01 and row["gain_low"] > 0
    assert fixes.pooled.loc[("Platt, per class", "all"), "gain_low"] > 0
    for error in ("d_ece", "laece"):
        assert fixes.calibration.loc[("isotonic, per class", "all"), f"{error}_gain"] > 0.02


def test_pooled_ap_of_the_scores_as_they_are_is_that_of_fixed_ap():
    for federated in (False, True):
        detections, truth = scene(5, federated=federated, steps=20)
        fixes = score_fixes.fit_and_measure(detections, truth, resamples=5)
        assert fixes.pooled.loc[("as it is", "all"), "ap_pool"] == pytest.approx(fixed_ap(detections, truth)[1])


@pytest.mark.parametrize("federated", [False, True])
def test_pooled_ap_of_draws_is_that_of_the_ranking(federated, monkeypatch):
    detections, truth = scene(2, federated=federated, crowd=True, images=60)
    matches = match(detections, truth)
    (every,) = pooled(matches).categories
    places = ([np.flatnonzero(row) for row in table] for table in (every.true, every.ignored))
    ranking = Ranking(every.images, *places, every.truth_images)
    draws = np.random.default_rng(0).integers(0, 3, (6, 60))
    draws[0], draws[1] = 1, 0
    exact = average_precision(pooled(matches), draws)[:, 0]
    np.testing.assert_allclose(pooled_ap_of_draws(ranking, draws.T.astype(float)), exact, rtol=0, atol=1e-12)
    assert exact[0] == pytest.approx(pooled_ap(matches), abs=1e-12) and np.isnan(exact[1])
    monkeypatch.setattr(fixed_ap_module, "POINTS", 30)
    nearly = pooled_ap_of_draws(ranking, draws.T)
    assert nearly[0] == pytest.approx(exact[0], abs=1e-12)
    assert (np.abs(nearly - exact)[2:] > 0).any() and np.nanmax(np.abs(nearly - exact)) < 0.01


def test_pooled_ap_calibrated_is_that_of_calibrated_detections():
    """With held-out images, one monotone function a class: detections with these scores match the same boxes."""
    detections, truth = scene(6, shift=0.6)
    fixes = score_fixes.fit_and_measure(detections, truth, held_out=scene(7, shift=0.6), resamples=5)
    other = outcomes(*scene(7, shift=0.6))
    from imbalance_bench.evaluation.score_fixes import calibrators
    from imbalance_bench.evaluation.score_fixes.outcomes import count

    folds = folds_of(other.num_images, 5, 0)
    tables_of = calibrators.fit("Platt", count(other, "share", folds), truth.categories.bins).tables[PER_CLASS]
    cells = np.searchsorted(LEVELS, detections.scores, side="right") - 1
    values = tables_of[detections.labels, cells] + 1e-9 * detections.scores
    rescored = Detections(detections.image_ids, detections.labels, detections.boxes, values)
    assert fixes.pooled.loc[("Platt, per class", "all"), "ap_pool"] == pytest.approx(fixed_ap(rescored, truth)[1])


def test_held_out_images_fit_and_all_others_measure():
    detections, truth = scene(6, shift=0.6)
    held_out = scene(7, shift=0.6)
    fixes = score_fixes.fit_and_measure(detections, truth, held_out=held_out, resamples=5)
    levels = best_levels(*held_out, ALONE)
    found = outcomes(detections, truth)
    kept = found.scores >= levels[found.labels]
    right = np.bincount(found.labels[kept], found.targets["right"][kept], minlength=5)
    boxes = np.bincount(found.truth_labels, minlength=5)
    expected = f1(right, np.bincount(found.labels[kept], minlength=5), boxes)
    assert fixes.operating_points.loc[(ALONE, "all"), "f1"] == pytest.approx(np.nanmean(expected))
    columns = fixes.thresholds[["threshold", "lowest", "highest"]].to_numpy()
    assert (columns == columns[:, :1]).all()
    assert fixes.notes[0] == "fitted to 40 held-out images, measured on all 40 validation images"


def test_a_class_with_few_boxes_does_not_get_a_threshold_of_its_own():
    """The rare class has 3 boxes; the others of its bin agree on a threshold that fits it, too."""
    counts = (3, 4, 5, 6, 7)
    detections, truth = scene(8, counts=counts, images=200)
    three = np.flatnonzero(truth.labels == 0)[:3]
    keep = truth.labels > 0
    keep[three] = True
    content = dict(truth.content)
    order = sorted(range(len(truth.labels)), key=lambda place: (truth.labels[place], truth.images[place]))
    content["annotations"] = [
        {"image_id": int(truth.image_ids[truth.images[p]]), "category_id": int(truth.labels[p]) + 1,
         "bbox": truth.boxes[p].tolist()} for p in order if keep[p]
    ]  # fmt: skip
    fixes = score_fixes.fit_and_measure(detections, GroundTruth.read(content, truth.categories), resamples=5)
    rows = fixes.thresholds
    assert rows.loc[0, "boxes"] == 3 and rows.loc[1, "boxes"] == 0
    assert rows.loc[0, "rests_on"] != "own boxes" and rows.loc[0, "own_share"] < 0.3
    assert rows.loc[1, "own_share"] == 0 and np.isnan(rows.loc[1, "f1"])
    assert abs(rows.loc[0, "threshold"] - fixes.one_threshold) <= abs(
        best_levels(detections, GroundTruth.read(content, truth.categories), ALONE)[0] - fixes.one_threshold
    )
    assert any("absent" in note and "no box" in note for note in fixes.notes)


def test_intervals_are_those_of_the_same_draws():
    detections, truth = scene(9, federated=True)
    fixes = score_fixes.fit_and_measure(detections, truth, resamples=40, seed=3)
    again = score_fixes.fit_and_measure(detections, truth, resamples=40, seed=3)
    assert fixes == again
    row = fixes.operating_points.loc[(PER_CLASS, "all")]
    assert row["f1_low"] < row["f1"] < row["f1_high"]
    few = score_fixes.fit_and_measure(detections, truth, resamples=0)
    assert few.operating_points["f1_low"].isna().all() and few.operating_points.loc[(ONE, "all"), "f1"] > 0


@pytest.mark.parametrize("federated", [False, True])
def test_nothing_found(federated):
    _, truth = scene(0, federated=federated)
    fixes = score_fixes.fit_and_measure(Detections.from_images([], []), truth, resamples=5)
    points = fixes.operating_points.loc[(list(STRATEGIES), "all"), :]
    assert (points[["f1", "recall"]] == 0).all(axis=None) and points["precision"].isna().all()
    assert (fixes.calibration["detections"] == 0).all() and fixes.calibration["laece"].isna().all()
    assert (fixes.pooled["ap_pool"].xs("all", level="bin") == 0).all()
    assert fixes.thresholds["threshold"].between(0, 1).all()


def test_nothing_to_find():
    detections, truth = scene(0)
    empty = GroundTruth.read(dict(truth.content) | {"annotations": []}, truth.categories)
    fixes = score_fixes.fit_and_measure(detections, empty, resamples=5)
    assert fixes.operating_points[["f1", "precision", "recall"]].isna().all(axis=None)
    assert fixes.pooled["ap_pool"].isna().all()
    assert (fixes.operating_points["boxes"] == 0).all()


def test_two_images_and_one_class():
    categories = CategoryTable.from_arrays([4], names=["ladle"])
    content = {"images": [{"id": 1}, {"id": 2}],
               "annotations": [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 10]}]}  # fmt: skip
    truth = GroundTruth.read(content, categories)
    found = Detections(np.array([1, 2]), np.array([0, 0]), np.tile([0, 0, 10, 10.0], (2, 1)), np.array([1.0, 0.0]))
    fixes = score_fixes.fit_and_measure(found, truth, resamples=5)
    assert fixes.operating_points.loc[(HALF, "all"), "f1"] == 1
    assert "2 folds" in fixes.notes[0]


def test_bins_without_classes_and_classes_without_training_boxes():
    detections, truth = scene(1, counts=(0, 5, 40, 400, 60))
    fixes = score_fixes.fit_and_measure(detections, truth, resamples=5)
    assert set(fixes.operating_points.index.get_level_values("bin")) == {"all", "0", "1", "2", "3"}
    some = fixes.thresholds["bin"] > 0
    expected = fixes.thresholds.loc[some, "f1"].mean()
    assert fixes.operating_points.loc[(PER_CLASS, "all"), "f1"] == pytest.approx(expected)


def test_scores_a_rounding_beyond_the_range_are_in_it():
    categories = CategoryTable.from_arrays([4])
    box = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 10]}
    truth = GroundTruth.read({"images": [{"id": 1}, {"id": 2}], "annotations": [box]}, categories)
    scores = np.array([1 + 1e-7, -1e-9])
    found = outcomes(Detections(np.array([1, 2]), np.zeros(2, int), np.tile([0, 0, 10, 10.0], (2, 1)), scores), truth)
    assert found.scores.tolist() == [1, 0] and found.cells.tolist() == [len(LEVELS) - 1, 0]


def test_nothing_is_needed_of_torch(tmp_path):
    """The example of the module, in a process without it."""
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import doctest\n"
        "from imbalance_bench.evaluation import score_fixes\n"
        "done = doctest.testmod(score_fixes, optionflags=doctest.NORMALIZE_WHITESPACE)\n"
        "print(done.failed, done.attempted > 9)"
    )
    path = {"PYTHONPATH": str(Path(score_fixes.__file__).parents[3]), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=path, capture_output=True, text=True)
    assert done.stdout.split() == ["0", "True"], done.stdout + done.stderr


def test_thresholds_can_be_pasted():
    names = ["yes", "null", 'a "b"\n: c', "<b>", "yes", "1.5"]
    categories = CategoryTable.from_arrays([4] * 6, names=names)
    content = {"images": [{"id": image} for image in range(4)], "annotations": []}
    truth = GroundTruth.read(content, categories)
    fixes = score_fixes.fit_and_measure(Detections.from_images([], []), truth, resamples=2)
    by_name = fixes.by_name()
    assert list(by_name) == ["yes (id 1)", "null", 'a "b"\n: c', "<b>", "yes (id 5)", "1.5"]
    assert yaml.safe_load(fixes.to_yaml()) == {"score_thresholds": by_name}
    assert ast.literal_eval(fixes.to_python().partition(" = ")[2]) == by_name


def test_wrong_input():
    detections, truth = scene(0, images=6)

    def fails(expected, *args, error=InputError, **options):
        with pytest.raises(error, match=expected) as caught:
            score_fixes.fit_and_measure(*args, **options)
        assert "\n" not in str(caught.value)

    percent = Detections(detections.image_ids, detections.labels, detections.boxes, detections.scores * 100)
    fails("'scores' reaches from .* to .*, expected 0 to 1", percent, truth)
    fails("folds is 1", detections, truth, folds=1)
    fails("1 images, expected at least 2", *subset(detections, truth, np.array([0])))
    fails("they are the validation annotations", detections, truth, held_out=(detections, truth))
    fails("iou_type 'bbox'", detections, replace(truth, iou_type="segm"), error=ValueError)
    others = scene(1, counts=COUNTS[:4])
    fails("field 'categories' differs", detections, truth, held_out=others)
    nothing = GroundTruth.read({"images": [], "annotations": []}, truth.categories)
    fails("'images' is empty", detections, truth, held_out=(Detections.from_images([], []), nothing))
    strange = Detections(detections.image_ids + 1000, detections.labels, detections.boxes, detections.scores)
    fails("image_id", strange, truth)


def test_real_lvis_annotations():
    folder = Path(__file__).resolve().parents[1] / "data" / "lvis_v0.5_val100"
    content = json.loads((folder / "lvis_val_100.json").read_text())
    categories = CategoryTable.from_annotations(content)
    truth = GroundTruth.read(content, categories, lvis_style=True)
    detections = Detections.from_coco(folder / "perturbed_results_100_seed0.json", categories)
    fixes = score_fixes.fit_and_measure(detections, truth, resamples=20)
    assert fixes.pooled.loc[("as it is", "all"), "ap_pool"] == pytest.approx(fixed_ap(detections, truth)[1])
    assert any(note.startswith("federated annotations") for note in fixes.notes)
    assert fixes.operating_points.loc[(PER_CLASS, "all"), "f1"] > 0
    assert isinstance(tables.RESTS_ON, tuple) and isinstance(fixes.thresholds, pd.DataFrame)
