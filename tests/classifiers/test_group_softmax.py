"""BAGS: the numbers of LVIS v0.5, its draws and its gradient."""

import math

import pytest
import torch

from imbalance_bench.bins import LVIS_BIN_EDGES
from imbalance_bench.classifiers import GroupSoftmaxClassifier, group_edges, group_softmax, groups_by_count

SIZES = (294, 453, 302, 181)
"""Classes of LVIS v0.5 in the four groups."""
LVIS_GROUPS = [group for group, size in enumerate(SIZES, start=1) for _ in range(size)]


def lvis(**options: object) -> GroupSoftmaxClassifier:
    return GroupSoftmaxClassifier(1230, 2, LVIS_GROUPS, **options)  # type: ignore[arg-type]


def test_layout_of_lvis() -> None:
    classifier = lvis()
    assert classifier.weight.shape == (1236, 2)
    assert classifier.background_width == 2
    assert classifier.slices == [(2, 295), (297, 454), (751, 303), (1054, 182)]


def test_all_zero_logits() -> None:
    scores = lvis().scores(torch.zeros(1, 1236, dtype=torch.float64))[0]
    assert scores[-1].item() == pytest.approx(0.5)
    firsts = [0, 294, 294 + 453, 294 + 453 + 302]
    expected = [0.0016949, 0.0011013, 0.0016502, 0.0027473]
    assert scores[firsts].tolist() == pytest.approx(expected, abs=5e-8)


def test_loss_of_zero_logits_with_every_group_active() -> None:
    labels = torch.tensor([0, 300, 800, 1200, 1230, 1230])
    losses = lvis().loss(torch.zeros(6, 1236, dtype=torch.float64), labels)
    assert list(losses) == ["loss_bg", "loss_group1", "loss_group2", "loss_group3", "loss_group4"]
    assert sum(losses.values()).item() == pytest.approx(23.41596, abs=5e-6)


@pytest.mark.parametrize(("foreground", "counted"), [(0, 0), (3, 27), (113, 1017), (114, 1024), (200, 1024)])
def test_sampling_of_others(foreground: int, counted: int) -> None:
    mask = torch.arange(1024) < foreground
    (chosen,) = lvis()._sample(mask[None])
    assert int(chosen.sum()) == counted
    assert bool(chosen[mask].all())


def test_a_group_without_foreground_costs_exactly_nothing() -> None:
    logits = torch.randn(64, 1236, requires_grad=True)
    losses = lvis().loss(logits, torch.full((64,), 1230))
    assert [losses[f"loss_group{n}"].item() for n in (1, 2, 3, 4)] == [0, 0, 0, 0]
    sum(losses.values()).backward()
    assert logits.grad is not None
    assert torch.all(logits.grad[:, 2:] == 0)


def test_others_are_drawn_uniformly_and_by_seed() -> None:
    classifier = GroupSoftmaxClassifier(2, 2, [1, 1], beta=2)
    mask = torch.arange(20) < 3
    torch.manual_seed(0)
    (hits,) = sum(classifier._sample(mask[None]).float() for _ in range(4000)) / 4000
    assert torch.all(hits[:3] == 1)
    # 6 of 17 others; four standard deviations of a share over 4000 draws.
    assert torch.allclose(hits[3:], torch.full((17,), 6 / 17), atol=4 * math.sqrt(0.23 / 4000))
    samples = []
    for _ in range(2):
        torch.manual_seed(7)
        samples.append(classifier._sample(mask[None]))
    assert torch.equal(*samples)


def test_rows_follow_the_categories() -> None:
    classifier = GroupSoftmaxClassifier(4, 1, [2, 1, 2, 1])
    with torch.no_grad():
        classifier.weight[:, 0] = torch.arange(8.0)
        classifier.bias[:] = torch.arange(8.0) + 10
    # Logits: background, foreground, others 1, classes 1 and 3, others 2, classes 0 and 2.
    assert classifier.class_weights()[:, 0].tolist() == [6, 3, 7, 4, 0]
    assert classifier.class_biases().tolist() == [16, 13, 17, 14, 10]
    without = GroupSoftmaxClassifier(4, 1, [2, 1, 2, 1], background=False)
    assert without.class_weights()[-1].isnan().all()
    assert not without.has_background_row


