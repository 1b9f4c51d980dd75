"""Every method of ``methods.recent``, from the catalogue, against a slow version of its authors' definition."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from imbalance_bench import methods
from imbalance_bench.categories import CategoryTable
from imbalance_bench.classifiers import (
    H2TClassifier,
    IsotonicClassifier,
    LinearClassifier,
    LOSClassifier,
    RepairClassifier,
    SoftmaxClassifier,
    inverse_image_frequency,
)
from imbalance_bench.datasets.sampling import IMAGE_FACTORS, lvis_threshold, repeat_factors
from imbalance_bench.methods import METHODS, recent
from imbalance_bench.runtime.errors import InputError

C, DIM, IMAGES = 4, 6, 900
INSTANCES = np.array([2000, 120, 7, 1])
HOLDING = np.array([600, 90, 7, 1])
CATEGORIES = CategoryTable(np.arange(1, C + 1), tuple("abcd"), HOLDING, INSTANCES, tuple("ffrr"), num_images=IMAGES)
COMPARED = {"iif", "iif-post", "los", "h2t", "repair", "isotonic"}


@pytest.fixture
def base() -> LinearClassifier:
    torch.manual_seed(0)
    classifier = SoftmaxClassifier(C, DIM)
    for parameter in classifier.parameters():
        torch.nn.init.normal_(parameter)
    return classifier


def drawn(rows: int = 60) -> tuple[Tensor, Tensor]:
    """Features and labels: every class comes, and a third of the RoIs is background."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.tensor([0, 0, 0, 1, 1, 2, 3, C, C, C])[torch.randint(10, (rows,), generator=generator)]
    return torch.randn(rows, DIM, generator=generator), labels


def made(run: str, base: LinearClassifier) -> LinearClassifier:
    parsed = methods.parse(run)
    torch.manual_seed(3)
    built = parsed.method.build(CATEGORIES, {"fc": DIM}, base, **parsed.arguments)
    assert isinstance(built, LinearClassifier)
    return built


def softmax(row: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp(row - row.max()) / np.exp(row - row.max()).sum())


def test_every_recent_method_is_compared() -> None:
    assert {method.name for method in recent.METHODS} == COMPARED


# IIF: instance_segmentation/mmdet/models/losses/iif_loss.py and lvis_files/idf_1204.csv of kostas1515/iif


def test_factors_are_those_of_the_authors_file() -> None:
    """Of the first three classes of LVIS v1, which have 100,170 training images."""
    held = [64, 364, 1911]
    raw = [7.355740938246138, 5.6174701539690695, 3.959242077365537]
    smooth = [8.340246734689194, 6.614736651002339, 4.958728910973484]
    base10 = [3.194557699790146, 2.439636290124977, 1.7194769867190203]
    assert inverse_image_frequency(held, 100_170) == pytest.approx([*raw, 1.0])
    assert inverse_image_frequency(held, 100_170, smooth=True) == pytest.approx([*smooth, 1.0])
    assert inverse_image_frequency(held, 100_170, base=10) == pytest.approx([*base10, 1.0])


FACTORS = {
    "raw": [math.log(IMAGES / m) for m in HOLDING] + [1.0],
    "smooth": [math.log((IMAGES + 1) / (m + 1)) + 1 for m in HOLDING] + [1.0],
}


@pytest.mark.parametrize("variant", FACTORS)
def test_iif(variant: str, base: LinearClassifier) -> None:
    classifier, (x, y) = made(f"iif:{variant}", base), drawn()
    assert torch.all(classifier.weight == 0.001) and torch.all(classifier.bias == 0)
    with torch.no_grad():
        classifier.weight.copy_(base.weight)
        classifier.bias.copy_(base.bias)
    logits = classifier(x)
    expected = [
        [f * z for f, z in zip(FACTORS[variant], row, strict=True)] for row in base(x).detach().double().tolist()
    ]
    np.testing.assert_allclose(logits.detach(), expected, rtol=1e-4, atol=1e-5)
    scores = np.array([softmax(np.array(row)) for row in expected])
    np.testing.assert_allclose(classifier.scores(logits).detach(), scores, atol=1e-5)
    loss = classifier.loss(logits, y)["loss_cls"]
    assert float(loss.detach()) == pytest.approx(np.mean([-math.log(p[own]) for p, own in zip(scores, y, strict=True)]))
    loss.backward()
    slope = np.zeros(C + 1)
    for p, own in zip(scores, y, strict=True):
        slope += np.array(FACTORS[variant]) * (p - np.eye(C + 1)[own]) / len(y)
    np.testing.assert_allclose(classifier.bias.grad, slope, atol=1e-5)


