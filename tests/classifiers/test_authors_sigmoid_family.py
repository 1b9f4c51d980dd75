"""Methods of the catalogue against slow ones written from their authors' code: loops over RoIs and columns, in float64.

Each is built as a run builds it, from a softmax baseline; compared are the weights it starts from, the losses of
training batches one after the other (state included), and the scores.
"""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from imbalance_bench import classifiers
from imbalance_bench.categories import CategoryTable
from imbalance_bench.classifiers import Classifier, SoftmaxClassifier
from imbalance_bench.methods import METHODS

C, D = 6, 5
IMAGES = np.array([400, 150, 101, 100, 9, 0])
TABLE = CategoryTable(np.arange(1, C + 1), tuple("abcdef"), IMAGES, 2 * IMAGES, tuple("ffccrr"))
TAIL = [False, False, False, True, True, True]  # in 100 images or fewer: LVIS's rare and common
Array = np.ndarray


def built(name: str, variant: str | None = None) -> tuple[Classifier, Array, Array]:
    """A method's classifier, and W and b (background last) of the baseline that it starts from."""
    torch.manual_seed(3)
    base = SoftmaxClassifier(C, D)
    torch.nn.init.normal_(base.weight)
    torch.nn.init.normal_(base.bias)
    classifier = METHODS[name].run(variant).build(TABLE, {"fc": D}, base)
    return classifier.train(), base.weight.detach().double().numpy(), base.bias.detach().double().numpy()


def batches(count: int = 3, rows: int = 160) -> list[tuple[Tensor, Tensor]]:
    """Features and labels; class 5 never comes, and three of four RoIs are background."""
    generator = torch.Generator().manual_seed(8)
    kinds = torch.tensor([0, 0, 1, 2, 3, 4] + [C] * 18)
    return [
        (torch.rand(rows, D, generator=generator), kinds[torch.randint(len(kinds), (rows,), generator=generator)])
        for _ in range(count)
    ]


def sigmoid(z: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-z)))


def softmax(z: Array) -> Array:
    return np.asarray(np.exp(z) / np.exp(z).sum(axis=-1, keepdims=True))


def entropy(p: float, positive: bool) -> float:
    return float(-np.log(p if positive else 1 - p))


# Where a method starts.


def odds(w: Array, b: Array, background: bool) -> tuple[Array, Array]:
    """Each class against background, and background against the mean of the classes: a choice of ours."""
    rows = [(w[j] - w[C], b[j] - b[C]) for j in range(C)]
    if background:
        rows.append((w[C] - sum(w[:C]) / C, b[C] - sum(b[:C]) / C))
    return np.array([row for row, _ in rows]), np.array([bias for _, bias in rows])


def alone(w: Array, b: Array) -> tuple[Array, Array]:
    return odds(w, b, background=False)


def beside_background(w: Array, b: Array) -> tuple[Array, Array]:
    return odds(w, b, background=True)


def as_it_is(w: Array, b: Array) -> tuple[Array, Array]:
    return w, b


def constant(w: Array, b: Array) -> tuple[Array, Array]:
    """GOL's configurations: ``Constant, val=.001, bias=-2`` of fc_cls."""
    return np.full((C, D), 0.001), np.full(C, -2.0)


# How it scores, background last.


def own_sigmoids(z: Array) -> Array:
    p = sigmoid(z)
    return np.column_stack([p, 1 - p.max(axis=1)]) if z.shape[1] == C else p


def times_foreground(z: Array) -> Array:
    p = sigmoid(z)
    return np.column_stack([p[:, :C] * (1 - p[:, C:]), p[:, C]])


def gumbel_scores(z: Array) -> Array:
    p = np.exp(-np.exp(-z))
    return np.column_stack([p, 1 - p.max(axis=1)])


# Losses: sums over a batch's RoIs and columns, divided by the RoIs. ``draws`` are the uniform numbers that were drawn.


class Plain:
    def loss(self, z: Array, y: list[int], draws: list[Array]) -> float:
        weights = self.weights(z, y, draws)
        return sum(
            weights[i][j] * self.term(z, y, i, j) for i in range(len(z)) for j in range(z.shape[1])
        ) / len(z)  # fmt: skip

    def weights(self, z: Array, y: list[int], draws: list[Array]) -> Array:
        return np.ones_like(z)

    def term(self, z: Array, y: list[int], i: int, j: int) -> float:
        return entropy(float(sigmoid(z[i, j])), y[i] == j)


