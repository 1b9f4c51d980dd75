"""Feature memory and hallucination against slow versions: what they draw, and which part reaches the loss."""

from collections import deque

import numpy as np
import pytest
import torch
from torch import Tensor

from imbalance_bench.classifiers import (
    BACLClassifier,
    EquilibriumClassifier,
    FCBLClassifier,
    LOCEClassifier,
    feature_sampling,
)
from imbalance_bench.classifiers.feature_sampling import FeatureMemory, draw_classes


def batches(count: int = 6, rows: int = 12, dim: int = 3) -> list[tuple[Tensor, Tensor]]:
    """Labels 0 to 3 and background 4; class 2 never comes."""
    generator = torch.Generator().manual_seed(0)
    labels = [torch.tensor([0, 1, 3, 4])[torch.randint(4, (rows,), generator=generator)] for _ in range(count)]
    return [(torch.randn(rows, dim, generator=generator).half().float(), own) for own in labels]


@pytest.mark.parametrize("size", [2, 5])
def test_memory_holds_the_last_batches_of_each_class(size: int) -> None:
    memory, queues = FeatureMemory(4, 3, size), [deque(maxlen=size) for _ in range(4)]
    for features, labels in batches():
        memory.push(features, labels)
        for label, queue in enumerate(queues):
            queue.extend(map(tuple, features[labels == label][:size].tolist()))  # of a batch the first that fit
        assert memory.filled.tolist() == [*(len(queue) for queue in queues), 0]
        for label, queue in enumerate(queues):
            kept = memory.features[label, : len(queue)].float().tolist()
            assert sorted(map(tuple, kept)) == sorted(queue)
    drawn = memory.draw(torch.tensor([0] * 200 + [3] * 200)).float()
    for label, part in ((0, drawn[:200]), (3, drawn[200:])):
        assert {tuple(row) for row in part.tolist()} == set(queues[label])


def test_drawn_classes() -> None:
    rates, filled = torch.tensor([1.0, 3.0, 2.0, 4.0]), torch.tensor([True, True, False, True])
    torch.manual_seed(0)
    draws = [draw_classes(rates, filled, 8, 2) for _ in range(1000)]
    assert all(torch.equal(draw[::2], draw[1::2]) for draw in draws)
    found = torch.bincount(torch.cat(draws), minlength=5) / (2 * 8 * 1000)
    np.testing.assert_allclose(found, [0.1, 0.3, 0, 0.4, 0.2], atol=0.01)
    assert all(len(draw) == 16 for draw in draws) and any(len(draw.unique()) < 3 for draw in draws), "with replacement"


@pytest.mark.parametrize("kind", [LOCEClassifier, BACLClassifier])
def test_a_batch_is_remembered_before_features_are_drawn(kind: type) -> None:
    torch.manual_seed(0)
    classifier = kind(4, 3).train()
    for features, labels in batches():
        logits, own = classifier(features), labels[labels < 4]
        classifier.loss(logits, labels)
        drawn, of_class = classifier.drawn()
        assert len(drawn) == len(of_class) == 8 * classifier.each
        assert set(of_class.tolist()) <= {0, 1, 3, 4}, "class 2 is drawn in vain"
    first = kind(4, 3).train()
    first.remember(features, labels)
    drawn = torch.cat([first.drawn()[1] for _ in range(20)])
    assert set(drawn.tolist()) == {*own.tolist(), 4}


def test_weak_classes_are_drawn_more_often() -> None:
    torch.manual_seed(0)
    loce = LOCEClassifier(4, 3, classes=1, each=1)
    loce.memory.pushed += 1
    loce.mean_scores.copy_(torch.tensor([0.1, 0.2, 0.5, 0.5, 0.01]))
    rates = 1 / loce.mean_scores[:4]
    drawn = torch.cat([loce.drawn()[1] for _ in range(2000)])
    np.testing.assert_allclose(torch.bincount(drawn, minlength=4) / 2000, rates / rates.sum(), atol=0.04)
    bacl = BACLClassifier(4, 3, classes=1, each=1)
    bacl.seen.fill_(True)
    bacl.confusion[:, -1] = 10
    bacl.confusion[:, :-1].fill_diagonal_(2.0)
    bacl.confusion[3, 3] = 6
    bacl.confusion[0] = 0  # not seen yet: 1 - 0
    rates = torch.tensor([1.0, 0.8, 0.8, 0.4])
    drawn = torch.cat([bacl.drawn()[1] for _ in range(2000)])
    np.testing.assert_allclose(torch.bincount(drawn, minlength=4) / 2000, rates / rates.sum(), atol=0.04)


def test_drawn_features_of_a_class_count_as_one_box() -> None:
    """Two RoIs of class 0, three drawn features: three steps towards the mean of the two and the drawn ones' mean."""
    classifier = LOCEClassifier(2, 3, momentum=0.5).train()
    classifier._batch = torch.zeros(3, 3)
    p = np.array([0.2, 0.4, 0.9, 0.1, 0.3, 0.8, 0.6])
    labels = torch.tensor([0, 0, 2, 0, 0, 0, 1])
    rest = (1 - p) / 2
    scores = [[v, r, r] if y == 0 else [r, v, r] if y == 1 else [r, r, v]
              for v, r, y in zip(p, rest, labels.tolist(), strict=True)]  # fmt: skip
    classifier._update(torch.tensor(scores).log(), labels)
    first = 0.5**3 * 0.01 + (1 - 0.5**3) * np.mean([0.2, 0.4, np.mean([0.1, 0.3, 0.8])])
    np.testing.assert_allclose(classifier.mean_scores, [first, 0.5 * 0.01 + 0.5 * 0.6, 0.01], rtol=1e-5)


