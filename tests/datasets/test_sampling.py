"""Repeat factors against the formula by hand, and the sampler's expectation."""

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from mmengine.dataset import ClassBalancedDataset

from imbalance_bench.datasets import sampling
from imbalance_bench.datasets.sampling import (
    RepeatFactorSampler,
    class_balanced_factors,
    lvis_threshold,
    repeat_factors,
)

LVIS = Path(__file__).resolve().parents[1] / "data" / "lvis_v0.5_train_image_categories.npz"
# Class 0 is in all of 1000 images, class 1 in 4 of them, class 2 in one.
LABELS = [np.array([0, 1, 2])] + [np.array([0, 1])] * 3 + [np.array([0])] * 996


def test_factors_by_hand() -> None:
    factors = repeat_factors(LABELS, 3, threshold=0.01)
    assert math.isclose(factors[0], math.sqrt(0.01 / 0.001))
    assert math.isclose(factors[1], math.sqrt(0.01 / 0.004))
    assert np.all(factors[4:] == 1)


def test_the_released_code_adds_copies_to_images_of_rare_classes_alone() -> None:
    assert repeat_factors(LABELS, 3, threshold=0.01, ceil=True).tolist() == [1 + 4] + [1 + 2] * 3 + [1] * 996
    # One image of 10,000 holds a rare class: r = sqrt(.001 / .0001) = 3.16, four copies beside it.
    factors = repeat_factors([np.array([0, 1])] + [np.array([0])] * 9999, 2, ceil=True)
    sampler = RepeatFactorSampler(factors, seed=0)
    drawn = np.bincount(list(sampler))
    assert len(sampler) == drawn.sum() == 10_004
    assert drawn[0] == 5
    assert (drawn[1:] == 1).all()


def test_the_threshold_of_lvis() -> None:
    stored = np.load(LVIS)
    _, labels = np.unique(stored["category_id"], return_inverse=True)
    images = np.split(labels, stored["indptr"][1:-1])
    assert lvis_threshold(images, 1230) == pytest.approx(0.001, rel=1e-6)
    # Fewer images: a class's share is larger, and so is the threshold that repeats as much.
    fewer = images[:2000]
    threshold = lvis_threshold(fewer, 1230)
    assert threshold > 0.002
    assert repeat_factors(fewer, 1230, threshold).mean() == pytest.approx(repeat_factors(images, 1230).mean(), rel=1e-6)


def test_an_image_without_a_label_is_not_repeated() -> None:
    assert repeat_factors([np.array([0]), np.array([], dtype=int)], 1).tolist() == [1, 1]


def test_class_balanced_factors_are_draws_of_classes() -> None:
    factors = class_balanced_factors(LABELS, 4)
    generator, drawn = np.random.default_rng(0), np.zeros(len(LABELS))
    holding = [[i for i, labels in enumerate(LABELS) if label in labels] for label in range(3)]
    for label in generator.integers(3, size=30000):
        drawn[generator.choice(holding[label])] += 1
    np.testing.assert_allclose(factors[:4], drawn[:4] / 30000 * len(LABELS), rtol=0.05)
    assert factors.sum() == pytest.approx(len(LABELS))


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


class Images:
    """What mmengine's wrapper asks of a data set."""

    def __init__(self, labels: list[np.ndarray]) -> None:
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def get_cat_ids(self, index: int) -> list[int]:
        return self.labels[index].tolist()


def lvis_images() -> list[np.ndarray]:
    with np.load(LVIS) as archive:
        ids, starts = archive["category_id"], archive["indptr"]
    _, labels = np.unique(ids, return_inverse=True)
    return np.split(labels, starts[1:-1])


def test_on_the_images_of_lvis() -> None:
    images = lvis_images()
    assert len(images) == 56740
    factors = repeat_factors(images, 1230)
    share = np.bincount(np.concatenate(images), minlength=1230) / len(images)
    rng = np.random.default_rng(0)
    for index in rng.choice(len(images), 300, replace=False):
        slow = max([max(1.0, math.sqrt(0.001 / share[label])) for label in images[index]], default=1.0)
        assert math.isclose(factors[index], slow)
    # An image of a class that is in one image of 56,740 is repeated sqrt(.001 * 56740) = 7.53 times.
    assert math.isclose(factors.max(), math.sqrt(56.74))
    assert len(RepeatFactorSampler(repeat_factors(images, 1230, ceil=True), seed=0)) == 80_488
    # mmengine's wrapper has the same factors, but rounds every one of them up: its epochs are longer.
    wrapper = SimpleNamespace(dataset=Images(images))
    theirs = ClassBalancedDataset._get_repeat_factors(wrapper, wrapper.dataset, 0.001)
    assert np.allclose(theirs, factors)
    assert len(RepeatFactorSampler(factors, seed=0)) == round(factors.sum()) < np.ceil(factors).sum()


def test_processes_share_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    factors = np.random.default_rng(0).uniform(1, 3, 25)

    def drawn(rank: int, world: int) -> list[int]:
        monkeypatch.setattr(sampling, "get_dist_info", lambda: (rank, world))
        sampler = RepeatFactorSampler(factors, seed=3)
        sampler.set_epoch(2)
        images = list(sampler)
        assert len(images) == len(sampler)
        return images

    whole = drawn(0, 1)
    for world in (2, 3):
        shares = [drawn(rank, world) for rank in range(world)]
        assert len(set(map(len, shares))) == 1
        together = [image for turn in zip(*shares, strict=True) for image in turn]
        assert together[: len(whole)] == whole
        assert together[len(whole) :] == whole[: len(together) - len(whole)]
