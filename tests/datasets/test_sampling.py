"""Repeat factors against the formula by hand, and the sampler's expectation."""

import math

import numpy as np

from imbalance_bench.datasets.sampling import RepeatFactorSampler, repeat_factors

# Class 0 is in all of 1000 images, class 1 in 4 of them, class 2 in one.
LABELS = [np.array([0, 1, 2])] + [np.array([0, 1])] * 3 + [np.array([0])] * 996


def test_factors_by_hand() -> None:
    factors = repeat_factors(LABELS, 3, threshold=0.01)
    assert math.isclose(factors[0], math.sqrt(0.01 / 0.001))
    assert math.isclose(factors[1], math.sqrt(0.01 / 0.004))
    assert np.all(factors[4:] == 1)
    assert repeat_factors(LABELS, 3, threshold=0.01, ceil=True)[:2].tolist() == [1 + 4, 1 + 2]


def test_an_image_without_a_label_is_not_repeated() -> None:
    assert repeat_factors([np.array([0]), np.array([], dtype=int)], 1).tolist() == [1, 1]


def test_sampler_repeats_on_average_and_by_seed() -> None:
    factors = np.array([1.0, 2.5, 1.25, 3.0, 1.25])
    sampler = RepeatFactorSampler(factors, seed=3)
    counts = np.zeros(5)
    for epoch in range(2000):
        sampler.set_epoch(epoch)
        indices = list(sampler)
        assert len(indices) == len(sampler) == 9
        counts += np.bincount(indices, minlength=5)
    assert np.allclose(counts / 2000, factors, atol=0.12)
    again = RepeatFactorSampler(factors, seed=3)
    again.set_epoch(1999)
    assert list(again) == indices
    other = RepeatFactorSampler(factors, seed=4)
    other.set_epoch(1999)
    assert list(other) != indices


def test_whole_factors_are_exact() -> None:
    sampler = RepeatFactorSampler(np.array([1.0, 2.0, 3.0]), seed=0)
    assert np.bincount(list(sampler)).tolist() == [1, 2, 3]