@pytest.mark.parametrize("variant", FACTORS)
def test_iif_post_hoc_scores_as_the_trained_logits_times_the_factors(variant: str, base: LinearClassifier) -> None:
    classifier, (x, _) = made(f"iif-post:{variant}", base), drawn()
    expected = [softmax(np.array(FACTORS[variant]) * row) for row in base(x).detach().double().numpy()]
    np.testing.assert_allclose(classifier.scores(classifier(x)).detach(), expected, atol=1e-5)
    assert METHODS["iif-post"].default.variant == "smooth"


def test_a_class_that_every_image_holds() -> None:
    assert inverse_image_frequency([10, 0], 10) == pytest.approx([0.0, math.log(10), 1.0])
    assert min(inverse_image_frequency([10, 5], 10, smooth=True)) == pytest.approx(1.0)


# LOS: main_stage2.py of bilibili/LOS


def test_los(base: LinearClassifier) -> None:
    classifier, (x, y) = made("los", base), drawn()
    assert isinstance(classifier, LOSClassifier) and torch.equal(classifier.weight, base.weight)
    total = 0.0
    for row, own in zip(base(x).detach().double().numpy(), y.tolist(), strict=True):
        p = softmax(row)
        total -= sum((0.02 * (c == own) + 0.98 / (C + 1)) * math.log(p[c]) for c in range(C + 1))
    assert float(classifier.loss(classifier(x), y)["loss_cls"].detach()) == pytest.approx(total / len(y), rel=1e-5)
    each = classifier.loss(classifier(x), y, "none")["loss_cls"]
    assert each.shape == (len(y),) and float(each.mean().detach()) == pytest.approx(total / len(y), rel=1e-5)
    plain = made("los:smoothing=0", base).loss(base(x), y)["loss_cls"]
    torch.testing.assert_close(plain, base.loss(base(x), y)["loss_cls"])
    with pytest.raises(ValueError, match="smoothing from 0 to 1"):
        LOSClassifier(2, 2, 1.5)


# H2T: methods.py and train_stage2.py of Keke921/H2T


