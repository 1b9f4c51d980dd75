import math

import numpy as np
import pandas as pd
import pytest

from imbalance_bench.evaluation.bootstrap import interval_over_classes
from imbalance_bench.evaluation.grouping import grouped


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
