"""Calibration against a loop over the predictions, by label, by group, and in parts."""

import numpy as np
import pytest

from imbalance_bench.evaluation.calibration import Calibration, calibration_error


def test_by_label_by_group_and_in_parts():
    rng = np.random.default_rng(0)
    predicted, confidence = rng.choice([0, 1, 3], 300), rng.random(300)
    correct = rng.random(300) < confidence**2
    whole, parts = Calibration(3, steps=5), Calibration(3, steps=5)
    whole.add(predicted, confidence, correct)
    for part in np.array_split(np.arange(300), 7):
        parts.add(predicted[part], confidence[part], correct[part])
    groups = {"a": np.array([0]), "b": np.array([1, 3]), "none": np.array([2])}
    curve = whole.curve(groups)
    assert parts.curve(groups)["proposals"].tolist() == curve["proposals"].tolist()
    assert "none" not in set(curve["group"])
    errors = calibration_error(curve)
    for name in ("a", "b"):
        own = np.isin(predicted, groups[name])
        expected = 0.0
        for step in range(5):
            inside = own & (confidence >= step / 5) & (confidence < (step + 1) / 5)
            expected += abs((confidence[inside] - correct[inside]).sum()) / own.sum()
        assert errors[name] == pytest.approx(expected)
    by_label = whole.error_by_label()
    assert by_label[0] == pytest.approx(errors["a"])
    assert np.isnan(by_label[2])


def test_of_scores_outside_the_unit_interval_the_last_steps_count():
    counts = Calibration(1)
    counts.add(np.array([0, 0, 1]), np.array([1.0, 1.7, -0.2]), np.array([True, True, False]))
    curve = counts.curve({"0": np.array([0]), "bg": np.array([1])})
    assert curve["low"].tolist() == [0.9, 0.0]
    assert counts.error_by_label() == pytest.approx([0.35, 0.2])


def test_an_interval_has_its_lower_end():
    """Guo et al. would count .5 with those below it, where it would make up for the right one of .45."""
    counts = Calibration(1)
    counts.add(np.array([0, 0]), np.array([0.5, 0.45]), np.array([False, True]))
    assert counts.curve({"0": np.array([0])})["low"].tolist() == [0.4, 0.5]
    assert counts.error_by_label()[0] == pytest.approx((0.55 + 0.5) / 2)
