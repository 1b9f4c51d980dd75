"""Classifiers that change the logits of a trained one; their formulas are in test_authors_softmax_family."""

import numpy as np
import pytest
import torch
from torch import Tensor

from imbalance_bench.classifiers import (
    LogitTransformClassifier,
    LogNClassifier,
    SoftmaxClassifier,
    fractal_dimensions,
    generalized_weights,
    log_counts,
    logit_adjusted,
)

COUNTS = [1000, 30, 5, 0]


@pytest.fixture
def base() -> SoftmaxClassifier:
    torch.manual_seed(0)
    classifier = SoftmaxClassifier(4, 6)
    for parameter in classifier.parameters():
        torch.nn.init.normal_(parameter)
    return classifier


@pytest.fixture
def features() -> Tensor:
    return torch.randn(20, 6, generator=torch.Generator().manual_seed(1))


def test_log_counts() -> None:
    numbers = np.maximum(COUNTS, 1)
    np.testing.assert_allclose(log_counts(COUNTS), [*np.log(numbers), 0])
    np.testing.assert_allclose(log_counts(COUNTS, 0.5, unit=None), [*(0.5 * np.log(numbers / 259)), 0])
    np.testing.assert_allclose(log_counts(COUNTS, unit=20), [*np.log(numbers / 20), 0])
    effective = [sum(0.9**i for i in range(n)) for n in numbers]
    np.testing.assert_allclose(log_counts(COUNTS, beta=0.9), [*np.log(effective), 0])


def test_equal_counts_change_nothing_relative_to_their_mean(base: SoftmaxClassifier, features: Tensor) -> None:
    adjusted = logit_adjusted(base, [7, 7, 7, 7], 1.0, relative=True)
    torch.testing.assert_close(adjusted(features), base(features))


def test_logn_of_no_proposals(base: SoftmaxClassifier, features: Tensor) -> None:
    for momentum in (0.0, 5e-5):
        logn = LogNClassifier(4, 6, momentum)
        logn.load_state_dict(base.state_dict(), strict=False)
        logn.fit([])
        torch.testing.assert_close(logn(features), base(features))


def test_transforms_start_as_the_trained_classifier(base: SoftmaxClassifier, features: Tensor) -> None:
    for options in ({}, {"shift": True, "gate": True}, {"shift": True, "gate": True, "background": False}):
        classifier = LogitTransformClassifier.from_base(base, **options)
        torch.testing.assert_close(classifier(features), base(features))


def test_generalized_weights_count_a_class_without_boxes_as_one() -> None:
    prior = np.array([1000, 30, 5, 1]) / 1036
    weights = generalized_weights(COUNTS, 0.8)
    np.testing.assert_allclose(weights, [*(4 * prior**-0.8 / (prior**-0.8).sum()), 1])


def test_only_background_and_extreme_logits(base: SoftmaxClassifier) -> None:
    classifier = LogitTransformClassifier.from_base(base, shift=True, gate=True)
    loss = classifier.loss(classifier(torch.randn(3, 6)), torch.full((3,), 4))["loss_cls"]
    loss.backward()
    assert loss.isfinite()
    extreme = torch.tensor([[6e4, -6e4, 0, 6e4, -6e4]], dtype=torch.float16)
    assert classifier.scores(extreme).isfinite().all()


def test_fractal_dimensions() -> None:
    generator = np.random.default_rng(0)
    plane, line, few = generator.random((4096, 2)), generator.random((4096, 2)), generator.random((3, 2))
    line[:, 1] = 0.3
    labels = np.repeat([0, 1, 2], [4096, 4096, 3])
    centres = np.concatenate([plane, line, few])
    dimensions = fractal_dimensions(labels, centres, 5, finest=16)
    assert dimensions[0] == pytest.approx(2, abs=0.02), "the plane"
    assert dimensions[1] == pytest.approx(1, abs=0.02), "a line"
    assert dimensions[2:].tolist() == [1, 1, 1], "too few, none, and none beyond the last label"
    assert fractal_dimensions(np.zeros(100, int), np.full((100, 2), 0.5), 1).tolist() == [1], "a place"
    # Cell by cell; the image's far edge belongs to the last cell.
    points = np.array([[0.1, 0.1], [0.6, 0.2], [0.6, 0.9], [1.0, 1.0], [0.2, 0.2], [0.3, 0.8], [0.9, 0.1], [0.5, 0.5],
                       [0.35, 0.4]])  # fmt: skip
    counted = []
    for grid in (1, 2, 3):
        hit = set()
        for x, y in points:
            hit.add((min(int(x * grid), grid - 1), min(int(y * grid), grid - 1)))
        counted.append(len(hit))
    slope = np.cov(np.log([1, 2, 3]), np.log(counted))[0, 1] / np.var(np.log([1, 2, 3]), ddof=1)
    assert fractal_dimensions(np.zeros(9, int), points, 1)[0] == pytest.approx(slope)
