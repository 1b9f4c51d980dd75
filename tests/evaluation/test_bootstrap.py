import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from packages import faster

from imbalance_bench.categories import CategoryTable
from imbalance_bench.evaluation import matching
from imbalance_bench.evaluation.bootstrap import ap_of_draws, mean_ap
from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.evaluation.ground_truth import GroundTruth
from imbalance_bench.evaluation.matching import average_precision
from imbalance_bench.evaluation.measures import AP
from imbalance_bench.runtime.errors import InputError

VAL100 = Path(__file__).resolve().parents[1] / "data" / "lvis_v0.5_val100"
IDS = np.array([2, 3, 7, 11])
COPIES = 10  # room for copies between two image ids


def evaluate(detections, annotations, categories, *, lvis_style, max_detections=300):
    """By faster-coco-eval, which shares no code with what is tested."""
    return faster(detections, GroundTruth.read(annotations, categories, lvis_style=lvis_style), max_detections)


def match(detections, annotations, categories, *, lvis_style, max_detections=300):
    truth = GroundTruth.read(annotations, categories, lvis_style=lvis_style)
    return matching.match(detections, truth, max_detections)


def table():
    return CategoryTable(
        IDS, ("a", "b", "c", "d"), np.array([1, 5, 5, 30]), np.array([1, 5, 5, 30]), tuple("rccf"), (3,)
    )


def scene(seed, images=14, crowd=False, score_steps=None):
    """Boxes of all categories but the last and jittered, mislabelled and stray detections, in random order.

    Image ids are not in order. With ``score_steps`` scores tie, inside images too; else no two are equal.
    """
    rng = np.random.default_rng(seed)
    content = {"images": [], "annotations": []}
    rows = []
    for image in (rng.permutation(images) + 1) * COPIES:
        present = rng.choice(IDS[:-1], 2, replace=False)
        absent = np.setdiff1d(IDS, present)
        content["images"].append(
            {
                "id": int(image),
                "neg_category_ids": absent[:1].tolist(),
                "not_exhaustive_category_ids": [int(present[0])],
            }
        )
        for category in rng.choice(present, rng.integers(1, 7)):
            x, y, w, h = (*rng.uniform(0, 100, 2), *rng.uniform(20, 60, 2))
            content["annotations"].append(
                {"image_id": int(image), "category_id": int(category), "bbox": [x, y, w, h],
                 "iscrowd": int(crowd and rng.random() < 0.25)}
            )  # fmt: skip
            for _ in range(3):
                dx, dy, dw, dh = rng.normal(0, 0.1, 4) * [w, h, w, h]
                label = np.searchsorted(IDS, category) if rng.random() < 0.8 else rng.integers(len(IDS))
                rows.append((image, label, x + dx, y + dy, x + dx + w + dw, y + dy + h + dh))
        for x, y, w, h in rng.uniform(10, 90, (6, 4)):
            rows.append((image, rng.integers(len(IDS)), x, y, x + w, y + h))
    rows = np.array(rows)[rng.permutation(len(rows))]
    scores = rng.permutation(len(rows)) / len(rows)
    if score_steps:
        scores = np.round(scores * score_steps) / score_steps
    return content, Detections(rows[:, 0].astype(int), rows[:, 1].astype(int), rows[:, 2:], scores)


def copied(content, detections, weights):
    """Each image, its boxes and its detections as often as its weight says, copies as images of their own."""
    image_ids = np.unique([image["id"] for image in content["images"]])
    images, annotations, columns = [], [], []
    for image_id, weight in zip(image_ids.tolist(), weights, strict=True):
        for copy in range(weight):
            images += [i | {"id": image_id + copy} for i in content["images"] if i["id"] == image_id]
            annotations += [
                a | {"image_id": image_id + copy} for a in content["annotations"] if a["image_id"] == image_id
            ]
            own = detections.image_ids == image_id
            columns.append((detections.image_ids[own] + copy, detections.labels[own],
                            detections.boxes[own], detections.scores[own]))  # fmt: skip
    parts = [np.concatenate(column) for column in zip(*columns, strict=True)]
    return content | {"images": images, "annotations": annotations}, Detections(*parts)


