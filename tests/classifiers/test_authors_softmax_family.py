"""Softmax and post-hoc methods of the catalogue against slow versions written from their authors' papers and code."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from imbalance_bench.categories import CategoryTable
from imbalance_bench.classifiers import Classifier, LogNClassifier, SoftmaxClassifier
from imbalance_bench.methods import METHODS

C, D = 4, 6
INSTANCES, IMAGES_WITH, IMAGES = [1000, 30, 5, 0], [400, 20, 4, 0], 800
LABELS = torch.tensor([0, 1, 2, 3, 4, 4, 0, 0])


@pytest.fixture
def categories() -> CategoryTable:
    return CategoryTable(
        np.arange(1, 5), tuple("abcd"), np.array(IMAGES_WITH), np.array(INSTANCES), tuple("fcrr"), num_images=IMAGES
    )


@pytest.fixture
def base() -> SoftmaxClassifier:
    torch.manual_seed(0)
    classifier = SoftmaxClassifier(C, D)
    for parameter in classifier.parameters():
        torch.nn.init.normal_(parameter)
    return classifier


@pytest.fixture
def features() -> Tensor:
    return torch.randn(8, D, generator=torch.Generator().manual_seed(1))


def build(name: str, variant: str | None, categories: CategoryTable, base: SoftmaxClassifier, **extra: object):
    method = METHODS[name]
    return method.build(categories, {"fc": D}, base, **method.arguments(variant), **extra)


def logits_of(classifier: SoftmaxClassifier, features: Tensor) -> np.ndarray:
    """W h + b, row by row."""
    weight, bias = classifier.weight.detach().double().numpy(), classifier.bias.detach().double().numpy()
    return np.array([weight @ row + bias for row in features.double().numpy()])


def scores_of(classifier: Classifier, features: Tensor) -> np.ndarray:
    return classifier.eval().scores(classifier(features)).detach().double().numpy()


def softmax(row: np.ndarray) -> np.ndarray:
    powers = [math.exp(value) for value in row]
    return np.array(powers) / sum(powers)


def entropy(row: np.ndarray, label: int) -> float:
    return -math.log(softmax(row)[label])


def test_norcal_of_two_classes() -> None:
    """The released code by hand: exp(2) / 10, exp(3) / 1000, exp(2), normalised."""
    categories = CategoryTable(np.array([1, 2]), ("a", "b"), np.array([10, 1000]), np.array([10, 1000]), ("r", "f"))
    base = SoftmaxClassifier(2, 1)
    with torch.no_grad():
        base.weight.zero_()
        base.bias.copy_(torch.tensor([2.0, 3.0, 2.0]))
    found = scores_of(build_of_two("norcal", categories, base), torch.zeros(1, 1))[0]
    powers = [math.exp(2) / 10, math.exp(3) / 1000, math.exp(2)]
    assert found.tolist() == pytest.approx([power / sum(powers) for power in powers])
    assert found[0] == pytest.approx(0.0907, abs=5e-4)


def build_of_two(variant: str, categories: CategoryTable, base: SoftmaxClassifier) -> Classifier:
    method = METHODS["logit-adjust"]
    return method.build(categories, {"fc": 1}, base, **method.arguments(variant))


@pytest.mark.parametrize("variant", ["norcal", "gamma=0", "gamma=0.5", "instances", "class-balanced", "relative"])
def test_logit_adjustment(variant: str, categories: CategoryTable, base: SoftmaxClassifier, features: Tensor) -> None:
    counts = [max(n, 1) for n in (INSTANCES if variant == "instances" else IMAGES_WITH)]
    gamma = {"gamma=0": 0.0, "gamma=0.5": 0.5}.get(variant, 1.0)
    divisors = [n**gamma for n in counts]
    if variant == "class-balanced":
        divisors = [sum(0.999**i for i in range(n)) for n in counts]
    if variant == "relative":
        divisors = [n / (sum(counts) / C) for n in counts]
    found = scores_of(build("logit-adjust", variant, categories, base), features)
    for row, logits in zip(found, logits_of(base, features), strict=True):
        powers = [math.exp(z) / divisor for z, divisor in zip(logits, [*divisors, 1], strict=True)]
        np.testing.assert_allclose(row, np.array(powers) / sum(powers), rtol=1e-4)


@pytest.mark.parametrize(("power", "strength"), [(2.0, 1.0), (1.0, 0.5)])
def test_fracal(
    power: float, strength: float, categories: CategoryTable, base: SoftmaxClassifier, features: Tensor
) -> None:
    dimensions = np.array([2.0, 1.5, 1.2, 1.0])
    variant = f"power={power},strength={strength}"
    found = scores_of(build("fracal", variant, categories, base, dimensions=dimensions), features)
    for row, logits in zip(found, logits_of(base, features), strict=True):
        lowered = [z - strength * math.log10(C * max(n, 1) / IMAGES) for z, n in zip(logits, IMAGES_WITH, strict=False)]
        calibrated = softmax(np.array([*lowered, logits[-1]])) / np.array([*dimensions, 1.0]) ** power
        np.testing.assert_allclose(row, calibrated / calibrated.sum(), rtol=1e-4)


def test_fracal_counts_images_not_the_sum_of_its_classes() -> None:
    """Three classes an image: the foreground is log10(3) higher than with the sum of counts in the place of images."""
    counts = np.array([100, 100, 100])
    categories = CategoryTable(np.arange(3), tuple("abc"), counts, counts, tuple("ccc"), num_images=101)
    plain = SoftmaxClassifier(3, 2)
    classifier = METHODS["fracal"].build(categories, {"fc": 2}, plain, dimensions=np.ones(3))
    shift = (plain.bias - classifier.bias).detach()
    torch.testing.assert_close(shift, torch.tensor([np.log10(300 / 101)] * 3 + [0.0]).float())


def test_balanced_softmax(categories: CategoryTable, base: SoftmaxClassifier, features: Tensor) -> None:
    """The paper's: n_y exp(z_y) / sum n_j exp(z_j); background as a class of mean size."""
    counts = [max(n, 1) for n in INSTANCES]
    weights = [*counts, sum(counts) / C]
    classifier = build("balanced-softmax", "paper", categories, base)
    total = 0.0
    for row, label in zip(logits_of(base, features), LABELS.tolist(), strict=True):
        powers = [weight * math.exp(z) for weight, z in zip(weights, row, strict=True)]
        total -= math.log(powers[label] / sum(powers))
    assert float(classifier.loss(classifier(features), LABELS)["loss_cls"].detach()) == pytest.approx(
        total / 8, rel=1e-4
    )
    np.testing.assert_allclose(
        scores_of(classifier, features), [softmax(row) for row in logits_of(base, features)], rtol=1e-4
    )


