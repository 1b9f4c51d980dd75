import numpy as np
import pandas as pd
import pytest
from scipy import stats

from imbalance_bench.categories import CategoryTable
from imbalance_bench.evaluation.average_precision import evaluate
from imbalance_bench.evaluation.bootstrap import ap_of_draws, mean_ap
from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.evaluation.ground_truth import GroundTruth
from imbalance_bench.evaluation.matching import match
from imbalance_bench.evaluation.measures import AP
from imbalance_bench.evaluation.uncertainty import intervals, paired, paired_classes
from imbalance_bench.runtime.errors import InputError

CATEGORIES = CategoryTable(
    np.array([1, 2, 3]), ("a", "b", "c"), np.array([4, 50, 9]), np.array([4, 50, 9]), tuple("rcr")
)
MEASURES = ["mAP", "AP1", "AP2", "AP3", "AP4", "APr", "APc", "APf"]


def content(images=30):
    rng = np.random.default_rng(0)
    annotations = [
        {"image_id": image, "category_id": int(category), "bbox": [*rng.uniform(0, 99, 2).tolist(), 30.0, 30.0]}
        for image in range(images)
        for category in rng.integers(1, 3, 3)
    ]
    return {"images": [{"id": image} for image in range(images)], "annotations": annotations}


def run(noise, found, seed=0):
    """A run that finds the share ``found`` of the boxes of a and of b."""
    rng = np.random.default_rng(seed)
    entries = [e for e in content()["annotations"] if rng.random() < found[e["category_id"] - 1]]
    boxes = np.array([e["bbox"] for e in entries])
    boxes[:, :2] += rng.normal(0, noise, (len(boxes), 2))
    boxes[:, 2:] += boxes[:, :2]
    labels = np.array([e["category_id"] - 1 for e in entries])
    return Detections(np.array([e["image_id"] for e in entries]), labels, boxes, rng.random(len(boxes)))


TRUTH = GroundTruth.read(content(), CATEGORIES, lvis_style=False)


@pytest.fixture
def runs():
    return {"weak": run(3, (0.3, 0.7)), "strong": run(3, (0.9, 0.7), seed=1)}


def test_intervals_hold_the_value_of_all_images_and_are_reflected_quantiles_of_the_draws(runs):
    frame = intervals(runs, TRUTH, resamples=60, seed=5)
    assert frame.index.names == ["run", "measure"]
    assert frame.columns.tolist() == ["value", "images_low", "images_high"]
    matches = []
    for name, detections in runs.items():
        matches.append(match(detections, TRUTH))
        summary = AP.summary(evaluate(detections, TRUTH), CATEGORIES)
        assert frame.loc[name]["value"].to_dict() == pytest.approx({m: summary[m] for m in MEASURES}, nan_ok=True)
        known = frame.loc[name].dropna()
        assert known.index.tolist() == ["mAP", "AP1", "AP2", "APr", "APc"]
        assert ((known["images_low"] < known["value"]) & (known["value"] < known["images_high"])).all()
    values = mean_ap(ap_of_draws(matches[1], resamples=60, seed=5), CATEGORIES)["AP1"].iloc[1:]
    value = frame.loc[("strong", "AP1"), "value"]
    expected = 2 * value - np.quantile(values, [0.975, 0.025])
    assert frame.loc[("strong", "AP1"), ["images_low", "images_high"]].tolist() == pytest.approx(expected)
    assert frame.loc[("strong", "AP4")].isna().all()


def test_a_pair_is_told_apart_where_it_differs(runs):
    frame = paired(runs["weak"], runs["strong"], TRUTH, resamples=60)
    assert frame.index.tolist() == MEASURES
    assert frame.columns.tolist() == ["a", "b", "difference", "images_low", "images_high", "real"]
    alone = intervals(runs, TRUTH, resamples=60)
    pd.testing.assert_series_equal(frame["a"], alone.loc["weak"]["value"], check_names=False)
    pd.testing.assert_series_equal(frame["b"], alone.loc["strong"]["value"], check_names=False)
    assert frame.loc["AP1", "difference"] == pytest.approx(frame.loc["AP1", "b"] - frame.loc["AP1", "a"])
    # The runs differ in a, whose bin is the first, and in b by chance only.
    assert frame["real"].to_dict() == dict.fromkeys(MEASURES, False) | {"mAP": True, "AP1": True, "APr": True}
    assert frame.loc["AP2", "images_low"] < 0 < frame.loc["AP2", "images_high"]
    back = paired(runs["strong"], runs["weak"], TRUTH, resamples=60)
    np.testing.assert_allclose(back[["images_low", "images_high"]], -frame[["images_high", "images_low"]], atol=1e-12)
    pd.testing.assert_series_equal(back["real"], frame["real"])


def test_the_draws_of_a_pair_are_shared(runs):
    same = paired(runs["weak"], runs["weak"], TRUTH, resamples=20)
    assert (same.loc[["mAP", "AP1", "AP2"], ["difference", "images_low", "images_high"]] == 0).all(axis=None)
    assert not same["real"].any()
    # A run that is the other and a little better everywhere: the chance of the images cancels.
    finer = run(2.5, (0.3, 0.7))
    frame = paired(runs["weak"], finer, TRUTH, resamples=60)
    alone = intervals({"a": runs["weak"]}, TRUTH, resamples=60).loc["a"]
    assert frame.loc["mAP", "images_high"] - frame.loc["mAP", "images_low"] < 0.7 * (
        alone.loc["mAP", "images_high"] - alone.loc["mAP", "images_low"]
    )


