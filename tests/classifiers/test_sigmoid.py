"""The weighted sigmoid core, and the Gumbel activation, against one slow oracle."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from imbalance_bench.classifiers import GumbelClassifier, SigmoidClassifier
from imbalance_bench.classifiers.sigmoid import Weights

LABELS = torch.tensor([0, 1, 2, 3, 4, 4, 0, 0])
BACKGROUNDS = [("none", 4), ("objectness", 5), ("own", 5)]


def oracle(
    logits: np.ndarray,
    labels: list[int],
    weight: Callable[[int, int], float],
) -> float:
    """Sum over classes of weighted binary cross entropies, mean over RoIs; ``weight(roi, column)``."""
    total = 0.0
    for i, row in enumerate(logits):
        for j, z in enumerate(row):
            p = 1 / (1 + np.exp(-float(z)))
            total -= weight(i, j) * (np.log(p) if labels[i] == j else np.log(1 - p))
    return total / len(logits)


def random(width: int, scale: float = 2.0) -> Tensor:
    return scale * torch.randn(8, width, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize(("background", "width"), BACKGROUNDS)
def test_plain(background: str, width: int) -> None:
    classifier, logits = SigmoidClassifier(4, 6, background), random(width)
    expected = oracle(logits.double().numpy(), LABELS.tolist(), lambda i, j: 1.0)
    assert float(classifier.loss(logits, LABELS)["loss_cls"]) == pytest.approx(expected, rel=1e-5)
    scores, p = classifier.scores(logits).numpy(), 1 / (1 + np.exp(-logits.numpy()))
    if background == "none":
        expected_scores = np.column_stack([p, 1 - p.max(axis=1)])
    else:
        seen = 1 - p[:, 4:] if background == "objectness" else 1
        expected_scores = np.column_stack([p[:, :4] * seen, p[:, 4]])
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-5)


@pytest.mark.parametrize(("background", "width"), BACKGROUNDS)
def test_given_weights_and_shift(background: str, width: int) -> None:
    generator = torch.Generator().manual_seed(6)
    positive, negative, shift = (torch.rand(8, width, generator=generator, dtype=torch.float64) for _ in range(3))

    class Weighted(SigmoidClassifier, base=True):
        def weights(self, logits: Tensor, labels: Tensor, target: Tensor) -> Weights:
            return Weights(positive[0], negative, shift)

    logits = random(width).double().requires_grad_()
    classifier = Weighted(4, 6, background)

    def weight(i: int, j: int) -> float:
        return float(positive[0, j] if LABELS[i] == j else negative[i, j])

    expected = oracle((logits + shift).detach().numpy(), LABELS.tolist(), weight)
    assert classifier.loss(logits, LABELS)["loss_cls"].item() == pytest.approx(expected, rel=1e-12)
    assert torch.autograd.gradcheck(lambda z: classifier.loss(z, LABELS)["loss_cls"], logits)


def test_a_batch_of_lvis_in_half_precision_is_that_in_single() -> None:
    classifier, labels = SigmoidClassifier(1230, 4), torch.full((512,), 1230)
    logits = torch.zeros(512, 1230)
    assert float(classifier.loss(logits, labels)["loss_cls"]) == pytest.approx(1230 * np.log(2), rel=1e-5)
    for dtype in (torch.float16, torch.bfloat16):
        torch.testing.assert_close(classifier.loss(logits.to(dtype), labels), classifier.loss(logits, labels))


def test_it_starts_at_a_prior_from_which_positives_are_learnt() -> None:
    classifier = SigmoidClassifier(4, 6)
    logits = classifier(torch.zeros(4, 6))
    torch.testing.assert_close(classifier.scores(logits)[:, :4], torch.full((4, 4), 0.01))
    classifier.loss(logits, torch.arange(4))["loss_cls"].backward()
    assert classifier.bias.grad is not None
    assert (classifier.bias.grad < -0.2).all()


def test_no_roi() -> None:
    for background, width in BACKGROUNDS:
        assert SigmoidClassifier(4, 6, background).loss(torch.zeros(0, width), LABELS[:0])["loss_cls"] == 0


def test_gumbel_at_the_ends_of_its_clamp() -> None:
    logits = torch.tensor([[-50.0, 50.0, 10.0, -4.0]], requires_grad=True)
    classifier = GumbelClassifier(4, 6)
    loss = classifier.loss(logits, torch.tensor([0]))["loss_cls"]
    assert loss.item() == pytest.approx(np.exp(4) + 2 * 10, rel=1e-3)
    (gradient,) = torch.autograd.grad(classifier.loss(logits, torch.tensor([4]))["loss_cls"], logits)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("arguments", [{"background": "some"}, {"num_classes": 0}])
def test_bad_arguments(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="expected"):
        SigmoidClassifier(**{"num_classes": 4, "feature_dim": 6, **arguments})  # type: ignore[arg-type]