def test_balanced_softmax_as_released(categories: CategoryTable, base: SoftmaxClassifier, features: Tensor) -> None:
    """Sigmoids; foreground RoIs alone are shifted, by the odds of the class's share of images."""
    classifier = build("balanced-softmax", "released", categories, base)
    logits = classifier(features)
    total = 0.0
    for row, label in zip(logits.detach().double().numpy(), LABELS.tolist(), strict=True):
        for c in range(C):
            share = max(IMAGES_WITH[c], 1) / IMAGES
            z = row[c] - math.log((1 - share) / share) if label < C else row[c]
            p = 1 / (1 + math.exp(-z))
            total -= math.log(p if c == label else 1 - p)
    assert float(classifier.loss(logits, LABELS)["loss_cls"].detach()) == pytest.approx(total / 8, rel=1e-4)
    expected = 1 / (1 + np.exp(-logits.detach().double().numpy()))
    np.testing.assert_allclose(scores_of(classifier, features)[:, :C], expected, rtol=1e-4)


def test_disalign(categories: CategoryTable, base: SoftmaxClassifier, features: Tensor) -> None:
    """Foreground alone is aligned; the loss is a weighted mean."""
    classifier = build("disalign", None, categories, base)
    np.testing.assert_allclose(
        scores_of(classifier, features), [softmax(row) for row in logits_of(base, features)], rtol=1e-4
    )
    for parameter in classifier.parameters():
        torch.nn.init.normal_(parameter)
    a, c, v, u = (parameter.detach().double().numpy() for parameter in classifier.parameters())
    assert len(a) == len(c) == C
    prior = np.array([max(n, 1) for n in INSTANCES]) / sum(max(n, 1) for n in INSTANCES)
    weights = [*(C * prior**-0.8 / (prior**-0.8).sum()), 1.0]
    logits = classifier(features)
    total = divisor = 0.0
    for row, h, z, label in zip(
        logits.detach().numpy(), features.double().numpy(), logits_of(base, features), LABELS.tolist(), strict=True
    ):
        s = 1 / (1 + math.exp(-(v[0] @ h + u[0])))
        aligned = np.array([*(s * (a[k] * z[k] + c[k]) + (1 - s) * z[k] for k in range(C)), z[C]])
        np.testing.assert_allclose(row, aligned, rtol=1e-4, atol=1e-4)
        total += weights[label] * entropy(aligned, label)
        divisor += weights[label]
    loss = classifier.loss(logits, LABELS)["loss_cls"]
    assert float(loss.detach()) == pytest.approx(total / divisor, rel=1e-4)
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in classifier.parameters())
    assert not any("frozen" in name for name, _ in classifier.named_parameters())


