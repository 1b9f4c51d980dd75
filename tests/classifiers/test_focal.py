"""Focal loss as published and as released: limit cases, and the collapse of background."""

import math

import pytest
import torch

from imbalance_bench.classifiers import ReleasedFocalClassifier, SigmoidFocalClassifier


def term(z: float, positive: bool) -> float:
    p = 1 / (1 + math.exp(-z))
    return -0.25 * (1 - p) ** 2 * math.log(p) if positive else -0.75 * p**2 * math.log(1 - p)


@pytest.mark.parametrize("classifier", [SigmoidFocalClassifier(3, 2), ReleasedFocalClassifier(3, 2)])
def test_gradients(classifier: SigmoidFocalClassifier | ReleasedFocalClassifier) -> None:
    torch.manual_seed(0)
    logits = torch.randn(5, len(classifier.weight), dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 2, 3, 3, 1])
    assert torch.autograd.gradcheck(lambda z: classifier.loss(z, labels)["loss_cls"], logits)


def test_fixed_loss_without_foreground_is_finite() -> None:
    loss = SigmoidFocalClassifier(3, 2).loss(torch.zeros(4, 3), torch.full((4,), 3))["loss_cls"]
    assert loss.item() == pytest.approx(12 * term(0, False), rel=1e-6)


def test_fixed_scores() -> None:
    scores = SigmoidFocalClassifier(2, 2).scores(torch.tensor([[0.0, 2.0], [-3.0, -4.0]]))
    p = [1 / (1 + math.exp(-z)) for z in (0, 2, -3, -4)]
    assert scores[0].tolist() == pytest.approx([p[0], p[1], 1 - p[1]])
    assert scores[1].tolist() == pytest.approx([p[2], p[3], 1 - p[2]])
    classifier = SigmoidFocalClassifier(2, 2)
    assert classifier.class_weights().shape == (3, 2)
    assert classifier.class_weights()[-1].isnan().all()
    assert classifier.class_biases()[-1].isnan()
    assert classifier.class_biases()[0].item() == pytest.approx(-math.log(99), rel=1e-5)


def train(classifier: torch.nn.Module, features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    optimizer = torch.optim.SGD(classifier.parameters(), lr=5.0, momentum=0.9)
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        rows = torch.randperm(len(labels), generator=generator)[:128]
        optimizer.zero_grad()
        classifier.loss(classifier(features[rows]), labels[rows])["loss_cls"].backward()  # type: ignore[operator]
        optimizer.step()
    return classifier.scores(classifier(features)).argmax(dim=1)  # type: ignore[operator]


def test_only_the_fixed_one_learns_background() -> None:
    """Why Table 1 rows 8 and 9 lose background: separable clusters, nine tenths background."""
    torch.manual_seed(0)
    labels = torch.cat([torch.randint(60, (200,)), torch.full((1800,), 60)])
    features = 2 * torch.eye(61)[labels] + 0.3 * torch.randn(2000, 61)
    background = labels == 60
    fixed = train(SigmoidFocalClassifier(60, 61), features, labels)
    assert (fixed == labels)[background].float().mean() > 0.97
    released = ReleasedFocalClassifier(60, 61)
    # As in the paper, from a classifier that already knows its classes.
    with torch.no_grad():
        released.weight.copy_(torch.eye(61) * 2)
    before = (released.scores(released(features)).argmax(dim=1) == labels)[background].float().mean()
    after = (train(released, features, labels) == labels)[background].float().mean()
    assert before > 0.97
    assert after < 0.1