class Gumbel(Plain):
    def term(self, z: Array, y: list[int], i: int, j: int) -> float:
        return entropy(float(np.exp(-np.exp(-np.clip(z[i, j], -4, 10)))), y[i] == j)


class EQL(Plain):
    def weights(self, z: Array, y: list[int], draws: list[Array]) -> Array:
        return np.array([[1 - (y[i] < C) * TAIL[j] * (y[i] != j) for j in range(C)] for i in range(len(z))])


class DropLoss(Plain):
    def weights(self, z: Array, y: list[int], draws: list[Array]) -> Array:
        foreground = [label for label in y if label < C]
        ratio = np.mean([TAIL[label] for label in foreground])
        spared = [[y[i] < C or draws[0][i, j] > ratio for j in range(C)] for i in range(len(z))]
        return np.array([[1 - spared[i][j] * TAIL[j] * (y[i] != j) for j in range(C)] for i in range(len(z))])


class EQLv2(Plain):
    def __init__(self) -> None:
        self.seen, self.positive, self.negative = False, np.zeros(C), np.zeros(C)

    def weights(self, z: Array, y: list[int], draws: list[Array]) -> Array:
        g = np.ones(C + 1)
        if self.seen:
            g[:C] = 1 / (1 + np.exp(-12 * (self.positive / (self.negative + 1e-10) - 0.8)))
        weights = np.array([[1 + 4 * (1 - g[j]) if y[i] == j else g[j] for j in range(C + 1)] for i in range(len(z))])
        p, self.seen = sigmoid(z), True
        for i in range(len(z)):
            for j in range(C):
                if y[i] == j:
                    self.positive[j] += weights[i, j] * (1 - p[i, j])
                else:
                    self.negative[j] += weights[i, j] * p[i, j]
        return weights


class ACSL(Plain):
    def weights(self, z: Array, y: list[int], draws: list[Array]) -> Array:
        weights = (sigmoid(z) >= 0.7).astype(float)
        background = [i for i in range(len(z)) if y[i] == C]
        weights[background] = 0
        for group, (letter, share) in enumerate((("r", 0.01), ("c", 0.1), ("f", 1.0))):
            drawn = sorted(background, key=lambda i, group=group: draws[0][i, group])[: int(share * len(background))]
            for i in drawn:
                weights[i, [j for j in range(C) if TABLE.frequencies[j] == letter]] = 1
        for i in range(len(z)):
            weights[i, y[i]] = 1
        return weights


class ECM(Plain):
    """As its authors write it, with two exponentials; only that a class without images counts one."""

    def __init__(self) -> None:
        n = np.maximum(IMAGES, 1).astype(float)
        self.n = np.append(n, 6.3313 * n.sum())

    def weights(self, z: Array, y: list[int], draws: list[Array]) -> Array:
        a = (self.n.sum() - self.n) / self.n
        return np.tile(a * np.log((1 + a) / a), (len(z), 1))

    def term(self, z: Array, y: list[int], i: int, j: int) -> float:
        own, rest = self.n[j] ** 0.25, (self.n.sum() - self.n[j]) ** 0.25
        pro = np.exp(z[i, j] - np.log(rest / (own + rest)))
        contra = np.exp(-z[i, j] - np.log(own / (own + rest)))
        return entropy(float(pro / (pro + contra)), y[i] == j)


class FCBL(Plain):
    def __init__(self, alpha: float = 0.85, threshold: float = 0.7) -> None:
        self.alpha, self.threshold = alpha, threshold
        self.sums, self.numbers = np.zeros((C, C)), np.zeros(C)

    def loss(self, z: Array, y: list[int], draws: list[Array]) -> float:
        total = super().loss(z, y, draws)
        for i, label in enumerate(y):
            if label < C:
                self.sums[label] += softmax(z[i, :C])
                self.numbers[label] += 1
        return total

    def confusion(self) -> Array:
        return np.asarray(self.sums / np.maximum(self.numbers, 1)[:, None])

    def weights(self, z: Array, y: list[int], draws: list[Array]) -> Array:
        weights, p = np.ones_like(z), times_foreground(z)
        for i, label in enumerate(y):
            for j in range(C) if label < C else ():
                weights[i, j] = p[i, j] >= p[i, label] or p[i, j] >= self.threshold
        return weights

    def term(self, z: Array, y: list[int], i: int, j: int) -> float:
        margin, cm = 0.0, self.confusion()
        if y[i] < C and j < C:
            margin = self.alpha * np.log(max(cm[y[i], j], 1e-3) / max(cm[j, y[i]], 1e-3))
        return entropy(float(sigmoid(z[i, j] + margin)), y[i] == j)


