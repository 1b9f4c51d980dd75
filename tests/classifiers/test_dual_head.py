"""SimCal's dual head: two softmaxes, one for the tail classes, the other for the rest and background."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from imbalance_bench.categories import CategoryTable
from imbalance_bench.classifiers import DualHeadClassifier, SoftmaxClassifier
from imbalance_bench.methods.softmax_family import _simcal

TAIL = [True, False, False, True]
LABELS = torch.tensor([0, 1, 2, 3, 4, 4])


@pytest.fixture
def classifier() -> DualHeadClassifier:
    torch.manual_seed(0)
    made = DualHeadClassifier(4, 6, TAIL)
    for tensor in made.state_dict().values():
        torch.nn.init.normal_(tensor)
    return made


def test_scores_are_of_two_softmaxes(classifier: DualHeadClassifier) -> None:
    features = torch.randn(6, 6)
    scores = classifier.scores(classifier(features))
    new = (features @ classifier.weight.T + classifier.bias).softmax(dim=1)
    old = (features @ classifier.original_weight.T + classifier.original_bias).softmax(dim=1)
    for column, tail in enumerate([*TAIL, False]):
        torch.testing.assert_close(scores[:, column], (new if tail else old)[:, column])
    for row, tail in enumerate([*TAIL, False]):
        assert torch.equal(
            classifier.class_weights()[row], (classifier.weight if tail else classifier.original_weight)[row]
        )


def test_only_the_new_head_is_trained(classifier: DualHeadClassifier) -> None:
    features = torch.randn(6, 6)
    loss = classifier.loss(classifier(features), LABELS)["loss_cls"]
    expected = functional.cross_entropy(features @ classifier.weight.T + classifier.bias, LABELS)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert {name for name, value in classifier.named_parameters() if value.grad is not None} == {"weight", "bias"}
    assert len(list(classifier.parameters())) == 2


def test_before_training_a_fine_tuned_head_changes_nothing() -> None:
    counts = np.array([5, 2000, 99, 100])
    table_of_four = CategoryTable(np.arange(1, 5), tuple("abcd"), counts, counts, tuple("rfcc"))
    base = SoftmaxClassifier(4, 6)
    torch.nn.init.normal_(base.weight)
    tuned = _simcal(table_of_four, {"fc": 6}, base, fresh=False)
    features = torch.randn(6, 6)
    torch.testing.assert_close(tuned.scores(tuned(features)), base.scores(base(features)))
    assert tuned.tail == [True, False, True, False], "fewer than 100 train instances"
    fresh = _simcal(table_of_four, {"fc": 6}, base, below=10)
    assert fresh.tail == [True, False, False, False]
    assert not torch.equal(fresh.weight, base.weight) and torch.equal(fresh.original_weight, base.weight)


def test_without_a_tail_it_is_the_softmax_before(classifier: DualHeadClassifier) -> None:
    plain = SoftmaxClassifier(4, 6)
    plain.load_state_dict({"weight": classifier.original_weight, "bias": classifier.original_bias})
    headless = DualHeadClassifier(4, 6, [False] * 4)
    headless.load_state_dict(classifier.state_dict())
    features = torch.randn(6, 6)
    torch.testing.assert_close(headless.scores(headless(features)), plain.scores(plain(features)))


def test_only_background_and_extreme_logits(classifier: DualHeadClassifier) -> None:
    loss = classifier.loss(classifier(torch.randn(3, 6)), torch.full((3,), 4))["loss_cls"]
    loss.backward()
    assert loss.isfinite() and classifier.weight.grad.isfinite().all()
    extreme = torch.tensor([6e4, -6e4, 0, 6e4, -6e4] * 2).half()[None]
    assert classifier.scores(extreme).isfinite().all()


def test_wrong_length() -> None:
    with pytest.raises(ValueError, match="expected 4 entries of 'tail', got 3"):
        DualHeadClassifier(4, 6, [True] * 3)