STYLES = pytest.mark.parametrize("lvis_style", [True, False], ids=["federated", "coco with crowds"])


@STYLES
@pytest.mark.parametrize("max_detections", [300, 4])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_on_the_images_as_they_are_it_is_the_evaluators_ap(lvis_style, max_detections, seed):
    content, detections = scene(seed, crowd=True, score_steps=12)
    expected = evaluate(detections, content, table(), lvis_style=lvis_style, max_detections=max_detections)["ap"]
    matches = match(detections, content, table(), lvis_style=lvis_style, max_detections=max_detections)
    assert expected.isna().tolist() == [False, False, False, True]
    assert expected[:3].between(0.02, 0.9).all()
    np.testing.assert_allclose(average_precision(matches), expected, rtol=0, atol=1e-9)
    ones = np.ones(len(content["images"]), int)
    np.testing.assert_array_equal(average_precision(matches, ones), average_precision(matches))


@STYLES
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_weights_are_copies_of_images(lvis_style, seed):
    content, detections = scene(seed, crowd=True)
    matches = match(detections, content, table(), lvis_style=lvis_style)
    weights = np.random.default_rng(seed).integers(0, 4, (5, len(content["images"])))
    # One image only; a category without a box in it has no AP.
    weights[-1] = 0
    weights[-1, seed] = 3
    expected = []
    for draw in weights:
        many, found = copied(content, detections, draw)
        expected.append(evaluate(found, many, table(), lvis_style=lvis_style)["ap"])
    assert np.isnan(expected[-1]).sum() > np.isnan(expected[0]).sum()
    np.testing.assert_allclose(average_precision(matches, weights), expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(average_precision(matches, weights[0]), expected[0], rtol=0, atol=1e-9)


def test_scores_that_tie_between_images_stay_in_the_order_of_the_images():
    content, detections = scene(0)
    # Inside an image and category no two are equal, between images many are.
    rank = np.zeros(len(detections), int)
    for image in np.unique(detections.image_ids):
        own = detections.image_ids == image
        rank[own] = np.argsort(np.argsort(detections.scores[own]))
    tied = Detections(detections.image_ids, detections.labels, detections.boxes, rank / 100)
    weights = np.random.default_rng(0).integers(0, 4, len(content["images"]))
    many, found = copied(content, tied, weights)
    matches = match(tied, content, table(), lvis_style=True)
    expected = evaluate(found, many, table(), lvis_style=True)["ap"]
    np.testing.assert_allclose(average_precision(matches, weights), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("lvis_style", [True, False])
def test_areas_that_do_not_count_and_boxes_of_equal_overlap(lvis_style):
    content = {
        "images": [{"id": 1, "neg_category_ids": [], "not_exhaustive_category_ids": []}],
        "annotations": [
            {"image_id": 1, "category_id": 2, "bbox": [0, 0, 10, 10]},
            {"image_id": 1, "category_id": 2, "bbox": [0, 0, 10, 10]},
            {"image_id": 1, "category_id": 3, "bbox": [0, 0, 10, 10], "area": 1e11},
            {"image_id": 1, "category_id": 3, "bbox": [50, 50, 10, 10]},
        ],
    }
    boxes = [
        [0, 0, 10, 10],
        [0, 0, 10, 9],
        [0, 0, 9, 9],
        [0, 0, 10, 10],
        [0, 0, 10, 10],
        [50, 50, 60, 60],
        [0, 0, 2e5, 2e5],
    ]
    scores = [0.9, 0.8, 0.7, 0.9, 0.8, 0.7, 0.95]
    detections = Detections(np.ones(7, int), np.array([0, 0, 0, 1, 1, 1, 1]), np.array(boxes), np.array(scores))
    expected = evaluate(detections, content, table(), lvis_style=lvis_style)["ap"]
    got = average_precision(match(detections, content, table(), lvis_style=lvis_style))
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-9)
    assert expected[0] > 0.9 and expected[1] == pytest.approx(0.5)


@STYLES
def test_nothing_found_is_zero_where_there_is_something_to_find(lvis_style):
    content, _ = scene(0)
    nothing = match(Detections.from_images([], []), content, table(), lvis_style=lvis_style)
    np.testing.assert_array_equal(average_precision(nothing), [0, 0, 0, np.nan])
    none = np.zeros((2, len(content["images"])), int)
    assert np.isnan(average_precision(nothing, none)).all()
    empty = content | {"annotations": []}
    assert np.isnan(average_precision(match(scene(0)[1], empty, table(), lvis_style=lvis_style))).all()


def test_real_lvis_annotations_give_the_evaluators_ap():
    content = json.loads((VAL100 / "lvis_val_100.json").read_text())
    results = json.loads((VAL100 / "perturbed_results_100_seed0.json").read_text())
    categories = CategoryTable.from_annotations(content)
    boxes = np.array([r["bbox"] for r in results])
    boxes[:, 2:] += boxes[:, :2]
    labels = categories.labels_of([r["category_id"] for r in results])
    images, scores = ([r[field] for r in results] for field in ("image_id", "score"))
    detections = Detections(np.array(images), labels, boxes, np.array(scores))
    expected = evaluate(detections, content, categories, lvis_style=True)["ap"]
    got = average_precision(match(detections, content, categories, lvis_style=True))
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-9)


