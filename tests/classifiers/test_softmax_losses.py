"""Softmax classifiers with other losses, against slow versions and mmdet's own."""

from typing import Any

import pytest
import torch
from mmdet.models.losses import SeesawLoss
from torch import Tensor
from torch.nn import functional

from imbalance_bench.classifiers import (
    Classifier,
    EquilibriumClassifier,
    SeesawClassifier,
    ShiftedSoftmaxClassifier,
    log_prior,
    softmax_losses,
)

COUNTS = [1000, 30, 5, 0]
LABELS = torch.tensor([0, 1, 2, 3, 4, 4, 0, 0])


@pytest.fixture
def logits() -> Tensor:
    return torch.randn(8, 5, generator=torch.Generator().manual_seed(2), requires_grad=True)


@pytest.mark.parametrize(
    "classifier",
    [
        ShiftedSoftmaxClassifier(4, 6, log_prior([9, 9, 9, 9])),
        ShiftedSoftmaxClassifier(4, 6, [0.0] * 5, margin=True),
        EquilibriumClassifier(4, 6).eval(),
    ],
    ids=["balanced", "margin", "equilibrium"],
)
def test_equal_classes_give_plain_cross_entropy(classifier: Classifier, logits: Tensor) -> None:
    assert float(classifier.loss(logits, LABELS)["loss_cls"].detach()) == pytest.approx(
        float(functional.cross_entropy(logits, LABELS).detach())
    )


def test_seesaw_is_mmdets() -> None:
    ours = SeesawClassifier(4, 6, cosine=None).train()
    theirs = SeesawLoss(num_classes=4, p=0.8, q=2.0)
    generator = torch.Generator().manual_seed(3)
    for _ in range(4):
        logits = 3 * torch.randn(9, 6, generator=generator)
        labels = torch.randint(5, (9,), generator=generator)
        expected = theirs(logits, labels, torch.ones(9), avg_factor=9)
        found = ours.loss(logits, labels)
        torch.testing.assert_close(found["loss_cls"], expected["loss_cls_classes"])
        torch.testing.assert_close(found["loss_objectness"], expected["loss_cls_objectness"])
    torch.testing.assert_close(ours.scores(logits), theirs.get_activation(logits))
    assert ours.counts.tolist() == theirs.cum_samples.tolist()


def test_seesaw_of_equal_counts_and_scores() -> None:
    classifier = SeesawClassifier(4, 6, p=0.8, q=0.0).eval()
    logits = torch.randn(8, 6)
    plain = functional.cross_entropy(logits[:, :4], LABELS.clamp(max=3), reduction="none")
    expected = plain[LABELS < 4].sum() / 8
    torch.testing.assert_close(classifier.loss(logits, LABELS)["loss_cls"], expected)


@pytest.mark.parametrize("kind", [EquilibriumClassifier, SeesawClassifier])
def test_two_processes_count_as_one(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process sums is summed over all before it is used."""
    torch.manual_seed(0)
    one, half = kind(4, 6).train(), kind(4, 6).train()
    logits = torch.randn(8, len(one.weight))
    one.loss(logits, LABELS)

    other = kind(4, 6).train()
    sent: list[Tensor] = []
    monkeypatch.setattr(softmax_losses, "sum_over_processes", lambda tensor: sent.append(tensor.clone()) or tensor)
    other.loss(logits[4:], LABELS[4:])
    monkeypatch.setattr(softmax_losses, "sum_over_processes", lambda tensor: tensor + sent[0])
    half.loss(logits[:4], LABELS[:4])
    for name, value in one.named_buffers():
        torch.testing.assert_close(dict(half.named_buffers())[name], value)


@pytest.mark.parametrize(
    "classifier",
    [ShiftedSoftmaxClassifier(4, 6, log_prior(COUNTS)), EquilibriumClassifier(4, 6), SeesawClassifier(4, 6)],
    ids=["shifted", "equilibrium", "seesaw"],
)
def test_only_background_and_extreme_logits(classifier: Classifier) -> None:
    logits = classifier(torch.randn(3, 6))
    loss = torch.stack(list(classifier.train().loss(logits, torch.full((3,), 4)).values())).sum()
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in classifier.parameters() if p.grad is not None)
    extreme = torch.tensor([6e4, -6e4, 0, 6e4, -6e4, 1]).half()[None, : logits.shape[1]]
    assert classifier.scores(extreme).isfinite().all()
