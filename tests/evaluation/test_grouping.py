import math

import numpy as np
import pandas as pd
import pytest

from imbalance_bench.categories import CategoryTable
from imbalance_bench.evaluation.bootstrap import interval_over_classes
from imbalance_bench.evaluation.grouping import grouped, summarize_accuracy, summarize_ap, summarize_recall


def table(counts, frequencies=None, edges=(10, 100)):
    n = len(counts)
    letters = tuple(frequencies or "rcf" * n)[:n]
    ids, names, counts = np.arange(1, n + 1), tuple(map(str, range(n))), np.array(counts)
    return CategoryTable(ids, names, counts, counts, letters, edges)


def ap_frame(values):
    return pd.DataFrame({"ap": values}, index=pd.RangeIndex(len(values), name="label"))


def test_ap_by_hand_with_a_class_without_ground_truth_and_an_empty_bin():
    categories = table([3, 9, 50, 99, 20], "rrccc")
    summary = summarize_ap(ap_frame([0.1, np.nan, 0.4, 0.6, 0.2]), categories)
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
    summary = summarize_ap(ap_frame(np.append(values, np.nan)), categories)
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
    summary = summarize_accuracy(per_label.assign(accuracy=per_label["correct"] / per_label["proposals"]), categories)
    expected = {"ACC": 65 / 100, "ACC1": 1 / 10, "ACC2": 4 / 10, "ACC3": math.nan, "ACCbg": 60 / 80,
                "ACCmacro": (0.1 + 1 + 0) / 3, "ACCmacro1": 0.1, "ACCmacro2": 0.5, "ACCmacro3": math.nan}  # fmt: skip
    assert summary == pytest.approx(expected, nan_ok=True)


def test_interval_holds_the_mean_narrows_with_classes_and_repeats():
    rng = np.random.default_rng(0)
    few, many = rng.random(20), rng.random(2000)
    for values in (few, many):
        low, high = interval_over_classes(values, seed=1)
        assert low < values.mean() < high
        # Percentiles of the normal distribution that the mean tends to.
        spread = values.std() / math.sqrt(len(values))
        normal = (values.mean() - 1.96 * spread, values.mean() + 1.96 * spread)
        assert (low, high) == pytest.approx(normal, abs=spread / 5)
    assert interval_over_classes(few, seed=1) == interval_over_classes(np.append(few, np.nan), seed=1)
    assert interval_over_classes(few, seed=1) != interval_over_classes(few, seed=2)
    assert interval_over_classes(np.full(5, 0.3)) == pytest.approx((0.3, 0.3))
    assert all(math.isnan(bound) for bound in interval_over_classes(np.array([np.nan])))


def test_a_rate_is_weighted_by_what_it_counts():
    measure = pd.Series([0.5, 1.0, np.nan, 0.0])
    groups = {"all": np.arange(4), "some": np.array([0, 1]), "none": np.array([2])}
    assert grouped(measure, groups) == pytest.approx({"all": 0.5, "some": 0.75, "none": np.nan}, nan_ok=True)
    weighted = grouped(measure, groups, pd.Series([2, 1, 0, 1]))
    assert weighted == pytest.approx({"all": 0.5, "some": 2 / 3, "none": np.nan}, nan_ok=True)
    assert np.isnan(grouped(measure, {"all": np.arange(4)}, pd.Series(0, index=range(4)))["all"])


def test_proposal_recall_is_of_boxes():
    frame = pd.DataFrame({"proposal_recall": [1.0, 0.5, np.nan, 0.0, 0.5], "val_instances": [1, 4, 0, 3, 2]})
    summary = summarize_recall(frame, table([3, 50, 4, 60, 5]))
    expected = {"REC": 4 / 10, "REC1": 2 / 3, "REC2": 2 / 7, "REC3": math.nan}
    assert summary == pytest.approx(expected, nan_ok=True)
