"""Every variant of the paper's rows, built by its name, against a re-computation from its authors' definition.

The slow side knows numbers and lists alone, counts background as class 0 as the authors do, and takes nothing of ours.
"""

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch

from imbalance_bench.categories import CategoryTable
from imbalance_bench.classifiers import Classifier, SoftmaxClassifier
from imbalance_bench.datasets.sampling import repeat_factors
from imbalance_bench.methods import METHODS
from imbalance_bench.methods.record import Method

COUNTS = [700, 3, 10, 2000, 60, 9000, 7, 100, 20, 1000, 200, 5]
"""Training instances: each bin and each of 2, 4 and 8 groups has a class, the edges 5, 10, 100, 1000 among them."""
C, D, N = len(COUNTS), 6, 60
CATEGORIES = CategoryTable(np.arange(1, C + 1), tuple("abcdefghijkl"), np.array(COUNTS), np.array(COUNTS), ("f",) * C)
DIMS = {"fc": D, "fc_pre_relu": D, "conv": 10}

RNG = np.random.default_rng(0)
W, B = RNG.normal(size=(C + 1, D)), RNG.normal(size=C + 1)
W[0], B[0] = 1.5 * W[0], 2
"""The trained classifier (model 1), background first."""
TAPS = {"fc_pre_relu": 2 * RNG.normal(size=(N, D)), "conv": RNG.random((N, 10))}
TAPS["fc"] = np.maximum(TAPS["fc_pre_relu"], 0)
Y = np.concatenate([np.arange(1, C + 1), RNG.integers(1, C + 1, 12), np.zeros(N - C - 12, dtype=int)])
"""Labels; 0 is background."""
TRUTH_BOX = RNG.random(N) < 0.5
"""Which training RoIs are ground-truth boxes rather than proposals."""

Rows = list[list[float]]


def built(method: Method, variant: str) -> Classifier:
    """As the runs build it, on the trained classifier, and fitted to the training RoIs that its variant asks for."""
    base = SoftmaxClassifier(C, D).double()
    with torch.no_grad():
        base.weight.copy_(torch.tensor(np.roll(W, -1, axis=0)))
        base.bias.copy_(torch.tensor(np.roll(B, -1)))
    torch.manual_seed(3)
    run = method.run(variant)
    classifier = run.build(CATEGORIES, DIMS, base).double()
    chosen = TRUTH_BOX if run.fits_ground_truth else np.ones(N, dtype=bool)
    x, labels = features(classifier)[torch.tensor(chosen)], ours(Y[chosen])
    classifier.fit([(x[:20], labels[:20]), (x[20:], labels[20:])])
    return classifier


def features(classifier: Classifier) -> torch.Tensor:
    return torch.tensor(np.concatenate([TAPS[tap] for tap in classifier.taps], axis=1))


def ours(labels: np.ndarray) -> torch.Tensor:
    """Labels with background last."""
    return torch.tensor(np.where(labels == 0, C, labels - 1))


def linear(weight: np.ndarray, bias: np.ndarray, x: np.ndarray) -> Rows:
    rows = [(row.tolist(), float(b)) for row, b in zip(weight, bias, strict=True)]
    return [[sum(w * v for w, v in zip(row, f, strict=True)) + b for row, b in rows] for f in x.tolist()]


def softmax(z: list[float]) -> list[float]:
    e = [math.exp(v - max(z)) for v in z]
    return [v / sum(e) for v in e]


def best(values: list[float]) -> int:
    return max(range(len(values)), key=values.__getitem__)


def mean_entropy(scores: Rows, weights: list[float] | None = None) -> float:
    """Sum of the weighted losses over the number of RoIs."""
    return -sum((weights[y] if weights else 1) * math.log(p[y]) for p, y in zip(scores, Y, strict=True)) / N


# Rows 1, 2, 6 and 7: softmax, re-weighted by class.


def alphas(alpha: Callable[[int], float], low: float, high: float) -> list[float]:
    """Section 7.1.2: of background 1, of the others over their mean, between two caps."""
    values = [alpha(n) for n in COUNTS]
    mean = sum(values) / C
    return [1.0, *(min(max(value / mean, low), high) for value in values)]


def weighted(weights: list[float] | None) -> Callable[[Classifier], tuple[Rows, float]]:
    def slow(_: Classifier) -> tuple[Rows, float]:
        scores = [softmax(z) for z in linear(W, B, TAPS["fc"])]
        return scores, mean_entropy(scores, weights)

    return slow