def test_groups_by_count() -> None:
    counts = [0, 9, 10, 99, 100, 999, 1000, 26148]
    assert groups_by_count(counts, LVIS_BIN_EDGES) == [1, 1, 2, 2, 3, 3, 4, 4]
    assert groups_by_count(counts, group_edges(LVIS_BIN_EDGES, 2)) == [1, 1, 1, 1, 2, 2, 2, 2]
    assert groups_by_count([5, 2000], LVIS_BIN_EDGES) == [1, 2], "empty groups close up"


def test_group_edges_of_lvis() -> None:
    assert group_edges(LVIS_BIN_EDGES, 2) == (100,)
    assert group_edges(LVIS_BIN_EDGES, 4) == (10, 100, 1000)
    assert group_edges(LVIS_BIN_EDGES, 8) == (5, 10, 50, 100, 500, 1000, 5000)
    with pytest.raises(ValueError, match="2, or 8 for 4 bins"):
        group_edges(LVIS_BIN_EDGES, 3)


@pytest.mark.parametrize(
    "arguments",
    [{"groups": [1, 3, 3]}, {"groups": [1, 1]}, {"groups": [0, 1, 1]}, {"groups": [1, 1, 2], "beta": -1},
     {"groups": [1, 1, 2], "beta": "some"}, {"groups": [1, 1, 2], "background_loss": "hinge"}],
)  # fmt: skip
def test_bad_arguments(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="expected"):
        GroupSoftmaxClassifier(3, 4, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("beta", [0, 0.5, 2, 8.0])
def test_the_sample_on_a_cpu_is_the_one_of_ranks(beta: float) -> None:
    classifier = GroupSoftmaxClassifier(7, 3, [2, 1, 3, 1, 2, 3, 3], beta=beta)
    torch.manual_seed(1)
    labels = torch.randint(8, (60,))
    members = classifier.group_of_label[labels] == torch.arange(1, 4)[:, None]
    members[1] = False  # an empty group
    torch.manual_seed(2)
    counted = classifier._sample(members)
    torch.manual_seed(2)
    keys = torch.rand(members.shape).masked_fill(members, math.inf)
    most = (beta * members.sum(dim=1, keepdim=True)).floor()
    assert torch.equal(counted, members | (keys.argsort(dim=1).argsort(dim=1) < most))


def test_the_pass_over_all_rows_is_the_one_over_those_that_count() -> None:
    torch.manual_seed(0)
    logits, slices = torch.randn(40, 12, dtype=torch.float64), [(0, 2), (2, 4), (6, 6)]
    targets = torch.stack([torch.randint(length, (40,)) for _, length in slices])
    counted = torch.rand(3, 40) < torch.tensor([[1.1], [0.3], [0.0]])  # all, some, none
    gradients = [torch.zeros_like(logits) for _ in range(2)]
    passes = (group_softmax._on_all_rows, group_softmax._on_rows_that_count)
    losses = [
        one_pass(logits, gradient, slices, targets, counted)
        for one_pass, gradient in zip(passes, gradients, strict=True)
    ]
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*gradients)
    assert losses[0][2] == 0
    assert gradients[0][:, 6:].abs().sum() == 0


@pytest.mark.parametrize("beta", ["n", "all"])
@pytest.mark.parametrize("background_loss", ["softmax", "sigmoid"])
def test_losses_may_be_weighted(beta: str, background_loss: str) -> None:
    classifier = GroupSoftmaxClassifier(7, 3, [2, 1, 3, 1, 2, 3, 3], beta, background_loss=background_loss).double()
    torch.manual_seed(0)
    logits, labels = torch.randn(20, len(classifier.weight), dtype=torch.float64), torch.randint(8, (20,))
    assert torch.autograd.gradcheck(
        lambda z: sum(n * loss for n, loss in enumerate(classifier.loss(z, labels).values(), start=1)),
        logits.requires_grad_(),
    )
