"""Softmax, plain and re-weighted, against loops."""

import math

import numpy as np
import pytest
import torch

from imbalance_bench.classifiers import SoftmaxClassifier, class_balanced_weights


def test_logits_scores_and_loss_are_the_loops() -> None:
    torch.manual_seed(0)
    classifier = SoftmaxClassifier(3, 5).double()
    torch.nn.init.normal_(classifier.bias)
    features, labels = torch.randn(6, 5, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 3, 3])
    logits = classifier(features)
    for i in range(6):
        z = [(classifier.weight[j] @ features[i] + classifier.bias[j]).item() for j in range(4)]
        assert logits[i].tolist() == pytest.approx(z)
        total = sum(math.exp(v) for v in z)
        assert classifier.scores(logits)[i].tolist() == pytest.approx([math.exp(v) / total for v in z])
    expected = -sum(math.log(classifier.scores(logits)[i, labels[i]].item()) for i in range(6)) / 6
    assert classifier.loss(logits, labels)["loss_cls"].item() == pytest.approx(expected)
    assert torch.equal(classifier.class_weights(), classifier.weight)
    assert torch.equal(classifier.class_biases(), classifier.bias)


def test_weighted_loss_divides_by_the_number_of_rois() -> None:
    weights = [0.5, 2.0, 5.0, 1.0]
    classifier = SoftmaxClassifier(3, 5, weights).double()
    fast = torch.randn(8, 4, dtype=torch.float64, requires_grad=True)
    slow = fast.detach().clone().requires_grad_()
    labels = torch.tensor([0, 1, 2, 3, 3, 3, 0, 2])
    loss = classifier.loss(fast, labels)["loss_cls"]
    expected = -sum(weights[int(labels[i])] * slow[i].log_softmax(0)[labels[i]] for i in range(8)) / 8
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    loss.backward()
    expected.backward()
    assert torch.allclose(fast.grad, slow.grad, atol=1e-7)  # type: ignore[arg-type]


def test_weights_of_one_change_nothing() -> None:
    logits, labels = torch.randn(9, 4), torch.randint(4, (9,))
    plain, ones = SoftmaxClassifier(3, 2), SoftmaxClassifier(3, 2, [1.0] * 4)
    assert torch.allclose(plain.loss(logits, labels)["loss_cls"], ones.loss(logits, labels)["loss_cls"])


def test_class_balanced_weights_by_hand() -> None:
    # 1/n = 1, .1, .001; mean .367; divided by it 2.7248, .27248, .0027248: the last is clipped.
    assert class_balanced_weights([1, 10, 1000]) == pytest.approx([2.72480, 0.272480, 0.01, 1.0], rel=1e-5)
    assert class_balanced_weights([1, 10, 1000], clip=(0.1, 5.0))[2] == 0.1
    assert class_balanced_weights([0, 1]) == [1.0, 1.0, 1.0], "a class without instances counts as one"


def test_effective_number_weights_by_hand() -> None:
    b = 0.999
    raw = np.array([(1 - b) / (1 - b**n) for n in (1, 10, 1000)])
    assert class_balanced_weights([1, 10, 1000], beta=b)[:3] == pytest.approx(
        np.clip(raw / raw.mean(), 0.01, 5).tolist()
    )


def test_without_a_clip() -> None:
    assert class_balanced_weights([1, 10, 1000], clip=None)[2] == pytest.approx(0.00272480, rel=1e-5)


def test_the_limit_of_beta() -> None:
    near, limit = class_balanced_weights([1, 7, 300], beta=1 - 1e-9), class_balanced_weights([1, 7, 300])
    assert near == pytest.approx(limit, rel=1e-4)


def test_the_two_weightings_are_nearly_one_after_the_clip() -> None:
    counts = np.unique(np.geomspace(1, 26148, 400).astype(int))
    first, second = class_balanced_weights(counts), class_balanced_weights(counts, beta=0.999)
    assert np.corrcoef(first, second)[0, 1] > 0.99


def test_wrong_number_of_weights() -> None:
    with pytest.raises(ValueError, match="expected 4 loss weights"):
        SoftmaxClassifier(3, 5, [1.0, 2.0])
