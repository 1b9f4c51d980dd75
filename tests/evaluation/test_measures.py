"""The registry of measures: their names, their keys by groups of categories, and a new one."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from imbalance_bench.categories import CategoryTable
from imbalance_bench.evaluation import measures
from imbalance_bench.evaluation.measures import (
    ACCURACY,
    AP,
    AP_FIXED,
    MASK_AP,
    PROPOSAL_RECALL,
    LogitSpread,
    Means,
    Measure,
)


def table(counts, frequencies=None, edges=(10, 100)):
    n = len(counts)
    letters = tuple(frequencies or "rcf" * n)[:n]
    ids, names, counts = np.arange(1, n + 1), tuple(map(str, range(n))), np.array(counts)
    return CategoryTable(ids, names, counts, counts, letters, edges)


def ap_frame(values):
    return pd.DataFrame({"ap": values}, index=pd.RangeIndex(len(values), name="label"))


def test_ap_by_hand_with_a_class_without_ground_truth_and_an_empty_bin():
    categories = table([3, 9, 50, 99, 20], "rrccc")
    summary = AP.summary(ap_frame([0.1, np.nan, 0.4, 0.6, 0.2]), categories)
    expected = {"mAP": 0.325, "AP1": 0.1, "AP2": 0.4, "APr": 0.1, "APc": 0.4}
    assert {name: summary[name] for name in expected} == pytest.approx(expected)
    counts = {"mAP": 4, "AP1": 1, "AP2": 3, "AP3": 0, "APr": 1, "APc": 3, "APf": 0}
    assert {name: summary[f"{name}_classes"] for name in counts} == counts
    assert math.isnan(summary["AP3"]) and math.isnan(summary["APf"])
    assert len(summary) == 14


@pytest.mark.parametrize("seed", range(20))
def test_map_is_the_mean_of_its_groups_weighted_by_their_classes(seed):
    rng = np.random.default_rng(seed)
    counts = np.round(10 ** rng.uniform(0, 4, rng.integers(1, 60))).astype(int)
    categories = table(counts, rng.choice(list("rcf"), len(counts)).tolist(), (10, 100, 1000))
    values = np.where(rng.random(len(counts)) < 0.2, np.nan, rng.random(len(counts)))
    # A background row changes nothing.
    summary = AP.summary(ap_frame(np.append(values, np.nan)), categories)
    for keys in ("1234", "rcf"):
        parts = [(summary[f"AP{k}"], summary[f"AP{k}_classes"]) for k in keys if summary[f"AP{k}_classes"]]
        assert sum(n for _, n in parts) == summary["mAP_classes"]
        if parts:
            assert sum(ap * n for ap, n in parts) / summary["mAP_classes"] == pytest.approx(summary["mAP"])


def test_accuracy_of_proposals_and_of_classes_by_hand():
    categories = table([1, 2, 50, 60])
    per_label = pd.DataFrame(
        {"proposals": [10, 0, 4, 6, 80], "correct": [1, 0, 4, 0, 60]}, index=pd.RangeIndex(5, name="label")
    )
    summary = ACCURACY.summary(per_label.assign(accuracy=per_label["correct"] / per_label["proposals"]), categories)
    expected = {"ACC": 65 / 100, "ACC1": 1 / 10, "ACC2": 4 / 10, "ACC3": math.nan, "ACCbg": 60 / 80,
                "ACCmacro": (0.1 + 1 + 0) / 3, "ACCmacro1": 0.1, "ACCmacro2": 0.5, "ACCmacro3": math.nan}  # fmt: skip
    assert summary == pytest.approx(expected, nan_ok=True)


def test_proposal_recall_is_of_boxes():
    frame = pd.DataFrame({"proposal_recall": [1.0, 0.5, np.nan, 0.0, 0.5], "val_instances": [1, 4, 0, 3, 2]})
    summary = PROPOSAL_RECALL.summary(frame, table([3, 50, 4, 60, 5]))
    expected = {"REC": 4 / 10, "REC1": 2 / 3, "REC2": 2 / 7, "REC3": math.nan}
    assert summary == pytest.approx(expected, nan_ok=True)


def test_names_of_columns_are_those_of_the_files_on_disk():
    assert measures.columns(optional=False) == (
        "weight_norm", "bias", "val_instances", "ap", "ap50", "ap75", "recall", "proposals", "correct", "accuracy",
    )  # fmt: skip
    assert {"ap_fixed", "proposal_recall", "mean_score", "calibration_error"} <= set(measures.columns(optional=True))
    assert measures.of_column("ap50") is AP and measures.of_column("name") is None
    assert set(measures.PREFIXES) >= {"AP", "ACC", "REC", "ECE"}


def test_every_column_belongs_to_one_measure():
    names = [name for measure in measures.MEASURES for name in measure.columns]
    assert len(names) == len(set(names))
    for measure in measures.MEASURES:
        assert {means.column for means in measure.means} <= set(measure.columns)


def test_keys_of_other_detections_have_a_suffix():
    categories, values = table([3, 50]), pd.Series([0.2, 0.4])
    (fixed,), (masks,) = AP_FIXED.means, MASK_AP.means
    summary = fixed.summary(pd.DataFrame({"ap_fixed": values}), categories)
    assert list(summary) == [f"{key}_fixed" for key in ("mAP", "AP1", "AP2", "AP3", "APr", "APc", "APf")]
    assert summary["mAP_fixed"] == pytest.approx(0.3)
    summary = masks.summary(pd.DataFrame({"ap_mask": values}), categories)
    assert summary["AP2^m"] == 0.4 and summary["mAP_classes^m"] == 2 and len(summary) == 14


def test_groups_of_a_table_are_those_of_its_categories_without_the_empty_ones():
    categories = table([3, 9, 500], "rcc")
    means = Means("x", "X", by=("bin", "frequency"), background=True)
    everything = means.groups(categories)
    assert list(everything) == ["X", "X1", "X2", "X3", "Xr", "Xc", "Xf", "Xbg"]
    found = means.groups_in(categories.frame(background=True))
    assert list(found) == ["X", "X1", "X3", "Xr", "Xc", "Xbg"]
    assert {key: labels.tolist() for key, labels in found.items()} == {
        key: labels.tolist() for key, labels in everything.items() if len(labels)
    }


def test_a_new_measure_is_one_record():
    new = Measure(
        {"twice": "two boxes for one"}, needs=("detections",), compute=lambda evidence: {"twice": evidence.detections},
        means=(Means("twice", "TWO"),), pooled=lambda evidence: {"SUM": float(np.sum(evidence.detections))},
    )  # fmt: skip
    evidence = measures.Evidence(SimpleNamespace(categories=table([3, 50, 60])), detections=np.array([1.0, 2.0, 4.0]))
    frame, numbers = measures.measured([new], evidence)
    assert frame.index.tolist() == [0, 1, 2, 3] and frame.index.name == "label"
    assert frame["twice"].tolist()[:3] == [1, 2, 4] and math.isnan(frame["twice"][3])
    expected = {"TWO": 7 / 3, "TWO1": 1, "TWO2": 3, "TWO3": math.nan, "SUM": 7}
    assert numbers == pytest.approx(expected, nan_ok=True)
    with pytest.raises(ValueError, match="twice: expected detections, got none"):
        measures.measured([new], measures.Evidence(SimpleNamespace(categories=table([3]))))


@pytest.mark.parametrize("size", [60, 7, 1])
def test_logit_magnitude_and_deviation_by_loops_however_they_are_cut(size):
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(3, 2, (60, 5)).astype(np.float32))
    labels = torch.from_numpy(rng.choice([0, 3, 4], size=60))
    labels[0] = 2  # one alone; none is of class 1
    spread = LogitSpread(4)
    for start in range(0, 60, size):
        part = slice(start, start + size)
        spread.add(SimpleNamespace(logits=logits[part], labels=labels[part]))
    found = spread.columns()
    rows = list(zip(logits.double().tolist(), labels.tolist(), strict=True))
    for label in (0, 2, 3, 4):
        own = [row[label] for row, true in rows if true == label]
        others = [row[label] for row, true in rows if true not in (label, 4)]
        magnitude = np.mean(own) - np.mean(others)
        assert found["logit_magnitude"][label] == pytest.approx(magnitude)
        expected = np.std(own) / magnitude if len(own) > 1 else math.nan
        assert found["logit_rsd"][label] == pytest.approx(expected, nan_ok=True)
    assert math.isnan(found["logit_magnitude"][1]) and math.isnan(found["logit_rsd"][1])


def test_a_shift_of_a_classs_logits_changes_neither_and_a_scale_the_magnitude_alone():
    generator = torch.Generator().manual_seed(1)
    logits, labels = torch.randn(80, 4, generator=generator, dtype=torch.float64), torch.arange(80) % 4

    def measured(z):
        spread = LogitSpread(3)
        spread.add(SimpleNamespace(logits=z, labels=labels))
        return spread.columns()

    plain, moved = measured(logits), measured(3 * logits + torch.tensor([5.0, -2.0, 0.0, 1.0]))
    assert moved["logit_magnitude"] == pytest.approx(3 * plain["logit_magnitude"])
    assert moved["logit_rsd"] == pytest.approx(plain["logit_rsd"])
    absent = logits.clone()
    absent[:, 3] = math.nan  # sigmoids without a background
    assert math.isnan(measured(absent)["logit_magnitude"][3])
    assert measured(absent)["logit_magnitude"][:3] == pytest.approx(plain["logit_magnitude"][:3])