@pytest.mark.parametrize(("variant", "share"), [("released", 0.465), ("exact", 1.0), ("share=0.2", 0.2)])
def test_logn(variant: str, share: float, categories: CategoryTable, base: SoftmaxClassifier, features: Tensor) -> None:
    classifier = build("logn", variant, categories, base)
    batches = [(features[:3], LABELS[:3]), (features[3:], LABELS[3:])]
    classifier.fit(batches)
    logits = logits_of(base, features)
    mean = share * logits[:, :C].mean(axis=0)
    deviation = np.sqrt(share * logits[:, :C].var(axis=0) + (1 - share))
    expected = logits.copy()
    for label in range(C):
        expected[:, label] = (logits[:, label] - (mean[label] - mean.min())) / deviation[label]
    np.testing.assert_allclose(classifier.eval()(features).detach(), expected, rtol=1e-3, atol=1e-4)
    once = {name: value.clone() for name, value in classifier.state_dict().items()}
    classifier.fit(batches)
    classifier.scores(classifier(features))
    assert all(torch.equal(value, classifier.state_dict()[name]) for name, value in once.items())


def test_the_share_of_logn_is_that_of_its_moving_averages_on_lvis() -> None:
    left = 1.0
    for _ in range(-(-100_170 // 16)):
        left *= 1 - 1e-4
    assert LogNClassifier(C, D).share == pytest.approx(1 - left, abs=1e-3)


def cosines(classifier: SoftmaxClassifier, features: Tensor) -> np.ndarray:
    rows = classifier.weight.detach().double().numpy()
    return np.array(
        [[w @ h / (np.linalg.norm(w) * np.linalg.norm(h)) for w in rows] for h in features.double().numpy()]
    )


@pytest.mark.parametrize("name", ["ldam", "ldam-drw"])
def test_ldam(name: str, categories: CategoryTable, base: SoftmaxClassifier, features: Tensor) -> None:
    """30 (cos - margin of the own class), no bias; deferred, by effective numbers, as a weighted mean."""
    torch.manual_seed(3)
    classifier = build(name, None, categories, base)
    assert not classifier.bias.requires_grad
    assert classifier.bias.tolist() == [0.0] * (C + 1)
    margins = [max(n, 1) ** -0.25 for n in INSTANCES]
    margins = [*(0.5 * m / max(margins) for m in margins), 0.0]
    effective = [(1 - 0.9999) / (1 - 0.9999 ** max(n, 1)) for n in INSTANCES]
    late = [*(C * e / sum(effective) for e in effective), 1.0]
    table = cosines(classifier, features)
    np.testing.assert_allclose(classifier(features).detach(), 30 * table, rtol=1e-3, atol=1e-4)
    for epoch in range(12):
        classifier.begin_epoch(epoch / 12)
        weights = late if name == "ldam-drw" and epoch >= 8 else [1.0] * (C + 1)
        total = divisor = 0.0
        for row, label in zip(table, LABELS.tolist(), strict=True):
            total += weights[label] * entropy(30 * (row - np.eye(C + 1)[label] * margins[label]), label)
            divisor += weights[label]
        found = float(classifier.loss(classifier(features), LABELS)["loss_cls"].detach())
        assert found == pytest.approx(total / divisor, rel=1e-4)
    np.testing.assert_allclose(scores_of(classifier, features), [softmax(30 * row) for row in table], rtol=1e-3)


def test_cosine_and_crt(categories: CategoryTable, base: SoftmaxClassifier, features: Tensor) -> None:
    """Both start anew, cRT with a linear layer."""
    cosine, crt = build("cosine", None, categories, base), build("crt", None, categories, base)
    table = cosines(cosine, features)
    np.testing.assert_allclose(scores_of(cosine, features), [softmax(20 * row) for row in table], rtol=1e-3)
    assert METHODS["crt"].sampling == "class-balanced"
    rows = logits_of(crt, features)
    expected = np.mean([entropy(row, label) for row, label in zip(rows, LABELS.tolist(), strict=True)])
    assert float(crt.loss(crt(features), LABELS)["loss_cls"].detach()) == pytest.approx(expected, rel=1e-4)
    assert not torch.equal(crt.weight, base.weight)


def test_simcal(categories: CategoryTable, base: SoftmaxClassifier, features: Tensor) -> None:
    """Below 100 instances the new head's probability, else and for background the old one's."""
    classifier = build("simcal", None, categories, base)
    new, old = logits_of(classifier, features), logits_of(base, features)
    found = scores_of(classifier, features)
    for row, fresh, before in zip(found, new, old, strict=True):
        expected = [softmax(fresh)[c] if c < C and INSTANCES[c] < 100 else softmax(before)[c] for c in range(C + 1)]
        np.testing.assert_allclose(row, expected, rtol=1e-4)


def test_seesaw(categories: CategoryTable, base: SoftmaxClassifier, features: Tensor) -> None:
    """Two batches, counts taken in before the loss; the factors one by one."""
    classifier = build("seesaw", "cosine=0", categories, base).train()
    counts = [0.0] * C
    for part in (slice(0, 5), slice(3, 8)):
        logits = classifier(features[part])
        loss = classifier.loss(logits, LABELS[part])
        for label in LABELS[part].tolist():
            if label < C:
                counts[label] += 1
        total = objectness = 0.0
        for row, label in zip(logits.detach().double().numpy(), LABELS[part].tolist(), strict=True):
            objectness += entropy(row[C:], int(label == C))
            if label == C:
                continue
            sigma = softmax(row[:C])
            below = 0.0
            for j in range(C):
                mitigation = min(1.0, max(counts[j], 1) / max(counts[label], 1)) ** 0.8
                compensation = max(1.0, sigma[j] / max(sigma[label], 0.01)) ** 2
                below += math.exp(row[j]) * (1.0 if j == label else mitigation * compensation)
            total -= math.log(math.exp(row[label]) / below)
        assert float(loss["loss_cls"].detach()) == pytest.approx(total / 5, rel=1e-3)
        assert float(loss["loss_objectness"].detach()) == pytest.approx(objectness / 5, rel=1e-4)
    for row, found in zip(classifier(features).detach().double().numpy(), scores_of(classifier, features), strict=True):
        foreground = softmax(row[C:])[0]
        np.testing.assert_allclose(found, [*(softmax(row[:C]) * foreground), 1 - foreground], rtol=1e-4)


def test_lws(categories: CategoryTable, base: SoftmaxClassifier, features: Tensor) -> None:
    classifier = build("lws", None, categories, base)
    scale = torch.tensor([2.0, 1.0, 0.5, 1.0, 1.5])
    with torch.no_grad():
        classifier.scale.copy_(scale)
    assert [name for name, p in classifier.named_parameters() if p.requires_grad] == ["scale"]
    rows = [row * scale.double().numpy() for row in logits_of(base, features)]
    np.testing.assert_allclose(scores_of(classifier, features), [softmax(row) for row in rows], rtol=1e-4)
    expected = np.mean([entropy(row, label) for row, label in zip(rows, LABELS.tolist(), strict=True)])
    assert float(classifier.loss(classifier(features), LABELS)["loss_cls"].detach()) == pytest.approx(
        expected, rel=1e-4
    )
