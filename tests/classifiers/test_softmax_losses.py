"""Softmax classifiers with other losses: limit cases, and state; their formulas are in test_authors_softmax_family."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from imbalance_bench.classifiers import (
    BalancedSigmoidClassifier,
    Classifier,
    EquilibriumClassifier,
    SeesawClassifier,
    ShiftedSoftmaxClassifier,
    ldam_margins,
    log_counts,
    log_odds,
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
        ShiftedSoftmaxClassifier(4, 6, log_counts([9, 9, 9, 9], unit=None)),
        ShiftedSoftmaxClassifier(4, 6, [0.0] * 5, margin=True),
        EquilibriumClassifier(4, 6).eval(),
    ],
    ids=["balanced", "margin", "equilibrium"],
)
def test_equal_classes_give_plain_cross_entropy(classifier: Classifier, logits: Tensor) -> None:
    assert float(classifier.loss(logits, LABELS)["loss_cls"].detach()) == pytest.approx(
        float(functional.cross_entropy(logits, LABELS).detach())
    )


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
    [
        ShiftedSoftmaxClassifier(4, 6, log_counts(COUNTS)),
        BalancedSigmoidClassifier(4, 6, log_odds(COUNTS, 1000)),
        EquilibriumClassifier(4, 6),
        SeesawClassifier(4, 6),
    ],
    ids=["shifted", "sigmoid", "equilibrium", "seesaw"],
)
def test_only_background_and_extreme_logits(classifier: Classifier) -> None:
    logits = classifier(torch.randn(3, 6))
    loss = torch.stack(list(classifier.train().loss(logits, torch.full((3,), 4)).values())).sum()
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in classifier.parameters() if p.grad is not None)
    extreme = torch.tensor([6e4, -6e4, 0, 6e4, -6e4, 1]).half()[None, : logits.shape[1]]
    assert classifier.scores(extreme).isfinite().all()


def test_ldam_margins_count_a_class_without_boxes_as_one() -> None:
    expected = [-30 * 0.5 * max(n, 1) ** -0.25 for n in COUNTS]
    np.testing.assert_allclose(ldam_margins(COUNTS, greatest=0.5, scale=30.0), [*expected, 0])


def test_log_odds_are_finite() -> None:
    np.testing.assert_allclose(log_odds([0, 1, 6, 8], 8), np.log([1 / 8, 1 / 7, 3, 8]))
    np.testing.assert_allclose(log_odds([6], 8, 0.5), [0.5 * np.log(3)])


def test_deferred_weights_hold_late_in_training() -> None:
    torch.manual_seed(0)
    weights, shift = [0.5, 2.0, 1.0, 0.25, 1.0], [-3.0, -2.0, -1.0, -1.5, 0.0]
    classifier = ShiftedSoftmaxClassifier(4, 6, shift, margin=True, deferred_weights=weights)
    logits = torch.randn(8, 5)
    shifted = logits + functional.one_hot(LABELS, 5) * torch.tensor(shift)
    losses = functional.cross_entropy(shifted, LABELS, reduction="none")
    weight = torch.tensor(weights)[LABELS]
    weighted = (losses * weight).sum() / weight.sum()
    for epoch in range(12):
        classifier.begin_epoch(epoch / 12)
        expected = weighted if epoch >= 8 else losses.mean()
        torch.testing.assert_close(classifier.loss(logits, LABELS)["loss_cls"], expected)
    without = ShiftedSoftmaxClassifier(4, 6, shift, margin=True)
    without.begin_epoch(1.0)
    torch.testing.assert_close(without.loss(logits, LABELS)["loss_cls"], losses.mean())