def merged(a, b, swapped):
    """The detections of ``a``, of some images those of ``b``; scores by the place in a class of their own run."""
    parts = []
    for detections, here in ((a, ~swapped), (b, swapped)):
        places = np.empty(len(detections))
        for label in np.unique(detections.labels):
            own = np.flatnonzero(detections.labels == label)
            places[own[np.lexsort((detections.image_ids[own], -detections.scores[own]))]] = np.arange(len(own))
        kept = here[np.searchsorted(TRUTH.image_ids, detections.image_ids)]
        parts.append((detections.image_ids[kept], detections.labels[kept], detections.boxes[kept], -places[kept]))
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    columns[3] = 1 / (1 - columns[3])  # a score of 0 to 1 in the same order
    return Detections(*columns)


def test_classes_are_told_apart_by_swapping_images(runs):
    """Against a slow version: detections are swapped, and evaluated by the package that makes every table."""
    weak, strong = runs.values()
    frame = paired_classes(weak, strong, TRUTH, resamples=25, seed=3)
    for name, detections in (("a", weak), ("b", strong)):
        np.testing.assert_allclose(frame[name], evaluate(detections, TRUTH)["ap"], atol=1e-9)
    assert frame["val_instances"].tolist() == evaluate(weak, TRUTH)["val_instances"].tolist()
    assert frame["val_images"].tolist() == evaluate(weak, TRUTH)["val_images"].tolist()
    squares = []
    for swapped in np.random.default_rng(3).integers(0, 2, (25, len(TRUTH.image_ids))).astype(bool):
        pair = [evaluate(merged(weak, strong, here), TRUTH)["ap"] for here in (swapped, ~swapped)]
        squares.append((pair[0] - pair[1]) ** 2)
    deviation = np.sqrt(np.mean(squares, axis=0))
    np.testing.assert_allclose(frame["chance"], stats.norm.ppf(0.975) * deviation, atol=1e-9)
    # a differs, b by chance only; c has no box.
    np.testing.assert_allclose(frame["p"][:2], 2 * stats.norm.sf((frame["difference"] / deviation).abs()[:2]))
    assert frame["real"].tolist() == [True, False, False]
    assert frame.loc[2, ["a", "b", "difference", "p", "q"]].isna().all()


def test_classes_are_judged_together():
    """Among many classes some p-values are small by chance; with the number of classes they are no longer."""
    rng = np.random.default_rng(0)
    names = tuple(map(str, range(40)))
    counts = np.full(40, 9)
    categories = CategoryTable(np.arange(1, 41), names, counts, counts, tuple("r" * 40))
    boxes = [
        {"image_id": int(image), "category_id": label + 1, "bbox": [*rng.uniform(0, 900, 2).tolist(), 30.0, 30.0]}
        for label in range(40)
        for image in rng.choice(60, 24, replace=False)
    ]
    truth = GroundTruth.read({"images": [{"id": i} for i in range(60)], "annotations": boxes}, categories)

    def noisy(seed, better=()):
        rng, rows = np.random.default_rng(seed), []
        for box in boxes:
            x, y, w, h = box["bbox"]
            noise = rng.normal(0, 0.3 if box["category_id"] in better else 7, 2)
            rows.append((box["image_id"], box["category_id"] - 1, x + noise[0], y + noise[1], x + w + noise[0],
                         y + h + noise[1], rng.random()))  # fmt: skip
        columns = np.array(rows)
        return Detections(columns[:, 0].astype(int), columns[:, 1].astype(int), columns[:, 2:6], columns[:, 6])

    alike = paired_classes(noisy(1), noisy(2), truth, resamples=100)
    assert (alike["p"] <= 0.05).any() and not alike["real"].any()
    apart = paired_classes(noisy(1), noisy(2, better=(3, 8)), truth, resamples=100)
    assert apart[apart["real"]]["id"].tolist() == [3, 8]
    np.testing.assert_allclose(apart["q"], stats.false_discovery_control(apart["p"]))
    squeezed = noisy(2, better=(3, 8))
    scaled = Detections(squeezed.image_ids, squeezed.labels, squeezed.boxes, 0.01 * squeezed.scores**2)
    again = paired_classes(noisy(1), scaled, truth, resamples=100)
    pd.testing.assert_frame_equal(apart, again)


def test_classes_of_few_images_are_not_judged(runs):
    few = content(images=9)
    truth = GroundTruth.read(few, CATEGORIES, lvis_style=False)

    def kept(detections):
        inside = detections.image_ids < 9
        columns = (detections.image_ids, detections.labels, detections.boxes, detections.scores)
        return Detections(*(column[inside] for column in columns))

    frame = paired_classes(*map(kept, runs.values()), truth, resamples=10)
    assert frame[["p", "q"]].isna().all(axis=None) and not frame["real"].any()
    assert frame["difference"][:2].notna().all() and frame["chance"][:2].notna().all()


def test_detections_of_another_image():
    stranger = Detections([99], [0], [[0, 0, 9, 9]], [0.5])
    with pytest.raises(InputError, match="field 'image_ids' has 99"):
        intervals({"stranger": stranger}, TRUTH)