def test_h2t(base: LinearClassifier, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier, (x, y) = made("h2t:rho=0.5", base).train(), drawn()
    assert isinstance(classifier, H2TClassifier) and torch.equal(classifier.weight, base.weight)
    classifier.fit([drawn(30)])
    found: list[tuple[Tensor, Tensor]] = []
    original = classifier.drawn
    monkeypatch.setattr(classifier, "drawn", lambda: found.append(original()) or found[-1])
    loss = float(classifier.loss(classifier(x), y)["loss_cls"].detach())
    fused, labels = found[0]
    stored = {c: classifier.memory.features[c, : classifier.memory.filled[c]].float() for c in range(C)}
    exchanged = None
    for row, own, roi in zip(fused, labels.tolist(), x, strict=True):
        taken = [j for j in range(DIM) if bool(row[j] == roi[j])]
        kept = [j for j in range(DIM) if j not in taken]
        assert len(taken) == DIM // 2
        assert exchanged in (None, taken), "the same numbers in the whole batch"
        exchanged = taken
        assert (stored[own][:, kept] == row[kept]).all(dim=1).any(), "the rest is of a stored feature of its class"
    total = 0.0
    for row, roi, own, own_fused in zip(fused, x, y.tolist(), labels.tolist(), strict=True):
        feature, label = (roi, C) if own == C else (row, own_fused)
        total -= math.log(softmax((base.weight @ feature + base.bias).detach().double().numpy())[label])
    assert loss == pytest.approx(total / len(y), rel=1e-4)


def test_h2t_draws_classes_equally_often_and_none_without_a_feature() -> None:
    torch.manual_seed(0)
    classifier = H2TClassifier(3, 2).train()
    classifier.fit([(torch.randn(101, 2), torch.tensor([0] * 100 + [2]))])
    classifier(torch.randn(4000, 2))
    _, labels = classifier.drawn()
    np.testing.assert_allclose(np.bincount(labels, minlength=3) / 4000, [0.5, 0, 0.5], atol=0.03)
    empty = H2TClassifier(3, 2).train()
    background = torch.full((5,), 3)
    found = empty.loss(empty(torch.ones(5, 2)), background)["loss_cls"]
    torch.testing.assert_close(found, SoftmaxClassifier.loss(empty, empty(torch.ones(5, 2)), background)["loss_cls"])
    with pytest.raises(InputError, match="cannot be weighed"):
        empty.loss(empty(torch.ones(5, 2)), background, "none")


def test_h2t_draws_nothing_in_evaluation(base: LinearClassifier) -> None:
    classifier, (x, y) = made("h2t", base).eval(), drawn()
    torch.testing.assert_close(classifier.loss(classifier(x), y), base.loss(base(x), y))
    torch.testing.assert_close(classifier.scores(classifier(x)), base.scores(base(x)))


# REPAIR: repair/core.py of WGLab/REPAIR, pair by pair, with its four features


def features_of_pairs(logits: list[float], labels: list[int]) -> np.ndarray:
    """(k, k, 4): gap, gap in rank, log ratio of probabilities within the shortlist, log ratio of counts."""
    k = len(logits)
    ranks = np.empty(k)
    ranks[np.argsort(-np.array(logits))] = np.arange(k)
    p = softmax(np.array(logits))
    found = np.zeros((k, k, 4))
    for y in range(k):
        for j in range(k):
            if y != j:
                counts = math.log((INSTANCES[labels[y]] + 1) / (INSTANCES[labels[j]] + 1))
                found[y, j] = logits[y] - logits[j], ranks[j] - ranks[y], math.log(p[y] / p[j]), counts
    return found


@pytest.mark.parametrize(("tau", "rare"), [(0.0, 0.3), (1.0, 0.0)])
def test_repair(tau: float, rare: float, base: LinearClassifier) -> None:
    k = 3
    classifier, (x, y) = made(f"repair:rare={rare},shortlist={k},tau={tau}", base), drawn(200)
    assert isinstance(classifier, RepairClassifier)
    classifier.fit([(x[:70], y[:70]), (x[70:], y[70:])])
    prior = INSTANCES / INSTANCES.sum()
    cases = []
    for row, own in zip(base(x).detach().double().numpy(), y.tolist(), strict=True):
        best = sorted(range(C), key=lambda c: -row[c])[:k]
        logits = [row[c] - tau * math.log(prior[c]) for c in best]
        cases.append((row, best, logits, features_of_pairs(logits, best), own))
    fitted = [case for case in cases if case[4] in case[1]]
    assert 50 < len(fitted) < sum(case[4] < C for case in cases), "some lie beyond their shortlist"
    rarity = np.array([1 / math.sqrt(INSTANCES[own] + 1) for *_, own in fitted])
    weights = (1 - rare) / len(fitted) + rare * rarity / rarity.sum()

    def ordered(case: tuple, a: np.ndarray, theta: np.ndarray) -> np.ndarray:
        _, best, logits, pairs, _ = case
        rivals = [sum(theta @ pairs[i, j] for j in range(k) if j != i) / (k - 1) for i in range(k)]
        return softmax(np.array([logits[i] + a[best[i]] + rivals[i] for i in range(k)]))

    def objective(values: np.ndarray) -> float:
        a, theta = values[:C], values[C:]
        losses = [-math.log(ordered(case, a, theta)[case[1].index(case[4])]) for case in fitted]
        return float(weights @ losses + 1e-3 * (values**2).sum())

    best = minimize(objective, np.zeros(C + 4), method="L-BFGS-B", options={"maxiter": 300, "ftol": 1e-11})
    np.testing.assert_allclose(classifier.offsets, best.x[:C], atol=2e-3)
    gap, rank, ratio, count = best.x[C:]
    np.testing.assert_allclose(classifier.theta, [gap + ratio, rank, count], atol=2e-3)
    scores = classifier.scores(classifier(x)).detach().numpy()
    for case, found in zip(cases, scores, strict=True):
        row, shortlist, *_ = case
        expected = softmax(row)
        expected[shortlist] = expected[shortlist].sum() * ordered(case, best.x[:C], best.x[C:])
        np.testing.assert_allclose(found, expected, atol=2e-3)


def test_repair_of_no_foreground_and_of_few_classes(base: LinearClassifier) -> None:
    classifier, (x, _) = made("repair", base), drawn()
    classifier.fit([(x, torch.full((len(x),), C))])
    torch.testing.assert_close(classifier.scores(classifier(x)), base.scores(base(x)))
    classifier.fit([])
    one = RepairClassifier(1, 2, [5])
    one.fit([(torch.randn(9, 2), torch.tensor([0, 1, 0] * 3))])
    assert one.scores(one(torch.randn(4, 2))).isfinite().all()
    with pytest.raises(ValueError, match="shortlist >= 2"):
        RepairClassifier(2, 2, [5, 1], shortlist=1)


def test_repair_fits_to_as_many_rois_as_it_keeps(base: LinearClassifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RepairClassifier, "MOST", 30)
    classifier, (x, y) = made("repair", base), drawn(400)
    asked: list[int] = []
    original = classifier._solved  # type: ignore[operator]
    monkeypatch.setattr(classifier, "_solved", lambda f, z, at: asked.append(len(f)) or original(f, z, at))
    classifier.fit([(x[start : start + 40], y[start : start + 40]) for start in range(0, 400, 40)])
    assert asked == [30] and bool(classifier.offsets.any())


# Isotonic regression of each class


def monotone(values: list[float], weights: list[float]) -> list[float]:
    """Pool adjacent violators, step by step."""
    blocks = [[value, weight, 1] for value, weight in zip(values, weights, strict=True)]
    at = 0
    while at < len(blocks) - 1:
        (v, w, n), (u, z, m) = blocks[at], blocks[at + 1]
        if v <= u:
            at += 1
            continue
        blocks[at : at + 2] = [[(v * w + u * z) / (w + z), w + z, n + m]]
        at = max(at - 1, 0)
    return [value for value, _, number in blocks for _ in range(int(number))]


def test_isotonic(base: LinearClassifier) -> None:
    classifier, (x, y) = made("isotonic", base), drawn(800)
    assert isinstance(classifier, IsotonicClassifier)
    y[y == 3] = 2  # no RoI is of class 3
    torch.testing.assert_close(classifier.scores(classifier(x)), base.scores(base(x)), atol=2e-4, rtol=1e-2)
    classifier.fit([(x[:300], y[:300]), (x[300:], y[300:])])
    plain = base.scores(base(x)).detach().double().numpy()
    found = classifier.scores(classifier(x)).detach().double().numpy()
    np.testing.assert_allclose(found[:, 3:], plain[:, 3:], atol=2e-4, rtol=1e-2)
    np.testing.assert_allclose(found[:, -1], plain[:, -1], atol=1e-6)
    for label in range(3):
        cell = [min(max(round((math.log(p / (1 - p)) + 12) / 0.1 - 0.5), 0), 239) for p in plain[:, label]]
        known = sorted(set(cell))
        rows = [[int(own) == label for own, c in zip(y, cell, strict=True) if c == place] for place in known]
        values = monotone([sum(row) / len(row) for row in rows], [len(row) for row in rows])
        for p, mapped in zip(plain[:, label], found[:, label], strict=True):
            place = min(max((math.log(p / (1 - p)) + 12) / 0.1 - 0.5, 0), 239)
            assert mapped == pytest.approx(0.999 * float(np.interp(place, known, values)) + 0.001 * p, abs=1e-4)
        order = np.argsort(plain[:, label], kind="stable")
        assert (np.diff(found[order, label]) > -1e-7).all(), "the order within a class stays"


# Instance-aware RFS


def test_irfs() -> None:
    rng = np.random.default_rng(0)
    boxes = [rng.poisson(2.0 * 0.5 ** np.arange(6)) for _ in range(400)]
    images = [np.flatnonzero(row) for row in boxes]
    instances = np.sum(boxes, axis=0)
    held = [sum(label in own for own in images) for label in range(6)]
    slow = []
    for own in images:
        factors = [1.0]
        for label in own:
            f_image, f_box = held[label] / 400, instances[label] / instances.sum()
            factors.append(max(1.0, math.sqrt(0.2 / math.sqrt(f_image * f_box))))
        slow.append(max(factors))
    np.testing.assert_allclose(repeat_factors(images, 6, 0.2, instances=instances), slow)
    table = CategoryTable(np.arange(1, 7), tuple("abcdef"), np.array(held), instances, tuple("ffccrr"), num_images=400)
    run = METHODS["irfs"].default
    factors = IMAGE_FACTORS[run.method.sampling](images, table, run.training_options)
    rfs = IMAGE_FACTORS["repeat-factor"](images, table, METHODS["rfs"].default.training_options)
    assert factors.mean() == pytest.approx(rfs.mean(), rel=1e-6), "as long an epoch as by RFS"
    assert not np.allclose(factors, rfs)
    t = lvis_threshold(images, 6, instances)
    np.testing.assert_allclose(factors, repeat_factors(images, 6, t, instances=instances))
    fixed = IMAGE_FACTORS[run.method.sampling](images, table, METHODS["irfs"].run("threshold=0.2").training_options)
    np.testing.assert_allclose(fixed, slow)
