"""What is measured, against slow versions and against the evaluators."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_files import annotations, detections

from imbalance_bench.categories import CategoryTable
from imbalance_bench.diagnosis.predictions.inputs import Given, read
from imbalance_bench.diagnosis.predictions.measure import FEW, groups_of, measure
from imbalance_bench.diagnosis.predictions.result import PredictionDiagnosis
from imbalance_bench.evaluation.average_precision import evaluate
from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.evaluation.fixed_ap import fixed_ap
from imbalance_bench.evaluation.ground_truth import GroundTruth
from imbalance_bench.evaluation.uncertainty import intervals
from imbalance_bench.runtime.progress import Reporter

Evidence = tuple[Detections, GroundTruth]


def iou(a: list[float], b: list[float]) -> float:
    """Of two boxes x, y, w, h."""
    w, h = (min(a[i] + a[i + 2], b[i] + b[i + 2]) - max(a[i], b[i]) for i in (0, 1))
    inter = max(w, 0) * max(h, 0)
    return inter / (a[2] * a[3] + b[2] * b[3] - inter)


@pytest.fixture(scope="module")
def evidence(files: dict[str, Path], diagnosis: PredictionDiagnosis) -> Evidence:
    table = CategoryTable.from_annotations(files["train_annotations"], (200, 900))
    truth = GroundTruth.read(files["annotations"], table)
    return Detections.from_coco(files["predictions"], table), truth


def test_ap_is_that_of_the_evaluators(diagnosis: PredictionDiagnosis, evidence: Evidence) -> None:
    columns = ["val_instances", "val_images", "ap", "ap50", "ap75", "recall"]
    expected = evaluate(*evidence)[columns]
    pd.testing.assert_frame_equal(diagnosis.per_class[columns], expected, check_dtype=False, rtol=0, atol=1e-12)
    fixed, pooled = fixed_ap(*evidence)
    np.testing.assert_allclose(diagnosis.per_class["ap_fixed"], fixed, rtol=0, atol=1e-12)
    plain = diagnosis.pooled[diagnosis.pooled["scores"] == "as it is"].set_index("group")
    assert plain.loc["all", "ap_pool"] == pytest.approx(pooled)
    assert diagnosis.bins.loc["all", "ap"] == pytest.approx(expected["ap"].mean())


def test_intervals_are_those_over_images(diagnosis: PredictionDiagnosis, evidence: Evidence) -> None:
    expected = intervals({"run": evidence[0]}, evidence[1]).loc["run"]
    for key, measure_name in (("all", "mAP"), ("1", "AP1"), ("3", "AP3")):
        row = diagnosis.bins.loc[key]
        assert [row["ap"], row["ap_low"], row["ap_high"]] == pytest.approx(expected.loc[measure_name].tolist())


def test_who_takes_the_boxes(diagnosis: PredictionDiagnosis, files: dict[str, Path]) -> None:
    val, found = (json.loads(files[name].read_text()) for name in ("annotations", "predictions"))
    ids = [3, 5, 8]
    expected: dict[tuple[int, int], int] = {}
    for entry in val["annotations"]:
        on_it = [f for f in found if f["image_id"] == entry["image_id"] and iou(f["bbox"], entry["bbox"]) >= 0.5]
        best = max(on_it, key=lambda f: f["score"], default=None)
        pair = ids.index(entry["category_id"]), -1 if best is None else ids.index(best["category_id"])
        expected[pair] = expected.get(pair, 0) + 1
    table = diagnosis.confusions
    assert {(r.label, r.taker): r.boxes for r in table.itertuples()} == expected
    own = diagnosis.per_class.loc[1]
    total = sum(n for (label, _), n in expected.items() if label == 1)
    assert own["right"] == expected[1, 1] / total and own["another"] == expected[1, 0] / total
    assert own["taken_by"] == f"person {expected[1, 0] / total:.0%}"
    assert diagnosis.bins.loc["1", "another"] == pytest.approx(own["another"])
    assert diagnosis.contrast.loc["another", "tail"] == pytest.approx(own["another"])


def test_scores_of_right_detections(diagnosis: PredictionDiagnosis) -> None:
    histogram = diagnosis.histogram
    for key in ("all", "1", "tail", "head"):
        own = histogram[histogram["group"] == key]
        right = (own["proposals"] * own["accuracy"]).round()
        row = diagnosis.scores.loc[key]
        assert right.sum() == row["found"]
        boxes = diagnosis.bins.loc[key, "val_instances"]
        for level in (0.05, 0.1, 0.3, 0.5):
            assert right[own["low"] >= level - 1e-9].sum() / boxes == pytest.approx(row[f"at_{level:g}"])
    assert (diagnosis.scores[["low", "quarter", "median", "high"]].diff(axis=1).iloc[:, 1:] >= 0).all(axis=None)


def test_what_rests_on_few_boxes_is_marked(tmp_path: Path) -> None:
    val = annotations({1: "a", 2: "b", 3: "c"}, (FEW, FEW - 1, 0), images=5)
    (tmp_path / "val.json").write_text(json.dumps(val))
    (tmp_path / "p.json").write_text(json.dumps(detections(val, right={1: 1, 2: 1, 3: 1})))
    inputs = read(Given(tmp_path / "p.json", tmp_path / "val.json", bin_edges=(FEW,)), Reporter())
    found = measure(inputs, 0, Reporter())
    assert found.per_class["few"].tolist() == [False, True, True]
    assert found.bins.loc["all", "few_classes"] == 1, "those without a box are counted apart"
    assert np.isnan(found.per_class.loc[2, "ap"])


def test_limits_of_detections(tmp_path: Path) -> None:
    """An image with more detections than count, where the last ones alone are right."""
    val = annotations({1: "a", 2: "b"}, (4, 4), images=2)
    found = detections(val, right={1: 1, 2: 1}, scores={1: 0.05, 2: 0.05}, noise=0)
    found += [{"image_id": 1, "category_id": 1, "bbox": [600, 600, 9, 9], "score": 0.9}] * 400
    (tmp_path / "val.json").write_text(json.dumps(val))
    (tmp_path / "p.json").write_text(json.dumps(found))
    inputs = read(Given(tmp_path / "p.json", tmp_path / "val.json"), Reporter())
    got = measure(inputs, 0, Reporter()).per_class
    expected = evaluate(inputs.found, inputs.truth)
    np.testing.assert_allclose(got["ap"], expected["ap"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(got["ap_fixed"], fixed_ap(inputs.found, inputs.truth)[0], rtol=0, atol=1e-12)
    assert got.loc[0, "ap_fixed"] > got.loc[0, "ap"]


def test_groups(diagnosis: PredictionDiagnosis) -> None:
    table = CategoryTable.from_arrays([900, 30, 200], bin_edges=(200, 900))
    groups = groups_of(table)
    assert {key: labels.tolist() for key, labels in groups.items()} == {
        "all": [0, 1, 2], "1": [1], "2": [2], "3": [0], "tail": [1], "head": [0, 2],
    }  # fmt: skip
    assert diagnosis.shown_bins.index.tolist() == ["all", "1", "2", "3", "head"], "tail is bin 1"
