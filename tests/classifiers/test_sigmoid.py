"""The weighted sigmoid core against one slow oracle, and each method's weights against its own."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from mmdet.models.losses import EQLV2Loss
from torch import Tensor

from imbalance_bench.classifiers import (
    ACSLClassifier,
    DropLossClassifier,
    ECMClassifier,
    EQLClassifier,
    EQLv2Classifier,
    FederatedClassifier,
    GumbelClassifier,
    SigmoidClassifier,
    sigmoid,
)

LABELS = torch.tensor([0, 1, 2, 3, 4, 4, 0, 0])
COUNTS = [1000, 30, 5, 0]
TAIL = [False, True, True, True]


def oracle(
    logits: np.ndarray,
    labels: list[int],
    weight: Callable[[int, int], float],
    probability: Callable[[float], float] = lambda z: 1 / (1 + np.exp(-z)),
) -> float:
    """Sum over classes of weighted binary cross entropies, mean over RoIs; ``weight(roi, column)``."""
    total = 0.0
    for i, row in enumerate(logits):
        for j, z in enumerate(row):
            p = probability(float(z))
            total -= weight(i, j) * (np.log(p) if labels[i] == j else np.log(1 - p))
    return total / len(logits)


def random(width: int, scale: float = 2.0) -> Tensor:
    return scale * torch.randn(8, width, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize(("background", "width"), [("none", 4), ("objectness", 5), ("own", 5)])
def test_plain(background: str, width: int) -> None:
    classifier, logits = SigmoidClassifier(4, 6, background), random(width)
    expected = oracle(logits.double().numpy(), LABELS.tolist(), lambda i, j: 1.0)
    assert float(classifier.loss(logits, LABELS)["loss_cls"]) == pytest.approx(expected, rel=1e-5)
    scores, p = classifier.scores(logits).numpy(), 1 / (1 + np.exp(-logits.numpy()))
    if background == "none":
        expected_scores = np.column_stack([p, 1 - p.max(axis=1)])
    else:
        seen = 1 - p[:, 4:] if background == "objectness" else 1
        expected_scores = np.column_stack([p[:, :4] * seen, p[:, 4]])
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-5)


def test_eqlv2_is_mmdets() -> None:
    ours = EQLv2Classifier(4, 6).train()
    theirs = EQLV2Loss(num_classes=4, gamma=12, mu=0.8, alpha=4.0)
    generator = torch.Generator().manual_seed(5)
    for _ in range(5):
        logits = 3 * torch.randn(9, 5, generator=generator)
        labels = torch.randint(5, (9,), generator=generator)
        torch.testing.assert_close(ours.loss(logits, labels)["loss_cls"], theirs(logits, labels))
    torch.testing.assert_close(ours.scores(logits), theirs.get_activation(logits.clone()))
    torch.testing.assert_close(ours.positive_gradients, theirs.pos_grad)
    torch.testing.assert_close(ours.negative_gradients, theirs.neg_grad)
    before = ours.positive_gradients.clone()
    ours.eval().loss(logits, labels)
    assert torch.equal(before, ours.positive_gradients), "evaluation changes no state"
    twin = EQLv2Classifier(4, 6)
    twin.load_state_dict(ours.state_dict())
    assert torch.equal(twin.negative_gradients, ours.negative_gradients)


def test_eqlv2_sums_gradients_over_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    one, half, other = (EQLv2Classifier(4, 6).train() for _ in range(3))
    logits = random(5)
    one.loss(logits, LABELS)
    sent: list[Tensor] = []
    monkeypatch.setattr(sigmoid, "sum_over_processes", lambda tensor: sent.append(tensor.clone()))
    other.loss(logits[4:], LABELS[4:])
    monkeypatch.setattr(sigmoid, "sum_over_processes", lambda tensor: tensor.add_(sent[0]))
    half.loss(logits[:4], LABELS[:4])
    torch.testing.assert_close(half.positive_gradients, one.positive_gradients)
    torch.testing.assert_close(half.negative_gradients, one.negative_gradients)


def test_eql() -> None:
    logits = random(4)

    def weight(i: int, j: int) -> float:
        return 1.0 - float(bool(LABELS[i] < 4) and TAIL[j] and int(LABELS[i]) != j)

    expected = oracle(logits.double().numpy(), LABELS.tolist(), weight)
    assert float(EQLClassifier(4, 6, TAIL).loss(logits, LABELS)["loss_cls"]) == pytest.approx(expected, rel=1e-5)


def test_droploss_drops_its_share() -> None:
    classifier, labels = DropLossClassifier(4, 6, TAIL), torch.tensor([0, 0, 0, 1] + [4] * 4000)
    target = torch.nn.functional.one_hot(labels, 5)[:, :4].bool()
    torch.manual_seed(0)
    negative = classifier.weights(torch.zeros(len(labels), 4), labels, target).negative
    assert isinstance(negative, Tensor)
    assert negative[:4, 1:].sum() == 0, "foreground, as in EQL"
    assert (negative[:, 0] == 1).all()
    assert float(negative[4:, 1:].mean()) == pytest.approx(0.25, abs=0.02), "1 of 4 foreground RoIs is of the tail"
    nothing = labels[4:]
    kept = classifier.weights(torch.zeros(4000, 4), nothing, target[4:]).negative
    assert isinstance(kept, Tensor)
    assert (kept == 1).all()


def test_federated() -> None:
    torch.manual_seed(0)
    counts = [10_000, 100, 1, 1, 1, 1]
    classifier, labels = FederatedClassifier(6, 4, counts, sampled=3), torch.tensor([2, 2, 6])
    target = torch.nn.functional.one_hot(labels, 7)[:, :6].bool()
    drawn = torch.zeros(6)
    for _ in range(600):
        negative = classifier.weights(torch.zeros(3, 6), labels, target).negative
        assert isinstance(negative, Tensor)
        assert negative.sum() == 3
        assert negative[2] == 1, "classes of the batch always count"
        drawn += negative
    # Two of the others without replacement, by square roots 100, 10, 1, 1, 1.
    w = np.array([100, 10, 0, 1, 1, 1.0])
    p = w / w.sum()
    second = [p[j] + sum(p[i] * w[j] / (w.sum() - w[i]) for i in range(6) if i != j) for j in range(6)]
    np.testing.assert_allclose(drawn[[0, 1]] / 600, np.array(second)[[0, 1]], atol=0.05)
    everything = FederatedClassifier(4, 6, COUNTS)
    assert float(everything.loss(random(4), LABELS)["loss_cls"]) == pytest.approx(
        oracle(random(4).double().numpy(), LABELS.tolist(), lambda i, j: 1.0), rel=1e-5
    ), "fewer classes than are drawn: plain"


def test_ecm() -> None:
    classifier, logits = ECMClassifier(4, 6, COUNTS), random(5)
    numbers = [max(n, 1) for n in COUNTS]
    numbers.append(6.3313 * sum(numbers))
    total = 0.0
    for row, label in zip(logits.double().numpy(), LABELS.tolist(), strict=True):
        for j, z in enumerate(row):
            positive, negative = numbers[j], sum(numbers) - numbers[j]
            a = negative / positive
            p = 1 / (1 + np.exp(-(2 * z + 0.25 * np.log(positive / negative))))
            total -= a * np.log((1 + a) / a) * np.log(p if label == j else 1 - p)
    assert float(classifier.loss(logits, LABELS)["loss_cls"]) == pytest.approx(total / 8, rel=1e-4)
    p = logits.sigmoid()
    torch.testing.assert_close(classifier.scores(logits)[:, 0], p[:, 0] * (1 - p[:, 4]))


def test_acsl() -> None:
    classifier = ACSLClassifier(4, 6, "frcf", threshold=0.7)
    logits = random(4)
    target = torch.nn.functional.one_hot(LABELS, 5)[:, :4].bool()
    negative = classifier.weights(logits, LABELS, target).negative
    assert isinstance(negative, Tensor)
    confused = logits.sigmoid() >= 0.7
    assert torch.equal(negative[LABELS < 4].bool(), confused[LABELS < 4])
    background = torch.full((20_000,), 4)
    torch.manual_seed(0)
    drawn = classifier.weights(torch.zeros(20_000, 4), background, torch.zeros(20_000, 4, dtype=torch.bool)).negative
    assert isinstance(drawn, Tensor)
    np.testing.assert_allclose(drawn.mean(dim=0), [1, 0.01, 0.1, 1], atol=0.01)


def test_gumbel() -> None:
    classifier, logits = GumbelClassifier(4, 6), random(4, scale=1.0)

    def gumbel(z: float) -> float:
        return float(np.exp(-np.exp(-np.clip(z, -4, 10))))

    expected = oracle(logits.double().numpy(), LABELS.tolist(), lambda i, j: 1.0, gumbel)
    assert float(classifier.loss(logits, LABELS)["loss_cls"]) == pytest.approx(expected, rel=1e-4)
    torch.testing.assert_close(classifier.scores(logits)[:, :4], torch.exp(-torch.exp(-logits)))


CLASSIFIERS = [
    SigmoidClassifier(4, 6), SigmoidClassifier(4, 6, "own"), EQLv2Classifier(4, 6), EQLClassifier(4, 6, TAIL),
    DropLossClassifier(4, 6, TAIL), FederatedClassifier(4, 6, COUNTS, 2), ECMClassifier(4, 6, COUNTS),
    ACSLClassifier(4, 6, "frcf"), GumbelClassifier(4, 6),
]  # fmt: skip


@pytest.mark.parametrize("classifier", CLASSIFIERS, ids=lambda c: type(c).__name__)
def test_only_background_and_extreme_logits(classifier: SigmoidClassifier) -> None:
    classifier.train()
    loss = classifier.loss(classifier(torch.randn(3, 6)), torch.full((3,), 4))["loss_cls"]
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in classifier.parameters())
    extreme = torch.tensor([200.0, -200, 0, 200, -200]).half()[None, : len(classifier.weight)].repeat(2, 1)
    scores = classifier.scores(extreme)
    assert scores.isfinite().all()
    assert scores.min() >= 0
    assert scores.max() <= 1
    assert classifier.loss(extreme, torch.tensor([1, 4]))["loss_cls"].isfinite()


@pytest.mark.parametrize("arguments", [{"background": "some"}, {"num_classes": 0}])
def test_bad_arguments(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="expected"):
        SigmoidClassifier(**{"num_classes": 4, "feature_dim": 6, **arguments})  # type: ignore[arg-type]