REWEIGHT = {
    "paper": weighted(alphas(lambda n: 1 / n, 0.01, 5)),
    "released": weighted(alphas(lambda n: 1 / n, 0.1, 5)),
    "effective-number": weighted(alphas(lambda n: (1 - 0.999) / (1 - 0.999**n), 0.01, 5)),
}


# Rows 8 and 9: focal loss.


def focal_term(z: float, positive: bool) -> float:
    p = 1 / (1 + math.exp(-z))
    return -0.25 * (1 - p) ** 2 * math.log(p) if positive else -0.75 * p**2 * math.log(1 - p)


def focal(_: Classifier) -> tuple[Rows, float]:
    """One-hot targets over the classes, summed, over the number of foreground RoIs; each class starts as its odds."""
    logits = linear(W[1:] - W[0], B[1:] - B[0], TAPS["fc"])
    total = sum(focal_term(z, y == j) for row, y in zip(logits, Y, strict=True) for j, z in enumerate(row, start=1))
    scores = [[1 / (1 + math.exp(-z)) for z in row] for row in logits]
    return [[1 - max(row), *row] for row in scores], total / sum(Y > 0)


def focal_released(_: Classifier) -> tuple[Rows, float]:
    """An N x 1231 one-hot matrix given to an operator that reads N class ids from where it begins."""
    logits = linear(W, B, TAPS["fc"])
    flat = [int(column == y) for y in Y for column in range(C + 1)]
    total = 0.0
    for i, row in enumerate(logits):
        for d, z in enumerate(row):
            total += focal_term(z, flat[i] == d + 1)  # the operator's ids count from 1
    return [softmax(z) for z in logits], total / (N * (C + 1))


# Rows 10 and 11: nearest class mean.


def nearest_mean(tap: str, ground_truth: bool, scale: float) -> Callable[[Classifier], tuple[Rows, float]]:
    def slow(_: Classifier) -> tuple[Rows, float]:
        x, centres = TAPS[tap], []
        for label in range(1, C + 1):
            own = [x[i] for i in range(N) if Y[i] == label and (TRUTH_BOX[i] or not ground_truth)]
            centres.append(sum(own) / len(own) if own else np.zeros(x.shape[1]))
        scores = []
        for f, z in zip(x, linear(W, B, TAPS["fc"]), strict=True):
            lengths = [math.sqrt(sum(v * v for v in f)) * math.sqrt(sum(v * v for v in c)) for c in centres]
            cosines = [sum(f * c) / length if length else 0.0 for c, length in zip(centres, lengths, strict=True)]
            background = softmax(z)[0]
            scores.append([background, *(p * (1 - background) for p in softmax([scale * c for c in cosines]))])
        return scores, mean_entropy(scores)

    return slow


# Rows 12 and 13: tau-normalisation.


def tau_rows(background: bool) -> np.ndarray:
    rows = [row / math.sqrt(sum(v * v for v in row)) for row in W]
    return np.array(rows if background else [W[0], *rows[1:]])


def tau_norm(bias: bool) -> Callable[[Classifier], tuple[Rows, float]]:
    def slow(_: Classifier) -> tuple[Rows, float]:
        scores = [softmax(z) for z in linear(tau_rows(background=True), B * bias, TAPS["fc"])]
        return scores, mean_entropy(scores)

    return slow


def tau_norm_select(_: Classifier) -> tuple[Rows, float]:
    """What model 1 calls background keeps its scores, the rest has those of model 12."""
    (model12, _), (model1, _) = tau_norm(bias=True)(_), weighted(None)(_)
    scores = [own if best(own) == 0 else tau for own, tau in zip(model1, model12, strict=True)]
    assert 0 < sum(a is b for a, b in zip(scores, model1, strict=True)) < N
    return scores, mean_entropy(scores)


def tau_norm_select_released(_: Classifier) -> tuple[Rows, float]:
    """Background's row as it is; of the foreground only what a class with fewer than 100 instances is named for."""
    model1 = weighted(None)(_)[0]
    tau = [softmax(z) for z in linear(tau_rows(background=False), B, TAPS["fc"])]
    scores = []
    for own, other in zip(model1, tau, strict=True):
        named = 0 if best(own) == 0 else best(other)
        scores.append(other if named and COUNTS[named - 1] < 100 else own)
    assert 0 < sum(a is b for a, b in zip(scores, tau, strict=True)) < sum(best(own) > 0 for own in model1)
    return scores, mean_entropy(scores)


