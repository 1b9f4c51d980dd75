import numpy as np
import pandas as pd
import pytest

from imbalance_bench.categories import CategoryTable
from imbalance_bench.evaluation.average_precision import evaluate
from imbalance_bench.evaluation.bootstrap import bootstrap
from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.evaluation.ground_truth import GroundTruth
from imbalance_bench.evaluation.matching import match
from imbalance_bench.evaluation.measures import AP
from imbalance_bench.evaluation.uncertainty import intervals, paired
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


def run(folder, noise, found, seed=0):
    """A run that finds the share ``found`` of the boxes of a and of b."""
    rng = np.random.default_rng(seed)
    entries = [e for e in content()["annotations"] if rng.random() < found[e["category_id"] - 1]]
    boxes = np.array([e["bbox"] for e in entries])
    boxes[:, :2] += rng.normal(0, noise, (len(boxes), 2))
    boxes[:, 2:] += boxes[:, :2]
    labels = np.array([e["category_id"] - 1 for e in entries])
    folder.mkdir()
    Detections(np.array([e["image_id"] for e in entries]), labels, boxes, rng.random(len(boxes))).save(
        folder / "detections.npz"
    )
    return folder


@pytest.fixture
def runs(tmp_path):
    return {"weak": run(tmp_path / "weak", 3, (0.3, 0.7)), "strong": run(tmp_path / "strong", 3, (0.9, 0.7), seed=1)}


def test_intervals_hold_the_value_of_all_images_and_are_reflected_quantiles_of_the_draws(runs):
    frame = intervals(runs, content(), CATEGORIES, lvis_style=False, resamples=60, seed=5)
    assert frame.index.names == ["run", "measure"]
    assert frame.columns.tolist() == ["value", "images_low", "images_high"]
    matches = []
    for name, folder in runs.items():
        detections = Detections.load(folder / "detections.npz")
        truth = GroundTruth.read(content(), CATEGORIES, lvis_style=False)
        matches.append(match(detections, truth))
        summary = AP.summary(evaluate(detections, truth), CATEGORIES)
        assert frame.loc[name]["value"].to_dict() == pytest.approx({m: summary[m] for m in MEASURES}, nan_ok=True)
        known = frame.loc[name].dropna()
        assert known.index.tolist() == ["mAP", "AP1", "AP2", "APr", "APc"]
        assert ((known["images_low"] < known["value"]) & (known["value"] < known["images_high"])).all()
    drawn = bootstrap(matches, CATEGORIES, resamples=60, seed=5)
    values = drawn.loc[(drawn["run"] == 1) & (drawn["measure"] == "AP1"), "value"]
    value = frame.loc[("strong", "AP1"), "value"]
    expected = 2 * value - np.quantile(values, [0.975, 0.025])
    assert frame.loc[("strong", "AP1"), ["images_low", "images_high"]].tolist() == pytest.approx(expected)
    assert frame.loc[("strong", "AP4")].isna().all()


def test_a_pair_is_told_apart_where_it_differs(runs):
    frame = paired(runs["weak"], runs["strong"], content(), CATEGORIES, lvis_style=False, resamples=60)
    assert frame.index.tolist() == MEASURES
    assert frame.columns.tolist() == ["a", "b", "difference", "images_low", "images_high", "real"]
    alone = intervals(runs, content(), CATEGORIES, lvis_style=False, resamples=60)
    pd.testing.assert_series_equal(frame["a"], alone.loc["weak"]["value"], check_names=False)
    pd.testing.assert_series_equal(frame["b"], alone.loc["strong"]["value"], check_names=False)
    assert frame.loc["AP1", "difference"] == pytest.approx(frame.loc["AP1", "b"] - frame.loc["AP1", "a"])
    # The runs differ in a, whose bin is the first, and in b by chance only.
    assert frame["real"].to_dict() == dict.fromkeys(MEASURES, False) | {"mAP": True, "AP1": True, "APr": True}
    assert frame.loc["AP2", "images_low"] < 0 < frame.loc["AP2", "images_high"]
    back = paired(runs["strong"], runs["weak"], content(), CATEGORIES, lvis_style=False, resamples=60)
    np.testing.assert_allclose(back[["images_low", "images_high"]], -frame[["images_high", "images_low"]], atol=1e-12)
    pd.testing.assert_series_equal(back["real"], frame["real"])


def test_the_draws_of_a_pair_are_shared(runs, tmp_path):
    same = paired(runs["weak"], runs["weak"], content(), CATEGORIES, lvis_style=False, resamples=20)
    assert (same.loc[["mAP", "AP1", "AP2"], ["difference", "images_low", "images_high"]] == 0).all(axis=None)
    assert not same["real"].any()
    # A run that is the other and a little better everywhere: the chance of the images cancels.
    finer = run(tmp_path / "finer", 2.5, (0.3, 0.7))
    frame = paired(runs["weak"], finer, content(), CATEGORIES, lvis_style=False, resamples=60)
    alone = intervals({"a": runs["weak"]}, content(), CATEGORIES, lvis_style=False, resamples=60).loc["a"]
    assert frame.loc["mAP", "images_high"] - frame.loc["mAP", "images_low"] < 0.7 * (
        alone.loc["mAP", "images_high"] - alone.loc["mAP", "images_low"]
    )


def test_a_folder_without_detections(tmp_path):
    with pytest.raises(InputError, match="no such file, expected detections"):
        intervals({"none": tmp_path}, content(), CATEGORIES, lvis_style=False)