class ClassWeights(Plain):
    """``compute_class_weights`` and ``v8DetectionLoss`` of Ultralytics: (1 / n)^p, mean 1, on all terms of a class."""

    def __init__(self, power: float = 1.0) -> None:
        counts = [float(n) if n else 1.0 for n in 2 * IMAGES]
        raised = [(1 / n) ** power for n in counts]
        self.of_class = [w / (sum(raised) / C) for w in raised]

    def weights(self, z: Array, y: list[int], draws: list[Array]) -> Array:
        return np.array([self.of_class for _ in y])


class Equilibrium:
    """``boxes``: whose scores go into the mean of a class; the RoIs here, in LOCE drawn features as one beside them."""

    def __init__(self) -> None:
        self.means = np.full(C + 1, 0.01)

    def loss(self, z: Array, y: list[int], draws: list[Array], own: int | None = None) -> float:
        p = softmax(z)
        own = len(z) if own is None else own
        for label in sorted(set(y) - {C}):
            boxes = [p[i, label] for i in range(own) if y[i] == label]
            drawn = [p[i, label] for i in range(own, len(z)) if y[i] == label]
            boxes += [np.mean(drawn)] if drawn else []
            kept = 0.9 ** len(boxes)
            self.means[label] = kept * self.means[label] + (1 - kept) * np.mean(boxes)
        shifted = [self.means * np.exp(row) for row in z]
        return float(np.mean([-np.log(row[label] / row.sum()) for row, label in zip(shifted, y, strict=True)]))


AUTHORS: dict[str, tuple[Callable, Callable, Callable]] = {
    "bce": (Plain, alone, own_sigmoids),
    "bce:objectness": (Plain, beside_background, times_foreground),
    "bce:own": (Plain, beside_background, own_sigmoids),
    "cls-pw": (ClassWeights, alone, own_sigmoids),
    "cls-pw:power=0.25": (lambda: ClassWeights(0.25), alone, own_sigmoids),
    "gumbel": (Gumbel, constant, gumbel_scores),
    "eql": (EQL, alone, own_sigmoids),
    "droploss": (DropLoss, alone, own_sigmoids),
    "eqlv2": (EQLv2, beside_background, times_foreground),
    "acsl": (ACSL, as_it_is, own_sigmoids),
    "ecm": (ECM, beside_background, times_foreground),
    "bacl-fcbl": (FCBL, beside_background, times_foreground),
    "bacl-fcbl:alpha=1.5,threshold=0.2": (lambda: FCBL(1.5, 0.2), beside_background, times_foreground),
    "bacl": (FCBL, beside_background, times_foreground),
    "ebl": (Equilibrium, as_it_is, softmax),
    "loce": (Equilibrium, as_it_is, softmax),
}


def compare(run: str, classifier: Classifier, w: Array, b: Array, monkeypatch: pytest.MonkeyPatch) -> None:
    oracle, start, scores = AUTHORS[run]
    slow, (w, b) = oracle(), start(w, b)
    draws: list[Array] = []
    uniform = torch.rand
    monkeypatch.setattr(torch, "rand", lambda *a, **k: draws.append((u := uniform(*a, **k)).double().numpy()) or u)
    drawn: list[tuple[Tensor, Tensor]] = []
    if hasattr(classifier, "drawn"):
        original = classifier.drawn
        monkeypatch.setattr(classifier, "drawn", lambda: drawn.append(original()) or drawn[-1])
    torch.manual_seed(0)
    for features, labels in batches():
        draws.clear()
        logits = classifier(features)
        found = float(classifier.loss(logits, labels)["loss_cls"].detach())
        x, y = features.double().numpy(), labels.tolist()
        np.testing.assert_allclose(logits.detach().numpy(), x @ w.T + b, rtol=1e-4, atol=1e-4)
        if drawn:
            extra, own = (part[drawn[-1][1] < C] for part in drawn[-1])  # without those in vain
            x, y = np.concatenate([x, extra.double().numpy()]), y + own.tolist()
        more = {"own": len(features)} if isinstance(slow, Equilibrium) else {}
        assert found == pytest.approx(slow.loss(x @ w.T + b, y, draws, **more), rel=2e-4)
        np.testing.assert_allclose(
            classifier.scores(logits).detach(), scores(logits.detach().double().numpy()), atol=1e-5
        )