CASES = {
    **{
        f"{name}:paper": weighted(None) for name in ("baseline", "x2", "x2-cls", "finetune-tail", "rfs", "rfs-finetune")
    },
    "rfs:released": weighted(None),
    "rfs-finetune:released": weighted(None),
    **{f"reweight{scope}:{variant}": slow for scope in ("", "-cls") for variant, slow in REWEIGHT.items()},
    **{f"focal{scope}:fixed": focal for scope in ("", "-cls")},
    **{f"focal{scope}:released": focal_released for scope in ("", "-cls")},
    "ncm-fc:paper": nearest_mean("fc", False, 1),
    "ncm-fc:released": nearest_mean("fc_pre_relu", True, 1),
    "ncm-fc:fixed": nearest_mean("fc", False, 20),
    "ncm-conv:paper": nearest_mean("conv", False, 1),
    "ncm-conv:released": nearest_mean("conv", True, 1),
    "ncm-conv:fixed": nearest_mean("conv", False, 20),
    "tau-norm:paper": tau_norm(bias=True),
    "tau-norm:no-bias": tau_norm(bias=False),
    "tau-norm-select:paper": tau_norm_select,
    "tau-norm-select:released": tau_norm_select_released,
}


def test_no_variant_of_a_row_is_left_out() -> None:
    rows = [method for method in METHODS.values() if method.paper_row or method.name == "x2-cls"]
    every = {f"{method.name}:{variant}" for method in rows for variant in method.variants}
    assert every == {*CASES, "bags:released", "bags:paper"}


@pytest.mark.parametrize("run", CASES)
def test_scores_and_loss_are_the_authors(run: str) -> None:
    name, variant = run.split(":")
    classifier = built(METHODS[name], variant)
    logits = classifier(features(classifier))
    scores, loss = CASES[run](classifier)
    assert np.roll(classifier.scores(logits).detach().numpy(), 1, axis=1) == pytest.approx(np.array(scores), abs=1e-5)
    assert sum(classifier.loss(logits, ours(Y)).values()).item() == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("name", ["rfs", "rfs-finetune"])
def test_repeats_are_the_authors(name: str) -> None:
    """LVIS: max(1, sqrt(t / f_c)), the greatest of an image; as released, its ceiling in copies beside the image."""
    images = [np.flatnonzero(RNG.random(12) < 0.6 ** np.arange(12)) for _ in range(3000)]
    expected: dict[str, list[float]] = {"paper": [], "released": []}
    share = [sum(label in own for own in images) / len(images) for label in range(12)]
    for own in images:
        r = max([1.0, *(math.sqrt(0.02 / share[label]) for label in own)])
        expected["paper"].append(r)
        expected["released"].append(1 if r == 1 else 1 + math.ceil(r))
    for variant, repeats in expected.items():
        options = METHODS[name].run(variant).options
        assert options["threshold"] == "lvis"
        factors = repeat_factors(images, 12, 0.02, options["repeat"] == "ceil")
        assert factors.tolist() == pytest.approx(repeats)
    assert len(set(expected["released"])) > 2


# Row 14 and Tables 4 and 5: BAGS.

FOUR, TWO, EIGHT = (10, 100, 1000), (100,), (5, 10, 50, 100, 500, 1000, 5000)
BAGS = {  # lower bounds of groups 2, 3, ...; how background is scored; others; beta
    "bags:released": (FOUR, "softmax", True, 8),
    "bags:paper": (FOUR, "sigmoid", True, 8),
    "bags:background=false,others=false": (FOUR, "", False, 8),
    "bags:others=false": (FOUR, "softmax", False, 8),
    "bags:background=false": (FOUR, "", True, 8),
    "bags:groups=2": (TWO, "softmax", True, 8),
    "bags:groups=8": (EIGHT, "softmax", True, 8),
    **{f"bags:beta={beta}": (FOUR, "softmax", True, beta) for beta in (0, 0.5, 1, "n", "all")},
    "bags-head:paper": (FOUR, "softmax", True, 1),
    "bags-tune-head:paper": (FOUR, "softmax", True, 1),
    "bags-tune-all:paper": (FOUR, "softmax", True, 1),
}
BATCH = np.array([2, 12] + [8] * 5 + [4, 6, 10] * 10 + [0] * 163)
"""Of four groups the first has 2 RoIs, the second none, the third 5, the last 30; 163 are background."""


