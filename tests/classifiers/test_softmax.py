"""Softmax, plain and re-weighted: weights by hand."""

import numpy as np
import pytest
import torch

from imbalance_bench.classifiers import (
    DualHeadClassifier,
    GroupSoftmaxClassifier,
    LOCEClassifier,
    SoftmaxClassifier,
    class_balanced_weights,
)
from imbalance_bench.classifiers.softmax import is_linear_softmax


def test_rows_are_the_categories() -> None:
    classifier = SoftmaxClassifier(3, 5)
    assert torch.equal(classifier.class_weights(), classifier.weight)
    assert torch.equal(classifier.class_biases(), classifier.bias)


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


def test_which_classifiers_a_detectors_own_head_computes() -> None:
    """Those that keep more than W and b for their loss too, but not those that score by more."""
    own = SoftmaxClassifier(3, 4, [1.0, 2.0, 3.0, 1.0]), LOCEClassifier(3, 4)
    others = SoftmaxClassifier(3, 4, cosine=20.0), DualHeadClassifier(3, 4, [True, False, False])
    features = torch.randn(5, 4)
    for classifier in own:
        expected = torch.nn.functional.linear(features, classifier.weight, classifier.bias).softmax(dim=1)
        assert torch.allclose(classifier.eval().scores(classifier(features)), expected)
    assert all(map(is_linear_softmax, own)) and not any(map(is_linear_softmax, others))
    assert not is_linear_softmax(GroupSoftmaxClassifier(3, 4, [1, 1, 2]))