@pytest.mark.parametrize("run", AUTHORS)
def test_start_losses_and_scores_are_the_authors(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, _, variant = run.partition(":")
    classifier, w, b = built(name, variant or None)
    compare(run, classifier, w, b, monkeypatch)
    before = {key: value.clone() for key, value in classifier.state_dict().items()}
    features, labels = batches()[0]
    torch.manual_seed(0)
    found = classifier.eval().loss(classifier(features), labels)["loss_cls"]
    assert all(torch.equal(value, before[key]) for key, value in classifier.state_dict().items()), "nothing is learnt"
    twin = classifiers.build(classifier.config()).eval()
    twin.load_state_dict(before)
    torch.manual_seed(0)
    torch.testing.assert_close(twin.loss(twin(features), labels)["loss_cls"], found)


def test_every_sigmoid_method_is_compared() -> None:
    compared = {run.partition(":")[0] for run in AUTHORS} | {"federated", "focal", "focal-cls"}
    assert {method.name for method in METHODS.values() if method.family == "sigmoid loss"} <= compared


@pytest.mark.parametrize("background", [True, False])
def test_federated_takes_background_as_one_of_its_classes(background: bool) -> None:
    """50 as in detectron2: of six classes and three places, background's is one where there is a background RoI."""
    classifier, w, b = built("federated", "sampled=3")
    w, b = alone(w, b)
    features, _ = batches()[0]
    labels = torch.full((len(features),), 1)
    if background:
        labels[40:] = C
    x, z = features.double().numpy(), classifier(features)
    logits = x @ w.T + b
    terms = np.array([[entropy(float(sigmoid(v)), y == j) for j, v in enumerate(row)]
                      for row, y in zip(logits, labels.tolist(), strict=True)]).sum(axis=0) / len(features)  # fmt: skip
    others = [0, 2, 3, 4]  # class 5 has no image
    pairs = [[j] for j in others] if background else [[j, k] for j in others for k in others if j < k]
    possible = {round(float(terms[[1, *chosen]].sum()), 3) for chosen in pairs}
    torch.manual_seed(0)
    found = {round(float(classifier.loss(z, labels)["loss_cls"].detach()), 3) for _ in range(300)}
    assert found == possible
    np.testing.assert_allclose(classifier.scores(z).detach(), own_sigmoids(logits), atol=1e-5)


def test_gumbel_learns_its_positives_from_the_start_and_ranks_what_is_sure() -> None:
    classifier, _, _ = built("gumbel")
    features, labels = batches()[0]
    classifier.loss(classifier(features), labels)["loss_cls"].backward()
    assert (classifier.bias.grad.abs() > 0).all()
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        scores = classifier.scores(torch.tensor([[12.0, 15, 0, -4, -5, -90]], dtype=dtype))
        assert scores[0, 1] > scores[0, 0] > scores[0, 2] > scores[0, 3] > scores[0, 4]
    assert scores[0, 5] == 0


def test_acsl_takes_exact_shares_of_the_background() -> None:
    classifier = classifiers.ACSLClassifier(4, 6, "frcr")
    for number, expected in ((0, [0, 0, 0]), (99, [99, 0, 9]), (250, [250, 2, 25]), (700, [700, 7, 70])):
        labels = torch.tensor([4] * number + [0] * 50)
        target = labels[:, None] == torch.arange(5)
        negative = classifier.weights(torch.full((number + 50, 5), -5.0), labels, target).negative
        assert isinstance(negative, Tensor)
        assert negative.sum(dim=0).tolist() == [*expected, expected[1], expected[0]]
        assert torch.equal(negative[:, 1], negative[:, 3]), "a RoI counts for all rare classes or for none"
        assert (negative[number:] == 0).all()


def test_loce_fills_its_memory_before_training() -> None:
    """One pass without a step: means as of three batches, queues full."""
    classifier, _, _ = built("loce")
    weight = classifier.weight.clone()
    classifier.fit(iter(batches()))
    assert torch.equal(weight, classifier.weight)
    seen = torch.bincount(torch.cat([labels for _, labels in batches()]), minlength=C + 1)[:C]
    assert classifier.memory.filled[:-1].tolist() == seen.clamp(max=80).tolist()
    assert classifier.mean_scores[-1] == pytest.approx(0.01)
    assert (classifier.mean_scores[:5] != 0.01).all()