def bags(run: str) -> Classifier:
    name, variant = run.split(":")
    method = METHODS[name]
    start = built(METHODS["bags"], "beta=1") if method.starts_from.startswith("bags") else SoftmaxClassifier(C, D)
    torch.manual_seed(1)
    return method.run(variant).build(CATEGORIES, DIMS, start).double()


def members(bounds: tuple[int, ...]) -> list[list[int]]:
    """Classes of each group in ascending order, Eq. 3."""
    edges = [0, *bounds, math.inf]
    return [[label for label in range(1, C + 1) if low <= COUNTS[label - 1] < high] for low, high in pairwise(edges)]


@pytest.mark.parametrize("run", BAGS)
def test_bags_scores_are_the_authors(run: str) -> None:
    bounds, background, others, _ = BAGS[run]
    classifier = bags(run)
    logits = (300 * classifier(torch.tensor(TAPS["fc"]))).detach()
    assert logits.shape[1] == C + {"softmax": 2, "sigmoid": 1, "": 0}[background] + others * (len(bounds) + 1)
    expected = []
    for z in logits.tolist():
        scores, place, no_class = [0.0] * (C + 1), 0, 1.0
        foreground = 1.0
        if background == "softmax":
            (scores[0], foreground), place = softmax(z[:2]), 2
        elif background == "sigmoid":
            scores[0], place = 1 / (1 + math.exp(-z[0])), 1
            foreground = 1 - scores[0]
        for own in members(bounds):
            p = softmax(z[place : place + len(own) + others])
            place += len(p)
            no_class *= p[0]
            for label, value in zip(own, p[others:], strict=True):
                scores[label] = foreground * value
        if not background:  # Table 4 says nothing of it: where every group says others
            scores[0] = no_class if others else 0.0
        expected.append(scores)
    assert np.roll(classifier.scores(logits).numpy(), 1, axis=1) == pytest.approx(np.array(expected), abs=1e-12)


@pytest.mark.parametrize("run", BAGS)
def test_bags_losses_are_the_authors(run: str) -> None:
    """Which RoIs were drawn is seen from the gradient: only those that count in a group have one."""
    bounds, background, others, beta = BAGS[run]
    classifier, generator = bags(run), torch.Generator().manual_seed(0)
    logits = torch.randn(len(BATCH), len(classifier.weight), dtype=torch.float64, generator=generator)
    losses = classifier.loss(logits.requires_grad_(), ours(BATCH))
    place = {"softmax": 2, "sigmoid": 1, "": 0}[background]
    z = logits.tolist()
    if background == "softmax":
        terms = [-math.log(softmax(row[:2])[int(y > 0)]) for row, y in zip(z, BATCH, strict=True)]
    else:
        terms = [math.log1p(math.exp(row[0] if y > 0 else -row[0])) for row, y in zip(z, BATCH, strict=True)]
    if background:
        assert losses.pop("loss_bg").item() == pytest.approx(sum(terms) / len(BATCH), rel=1e-12)
    assert len(losses) == len(bounds) + 1
    for own, loss in zip(members(bounds), losses.values(), strict=True):
        width = len(own) + others
        (gradient,) = torch.autograd.grad(loss, logits, retain_graph=True)
        assert (gradient[:, :place] == 0).all() and (gradient[:, place + width :] == 0).all()
        counted = (gradient != 0).any(dim=1).numpy()
        foreground = np.isin(BATCH, own)
        if width > 1:  # a softmax over one class is sure of it
            assert counted[foreground].all(), "each of its own RoIs"
            assert counted.sum() == expected_count(int(foreground.sum()), others, beta)
        terms = [
            -math.log(softmax(z[i][place : place + width])[others + own.index(BATCH[i]) if foreground[i] else 0])
            for i in np.flatnonzero(counted)
        ]
        assert loss.item() == pytest.approx(sum(terms) / max(len(terms), 1), rel=1e-12)
        place += width


def expected_count(foreground: int, others: bool, beta: float | str) -> int:
    """RoIs that count in a group: its own, and of the others as many as section 4.3 and Figure 4 say."""
    if not others:
        return foreground
    if beta == "all":
        return len(BATCH)
    if foreground == 0:
        return 0
    drawn = len(BATCH) if beta == "n" else int(foreground * float(beta))
    return min(foreground + drawn, len(BATCH))
