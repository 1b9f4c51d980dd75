"""Classes without a train instance: a bin of their own, in no mean over bins or classes."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from imbalance_bench.categories import CategoryTable
from imbalance_bench.evaluation.bootstrap import mean_ap
from imbalance_bench.evaluation.grouping import bin_groups, frequency_groups
from imbalance_bench.evaluation.measures import ACCURACY, AP
from imbalance_bench.evaluation.per_category import COLUMNS
from imbalance_bench.evaluation.predictions import Predictions, destinations
from imbalance_bench.evaluation.views import accuracy_by_bin, ap_by_bin

TABLE = CategoryTable.from_arrays([0, 4, 2500, 0, 120])


def per_category(categories: CategoryTable) -> pd.DataFrame:
    """AP .1, .2, .. by label, ten proposals each of which label + 1 are right."""
    frame = categories.frame(background=True)
    values = np.arange(1, len(frame) + 1)
    frame = frame.assign(
        ap=values / 10, ap50=values / 10, ap75=values / 10, recall=values / 10, val_instances=3,
        proposals=10, correct=values,
    )  # fmt: skip
    frame.loc[frame.index[-1], ["ap", "ap50", "ap75", "recall"]] = np.nan
    return frame.reindex(columns=COLUMNS)


def test_their_bin_is_0_by_default() -> None:
    assert TABLE.bins.tolist() == [0, 1, 4, 0, 3]
    assert TABLE.bin_numbers == [0, 1, 2, 3, 4] and TABLE.binned_labels.tolist() == [1, 2, 4]
    assert TABLE.tail_labels == [1] and TABLE.head_labels == [2, 4]
    assert TABLE.bins_line.endswith("; 2 without training instances, in no bin and no mean over classes")
    together = replace(TABLE, untrained_in_bins=True)
    assert together.bins.tolist() == [1, 1, 4, 1, 3] and together.bin_numbers == [1, 2, 3, 4]
    assert together.tail_labels == [0, 1, 3] and together.head_labels == [2, 4]
    nothing_counted = CategoryTable.from_arrays([0, 0])
    assert nothing_counted.bins.tolist() == [1, 1]


def test_the_switch_is_read_from_a_file() -> None:
    content = {
        "images": [{"id": 1}],
        "annotations": [{"category_id": 1, "image_id": 1, "bbox": [0, 0, 2, 2]}],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
    }
    assert CategoryTable.from_annotations(content).bins.tolist() == [1, 0]
    assert CategoryTable.from_annotations({**content, "info": {"untrained_in_bins": True}}).bins.tolist() == [1, 1]


def test_groups() -> None:
    assert {key: labels.tolist() for key, labels in bin_groups(TABLE).items()} == {
        "0": [0, 3], "1": [1], "2": [], "3": [4], "4": [2],
    }  # fmt: skip
    assert {key: labels.tolist() for key, labels in frequency_groups(TABLE).items()} == {"r": [1], "c": [], "f": [2, 4]}


@pytest.mark.parametrize("apart", [True, False])
def test_means(apart: bool) -> None:
    categories = replace(TABLE, untrained_in_bins=not apart)
    frame = per_category(categories)
    overall = np.mean([0.2, 0.3, 0.5] if apart else [0.1, 0.2, 0.3, 0.4, 0.5])
    first = 0.2 if apart else np.mean([0.1, 0.2, 0.4])
    summary = AP.summary(frame, categories)
    assert (summary["mAP"], summary["AP1"]) == pytest.approx((overall, first))
    assert summary["APr"] == pytest.approx(first)
    assert (summary["mAP_classes"], summary["AP1_classes"]) == ((3, 1) if apart else (5, 3))
    views, draws = ap_by_bin(frame, resamples=10), mean_ap(frame["ap"].to_numpy()[None, :-1], categories).iloc[0]
    for key in ("mAP", "AP1", "APr", *(["AP0"] if apart else [])):
        assert views.loc[key, "ap"] == pytest.approx(summary[key]) == pytest.approx(draws[key])
    assert ("AP0" in summary) == ("AP0" in views.index) == apart
    if apart:
        assert summary["AP0"] == pytest.approx(np.mean([0.1, 0.4]))
    said = accuracy_by_bin(frame)
    right = [2, 3, 5, 6] if apart else [1, 2, 3, 4, 5, 6]
    assert said.loc["ACC", "correct"] == sum(right) and said.loc["ACC", "proposals"] == 10 * len(right)
    frame["accuracy"] = frame["correct"] / frame["proposals"]
    assert ACCURACY.summary(frame, categories)["ACC"] == pytest.approx(said.loc["ACC", "accuracy"])


def test_proposals_on_them_go_somewhere() -> None:
    labels, predicted = np.array([0, 0, 3, 1, 5, 2]), np.array([1, 5, 3, 0, 3, 2])
    said = Predictions(np.zeros(6, int), labels, predicted, np.ones(6, np.float32), 1)
    frame = destinations(said, TABLE)
    assert frame.index.tolist() == ["0", "1", "4", "background"]
    assert frame.loc["0", ["right", "bin 0", "bin 1", "background"]].tolist() == pytest.approx([1 / 3, 0, 1 / 3, 1 / 3])
    assert frame.loc["1", "bin 0"] == frame.loc["background", "bin 0"] == frame.loc["4", "right"] == 1
    assert frame.sum(axis=1).tolist() == pytest.approx([1, 1, 1, 1])
