"""Feature memory and hallucination against slow ones; what they draw, and what of it reaches the loss."""

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
def test_memory_holds_the_last_of_each_class(size: int) -> None:
    memory, queues = FeatureMemory(4, 3, size), [deque(maxlen=size) for _ in range(4)]
    for features, labels in batches():
        own = labels < 4
        memory.push(features[own], labels[own])
        for feature, label in zip(features[own], labels[own].tolist(), strict=True):
            queues[label].append(tuple(feature.tolist()))
        assert memory.filled.tolist() == [len(queue) for queue in queues]
        for label, queue in enumerate(queues):
            kept = memory.features[label, : len(queue)].float().tolist()
            assert sorted(map(tuple, kept)) == sorted(queue)
    drawn = memory.draw(torch.tensor([0] * 200 + [3] * 200)).float()
    for label, part in ((0, drawn[:200]), (3, drawn[200:])):
        assert {tuple(row) for row in part.tolist()} == set(queues[label])


def test_drawn_classes() -> None:
    rates = torch.tensor([1.0, 3.0, 0.0, 6.0])
    torch.manual_seed(0)
    draws = torch.stack([draw_classes(rates, 1, 2) for _ in range(2000)])
    assert torch.equal(draws[:, 0], draws[:, 1])
    np.testing.assert_allclose(torch.bincount(draws[:, 0], minlength=4) / 2000, rates / rates.sum(), atol=0.04)
    assert sorted(draw_classes(rates, 8, 1).tolist()) == [0, 1, 3], "without replacement, none of rate 0"
    assert len(draw_classes(torch.zeros(4), 8, 4)) == 0


def test_drawn_features_are_rois_of_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss is the base's on the batch and what was drawn, which comes from the batches before."""
    torch.manual_seed(0)
    ours, plain = LOCEClassifier(4, 3).train(), EquilibriumClassifier(4, 3).train()
    plain.weight.data, plain.bias.data = ours.weight.data, ours.bias.data
    seen: list[tuple[Tensor, Tensor]] = []
    original = LOCEClassifier.drawn
    monkeypatch.setattr(LOCEClassifier, "drawn", lambda self: seen.append(original(self)) or seen[-1])
    pushed: set[tuple[float, ...]] = set()
    for step, (features, labels) in enumerate(batches()):
        found = ours.loss(ours(features), labels)["loss_cls"]
        drawn, own = seen[-1]
        assert (len(own) > 0) == (step > 0)
        assert set(own.tolist()) <= {0, 1, 3}
        assert {tuple(row) for row in drawn.float().tolist()} <= pushed
        everything = torch.cat([features, drawn.float()])
        expected = plain.loss(plain(everything), torch.cat([labels, own]))["loss_cls"]
        torch.testing.assert_close(found, expected)
        pushed |= {tuple(row) for row in features[labels < 4].tolist()}
    assert len(seen[-1][1]) == 3 * 4, "four features of each of the classes there are"
    found.backward()
    assert ours.weight.grad is not None and ours.weight.grad.abs().sum() > 0


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
    rates = torch.tensor([5.0, 5.0, 5.0, 10 / 6])
    drawn = torch.cat([bacl.drawn()[1] for _ in range(2000)])
    np.testing.assert_allclose(torch.bincount(drawn, minlength=4) / 2000, rates / rates.sum(), atol=0.04)


def test_hallucinated_features() -> None:
    classifier = BACLClassifier(4, 3, decay=0.1)
    mean, square = np.zeros((4, 3)), np.zeros((4, 3))
    seen: set[int] = set()
    for features, labels in batches():
        own = labels < 4
        classifier.remember(features[own], labels[own])
        for label in set(labels[own].tolist()):
            rows = features[labels == label].double().numpy()
            weight = 0.1 if label in seen else 1.0
            mean[label] = (1 - weight) * mean[label] + weight * rows.mean(axis=0)
            square[label] = (1 - weight) * square[label] + weight * (rows**2).mean(axis=0)
            seen.add(label)
    np.testing.assert_allclose(classifier.feature_mean, mean, atol=1e-6)
    np.testing.assert_allclose(classifier.feature_square, square, atol=1e-6)
    assert classifier.seen.tolist() == [True, True, False, True]
    torch.manual_seed(0)
    classifier.each = 5000
    features, labels = classifier.drawn()
    for label in (0, 1, 3):
        own = features[labels == label].double().numpy()
        assert len(own) == 5000
        np.testing.assert_allclose(own.mean(axis=0), mean[label], atol=0.06)
        np.testing.assert_allclose(own.std(axis=0), np.sqrt(square[label] - mean[label] ** 2), rtol=0.06)
    assert 2 not in labels


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
    own = labels < 4
    features, labels = features[own], labels[own]
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
