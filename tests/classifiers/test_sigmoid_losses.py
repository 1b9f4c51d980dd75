"""Each method's weights against a slow version of its own, over the oracle of the sigmoid core."""

import numpy as np
import pytest
import torch
from mmdet.models.losses import EQLV2Loss
from test_sigmoid import LABELS, oracle, random
from torch import Tensor

from imbalance_bench.classifiers import (
    ACSLClassifier,
    DropLossClassifier,
    ECMClassifier,
    EQLClassifier,
    EQLv2Classifier,
    FCBLClassifier,
    FederatedClassifier,
    GumbelClassifier,
    SigmoidClassifier,
    sigmoid_losses,
)

COUNTS = [1000, 30, 5, 0]
TAIL = [False, True, True, True]


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


@pytest.mark.parametrize("make", [EQLv2Classifier, FCBLClassifier], ids=lambda c: c.__name__)
def test_state_is_of_all_processes(make: type[SigmoidClassifier], monkeypatch: pytest.MonkeyPatch) -> None:
    one, half, other = (make(4, 6).train() for _ in range(3))
    logits = random(5)
    one.loss(logits, LABELS)
    sent: list[Tensor] = []
    monkeypatch.setattr(sigmoid_losses, "sum_over_processes", lambda tensor: sent.append(tensor.clone()) or tensor)
    other.loss(logits[4:], LABELS[4:])
    monkeypatch.setattr(sigmoid_losses, "sum_over_processes", lambda tensor: tensor + sent[0])
    half.loss(logits[:4], LABELS[:4])
    state = {name for name, _ in make(4, 6).named_buffers()}
    assert state
    for name in state:
        torch.testing.assert_close(half.state_dict()[name], one.state_dict()[name])
        assert not torch.equal(other.state_dict()[name], one.state_dict()[name])
    # The next batch is weighed alike, by a twin from the state dict, too.
    twin = make(4, 6)
    twin.load_state_dict(half.state_dict())
    torch.testing.assert_close(twin.loss(logits, LABELS), one.eval().loss(logits, LABELS))
    assert torch.equal(twin.eval().weight, half.weight)


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
    counts = [10_000, 100, 1, 1, 1, 0]
    classifier, labels = FederatedClassifier(6, 4, counts, sampled=4), torch.tensor([2, 2, 6])
    target = torch.nn.functional.one_hot(labels, 7)[:, :6].bool()
    drawn = torch.zeros(6)
    for _ in range(600):
        negative = classifier.weights(torch.zeros(3, 6), labels, target).negative
        assert isinstance(negative, Tensor)
        assert negative.sum() == 3
        assert negative[2] == 1, "classes of the batch always count"
        drawn += negative
    # With background and the class of the batch, two of the others: without replacement, by square roots 100, 10, 1, 1;
    # never the one without images.
    assert drawn[5] == 0
    w = np.array([100, 10, 0, 1, 1, 0.0])
    p = w / w.sum()
    second = [p[j] + sum(p[i] * w[j] / (w.sum() - w[i]) for i in range(6) if i != j) for j in range(6)]
    np.testing.assert_allclose(drawn[[0, 1]] / 600, np.array(second)[[0, 1]], atol=0.05)


def test_federated_loss_is_that_of_the_drawn_classes() -> None:
    classifier, logits = FederatedClassifier(4, 6, [9, 9, 9, 9], sampled=3), random(4)
    labels = torch.tensor([1, 1, 4, 4, 4, 1, 4, 1])
    values = {
        round(oracle(logits.double().numpy(), labels.tolist(), lambda i, j, other=other: float(j in (1, other))), 4)
        for other in (0, 2, 3)
    }
    torch.manual_seed(0)
    found = {round(float(classifier.loss(logits, labels)["loss_cls"]), 4) for _ in range(50)}
    assert found == values
    # More classes in the batch than are drawn: all of them, and no other.
    crowded = FederatedClassifier(4, 6, [9, 9, 9, 9], sampled=1)
    labels = torch.tensor([0, 1, 2, 4, 4, 4, 4, 4])
    expected = oracle(logits.double().numpy(), labels.tolist(), lambda i, j: float(j != 3))
    assert float(crowded.loss(logits, labels)["loss_cls"]) == pytest.approx(expected, rel=1e-5)
    # Fewer classes with images than are drawn: all of those.
    scarce = FederatedClassifier(4, 6, [9, 9, 0, 0], sampled=3, power=0)
    expected = oracle(logits.double().numpy(), [4] * 8, lambda i, j: float(j < 2))
    assert float(scarce.loss(logits, torch.full((8,), 4))["loss_cls"]) == pytest.approx(expected, rel=1e-5)
    torch.manual_seed(3)
    first = classifier.loss(logits, LABELS[4:6].repeat(4))["loss_cls"]
    torch.manual_seed(3)
    assert classifier.loss(logits, LABELS[4:6].repeat(4))["loss_cls"] == first, "seeded by torch's generator"


def test_ecm_of_equal_shares() -> None:
    """One class as frequent as background has no margin, and weighs log 2."""

    class Balanced(ECMClassifier, base=True):
        BACKGROUND_RATIO = 1.0

    classifier = Balanced(1, 6, [7])
    logits, labels = random(2), torch.tensor([0, 1, 1, 0, 0, 1, 1, 1])
    expected = np.log(2) * oracle(2 * logits.double().numpy(), labels.tolist(), lambda i, j: 1.0)
    assert float(classifier.loss(logits, labels)["loss_cls"]) == pytest.approx(expected, rel=1e-5)


OFF = [
    EQLv2Classifier(4, 6, alpha=0.0, mu=-100.0),
    EQLClassifier(4, 6, [False] * 4),
    DropLossClassifier(4, 6, [False] * 4),
    FederatedClassifier(4, 6, [9, 9, 9, 9], sampled=5),
    ACSLClassifier(4, 6, "ffff", threshold=0.0),
    FCBLClassifier(4, 6, alpha=0.0, threshold=0.0),
]


@pytest.mark.parametrize("classifier", OFF, ids=lambda c: type(c).__name__)
def test_switched_off_it_is_plain(classifier: SigmoidClassifier) -> None:
    classifier.train()
    logits = random(len(classifier.weight))
    expected = oracle(logits.double().numpy(), LABELS.tolist(), lambda i, j: 1.0)
    for _ in range(3):
        assert float(classifier.loss(logits, LABELS)["loss_cls"]) == pytest.approx(expected, rel=1e-5)


CLASSIFIERS = [
    SigmoidClassifier(4, 6), SigmoidClassifier(4, 6, "own"), EQLv2Classifier(4, 6), EQLClassifier(4, 6, TAIL),
    DropLossClassifier(4, 6, TAIL), FederatedClassifier(4, 6, COUNTS, 2), ECMClassifier(4, 6, COUNTS),
    ACSLClassifier(4, 6, "frcf"), FCBLClassifier(4, 6), GumbelClassifier(4, 6),
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
    for _ in range(2):
        assert classifier.loss(extreme, torch.tensor([1, 4]))["loss_cls"].isfinite()