def test_hallucinated_features() -> None:
    classifier = BACLClassifier(4, 3, decay=0.1)
    mean, variance = np.zeros((4, 3)), np.zeros((4, 3))
    seen: set[int] = set()
    for features, labels in batches():
        classifier.remember(features, labels)
        for label in set(labels.tolist()) - {4}:
            rows = features[labels == label].double().numpy()
            weight = 0.1 if label in seen else 1.0
            mean[label] = (1 - weight) * mean[label] + weight * rows.mean(axis=0)
            variance[label] = (1 - weight) * variance[label] + weight * rows.var(axis=0, ddof=min(1, len(rows) - 1))
            seen.add(label)
    np.testing.assert_allclose(classifier.feature_mean, mean, atol=1e-6)
    np.testing.assert_allclose(classifier.feature_variance, variance, atol=1e-6)
    assert classifier.seen.tolist() == [True, True, False, True]
    torch.manual_seed(0)
    classifier.each = 5000
    features, labels = classifier.drawn()
    assert set(labels.tolist()) <= {0, 1, 3, 4}
    for label in {0, 1, 3} & set(labels.tolist()):
        own = features[labels == label].double().numpy()
        assert len(own) % 5000 == 0
        np.testing.assert_allclose(own.mean(axis=0), mean[label], atol=0.15)
        np.testing.assert_allclose(own.std(axis=0), np.sqrt(variance[label]), rtol=0.06)


@pytest.mark.parametrize("kind", [LOCEClassifier, BACLClassifier])
def test_evaluation_draws_nothing(kind: type) -> None:
    torch.manual_seed(0)
    classifier, base = kind(4, 3), {LOCEClassifier: EquilibriumClassifier, BACLClassifier: FCBLClassifier}[kind](4, 3)
    for features, labels in batches(3):
        classifier.train().loss(classifier(features), labels)
    state = {name: value.clone() for name, value in classifier.state_dict().items()}
    base.load_state_dict({name: state[name] for name in base.state_dict()})
    features, labels = batches()[-1]
    found = classifier.eval().loss(classifier(features), labels)["loss_cls"]
    torch.testing.assert_close(found, base.eval().loss(base(features), labels)["loss_cls"])
    assert all(torch.equal(value, state[name]) for name, value in classifier.state_dict().items())
    assert torch.equal(classifier.scores(classifier(features)), base.scores(base(features)))


@pytest.mark.parametrize("kind", [LOCEClassifier, BACLClassifier])
def test_a_batch_without_foreground_and_labels_of_another_batch(kind: type) -> None:
    classifier = kind(4, 3).train()
    (features, _), *_ = batches()
    loss = classifier.loss(classifier(features), torch.full((12,), 4))["loss_cls"]
    loss.backward()
    assert loss.isfinite() and classifier.weight.grad.isfinite().all()
    with pytest.raises(ValueError, match="5 labels, but 12 features"):
        classifier.loss(classifier(features)[:5], torch.full((5,), 4))


@pytest.mark.parametrize("kind", [LOCEClassifier, BACLClassifier])
def test_two_processes_remember_as_one(kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """What each process has seen is gathered, or summed, over all before it is used."""
    (features, labels), *_ = batches()
    one, half, other = kind(4, 3), kind(4, 3), kind(4, 3)
    one.remember(features, labels)
    parts: list[Tensor] = []
    collect = lambda tensor: parts.append(tensor.clone()) or tensor  # noqa: E731
    for name in ("sum_over_processes", "rows_of_processes"):
        monkeypatch.setattr(feature_sampling, name, collect)
    other.remember(features[4:], labels[4:])
    monkeypatch.setattr(feature_sampling, "sum_over_processes", lambda tensor: tensor + parts.pop(0))
    monkeypatch.setattr(feature_sampling, "rows_of_processes", lambda tensor: torch.cat([tensor, parts.pop(0)]))
    half.remember(features[:4], labels[:4])
    for name, value in one.named_buffers():
        torch.testing.assert_close(dict(half.named_buffers())[name], value)


@pytest.mark.parametrize("kind", [LOCEClassifier, BACLClassifier])
def test_half_precision_and_extreme_logits(kind: type) -> None:
    torch.manual_seed(0)
    classifier = kind(4, 3).train()
    for features, labels in batches(3):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = classifier.loss(classifier(features), labels)["loss_cls"]
        loss.backward()
        assert loss.isfinite() and classifier.weight.grad.isfinite().all()
    extreme = torch.tensor([200.0, -200, 0, 200, -200]).half().repeat(len(features), 1)
    assert classifier.loss(extreme, labels)["loss_cls"].isfinite()
    scores = classifier.scores(extreme)
    assert scores.isfinite().all() and scores.min() >= 0 and scores.max() <= 1