def test_draws_are_of_all_images_first_and_the_same_for_every_run():
    content, detections = scene(0)
    matches = match(detections, content, table(), lvis_style=True)
    other = match(scene(0, score_steps=3)[1], content, table(), lvis_style=True)
    ap = ap_of_draws(matches, resamples=40, seed=3)
    assert ap.shape == (41, 4)
    # A draw has as many images as the split, each as likely as the others; the same draws in batches of any size.
    count = len(content["images"])
    draws = np.random.default_rng(3).multinomial(count, np.full(count, 1 / count), size=40)
    for found, of in ((matches, ap), (other, ap_of_draws(other, resamples=40, seed=3))):
        np.testing.assert_allclose(of[0], average_precision(found), rtol=0, atol=1e-12)
        for draw, drawn in zip(draws, of[1:], strict=True):
            np.testing.assert_allclose(drawn, average_precision(found, draw), rtol=0, atol=1e-12)
    np.testing.assert_array_equal(ap, ap_of_draws(matches, resamples=40, seed=3))
    assert not np.array_equal(ap[1:], ap_of_draws(matches, resamples=40, seed=4)[1:], equal_nan=True)


def test_mean_ap_is_the_summary_of_each_row():
    ap = np.random.default_rng(0).random((3, 4))
    ap[1, 0] = ap[2, 3] = np.nan
    means = mean_ap(ap, table())
    assert means.columns.tolist() == ["mAP", "AP1", "AP2", "APr", "APc", "APf"]
    for row, values in enumerate(ap):
        expected = AP.summary(pd.DataFrame({"ap": values}), table())
        assert means.loc[row].to_dict() == pytest.approx({name: expected[name] for name in means}, nan_ok=True)


def test_bad_input():
    content, detections = scene(0)
    matches = match(detections, content, table(), lvis_style=True)
    fewer = content | {"images": content["images"][1:]}
    with pytest.raises(InputError, match="image_id"):
        match(detections, fewer, table(), lvis_style=True)
    for weights in (np.ones(3, int), np.ones(len(content["images"]))):
        with pytest.raises(ValueError, match="image_weights"):
            average_precision(matches, weights)
