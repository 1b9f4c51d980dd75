"""Classifiers that change the logits of a trained one, against slow versions."""

import numpy as np
import pytest
import torch
from torch import Tensor

from imbalance_bench.classifiers import (
    LogitTransformClassifier,
    LogNClassifier,
    SoftmaxClassifier,
    fractal_calibrated,
    fractal_dimensions,
    generalized_weights,
    log_prior,
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


def test_log_prior() -> None:
    expected = [0.5 * np.log(max(n, 1) / 259) for n in COUNTS]
    np.testing.assert_allclose(log_prior(COUNTS, 0.5), [*expected, 0])
    effective = [sum(0.9**i for i in range(max(n, 1))) for n in COUNTS]
    np.testing.assert_allclose(log_prior(COUNTS, 1.0, beta=0.9)[:-1], np.log(effective / np.mean(effective)))


@pytest.mark.parametrize("gamma", [0.0, 0.6, 1.0])
def test_logit_adjustment_is_norcal(gamma: float, base: SoftmaxClassifier, features: Tensor) -> None:
    """Exponentials divided by counts, normalised again with background's, one by one."""
    adjusted = logit_adjusted(base, COUNTS, gamma)
    scores = adjusted.scores(adjusted(features)).detach().numpy()
    for row, logits in zip(scores, base(features).detach().double().numpy(), strict=True):
        calibrated = [np.exp(z) / (max(n, 1) / 259) ** gamma for z, n in zip(logits, COUNTS, strict=False)]
        calibrated.append(np.exp(logits[-1]))
        np.testing.assert_allclose(row, np.array(calibrated) / sum(calibrated), rtol=1e-4)
    if gamma == 0:
        torch.testing.assert_close(adjusted.class_weights(), base.class_weights())
        torch.testing.assert_close(adjusted.class_biases(), base.class_biases())


def test_equal_counts_change_nothing(base: SoftmaxClassifier, features: Tensor) -> None:
    adjusted = logit_adjusted(base, [7, 7, 7, 7], 1.0)
    torch.testing.assert_close(adjusted(features), base(features))


def test_logn(base: SoftmaxClassifier, features: Tensor) -> None:
    logn = LogNClassifier(4, 6)
    logn.load_state_dict(base.state_dict())
    labels = torch.zeros(20, dtype=torch.long)
    logn.fit([(features[:7], labels[:7]), (features[7:], labels[7:])])
    logits = base(features).detach().double().numpy()
    mean, deviation = logits[:, :4].mean(axis=0), logits[:, :4].std(axis=0)
    expected = logits.copy()
    for label in range(4):
        expected[:, label] = (logits[:, label] - (mean[label] - mean.min())) / deviation[label]
    before = {name: value.clone() for name, value in logn.state_dict().items()}
    np.testing.assert_allclose(logn.eval()(features).detach(), expected, rtol=1e-3, atol=1e-4)
    logn.scores(logn(features))
    assert all(torch.equal(value, logn.state_dict()[name]) for name, value in before.items()), "scoring changes nothing"


def test_logn_of_no_proposals(base: SoftmaxClassifier) -> None:
    logn = LogNClassifier(4, 6)
    logn.load_state_dict(base.state_dict())
    logn.fit([])
    assert torch.equal(logn.weight, base.weight)


def test_transforms_start_as_the_trained_classifier(base: SoftmaxClassifier, features: Tensor) -> None:
    for options in ({}, {"shift": True, "gate": True}):
        classifier = LogitTransformClassifier.from_base(base, **options)
        torch.testing.assert_close(classifier(features), base(features))


def test_disalign(base: SoftmaxClassifier, features: Tensor) -> None:
    weights = generalized_weights(COUNTS, 0.8)
    prior = np.array([1000, 30, 5, 1]) / 1036
    np.testing.assert_allclose(weights[:-1], 4 * prior**-0.8 / (prior**-0.8).sum())
    assert weights[-1] == 1
    classifier = LogitTransformClassifier.from_base(base, shift=True, gate=True, loss_weights=weights)
    for parameter in classifier.parameters():
        torch.nn.init.normal_(parameter)
    a, c, v, u = (p.detach().double().numpy() for p in classifier.parameters())
    labels = torch.tensor([0, 1, 2, 3, 4] * 4)
    total = 0.0
    logits = classifier(features)
    for row, feature, label in zip(logits.detach(), features.double().numpy(), labels.tolist(), strict=True):
        z = base.weight.detach().double().numpy() @ feature + base.bias.detach().double().numpy()
        s = 1 / (1 + np.exp(-(v[0] @ feature + u[0])))
        expected = [s * (a[k] * z[k] + c[k]) + (1 - s) * z[k] for k in range(5)]
        np.testing.assert_allclose(row, expected, rtol=1e-4, atol=1e-4)
        total += weights[label] * (np.log(np.exp(expected).sum()) - expected[label])
    loss = classifier.loss(logits, labels)["loss_cls"]
    assert float(loss.detach()) == pytest.approx(total / 20, rel=1e-4)
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in classifier.parameters())
    assert not any("frozen" in name for name, _ in classifier.named_parameters())


def test_lws_trains_scales_alone(base: SoftmaxClassifier, features: Tensor) -> None:
    classifier = LogitTransformClassifier.from_base(base)
    assert [name for name, p in classifier.named_parameters() if p.requires_grad] == ["scale"]
    with torch.no_grad():
        classifier.scale.copy_(torch.tensor([2.0, 1, 1, 1, 1]))
    torch.testing.assert_close(classifier(features)[:, 0], 2 * base(features)[:, 0])
    torch.testing.assert_close(classifier.class_weights()[0], 2 * base.class_weights()[0])


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


def test_fractal_calibration(base: SoftmaxClassifier, features: Tensor) -> None:
    """As published: adjusted by log10, a softmax, divided by D^2, normalised again; one proposal at a time."""
    dimensions = np.array([2.0, 1.5, 1.2, 1.0])
    calibrated = fractal_calibrated(base, COUNTS, dimensions)
    images = np.maximum(COUNTS, 1)
    for logits, scores in zip(base(features).detach().numpy(), calibrated.scores(calibrated(features)), strict=True):
        adjusted = np.append(logits[:-1] - np.log10(images / images.mean()), logits[-1])
        probabilities = np.exp(adjusted) / np.exp(adjusted).sum() / np.append(dimensions, 1) ** 2
        np.testing.assert_allclose(scores.detach(), probabilities / probabilities.sum(), rtol=1e-4)
    same = fractal_calibrated(base, [7] * 4, np.ones(4))
    torch.testing.assert_close(same(features), base(features))
