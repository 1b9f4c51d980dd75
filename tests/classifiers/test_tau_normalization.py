"""tau-normalisation, and what its selective variant does to background."""

import pytest
import torch

from imbalance_bench.classifiers import SoftmaxClassifier, TauNormSelectClassifier, tau_norm, tau_normalize


def trained() -> SoftmaxClassifier:
    torch.manual_seed(0)
    base = SoftmaxClassifier(4, 6).double()
    torch.nn.init.normal_(base.weight)
    torch.nn.init.normal_(base.bias)
    with torch.no_grad():
        base.weight[:, 0] *= 3
    return base


@pytest.mark.parametrize("tau", [0.0, 0.25, 1.0, 2.0])
def test_normalize_is_the_loop(tau: float) -> None:
    weight = trained().weight.detach()
    expected = torch.stack([row / float(row.norm()) ** tau for row in weight])
    assert torch.allclose(tau_normalize(weight, tau), expected)
    assert torch.all(tau_normalize(torch.zeros(2, 3), tau) == 0)


def test_tau_norm() -> None:
    base = trained()
    kept = tau_norm(base).double()
    assert torch.allclose(kept.weight.norm(dim=1), torch.ones(5).double(), atol=1e-6)
    assert torch.allclose(kept.bias, base.bias, atol=1e-6), "the bias is unchanged"
    assert torch.all(tau_norm(base, keep_bias=False).bias == 0)
    foreground_only = tau_norm(base, normalize_background=False)
    assert torch.allclose(foreground_only.weight[-1].double(), base.weight[-1], atol=1e-6)
    assert torch.allclose(tau_norm(base, tau=0.0).weight.double(), base.weight, atol=1e-6)


def test_background_is_called_as_the_trained_classifier_does() -> None:
    """ACC_bg of rows 1 and 13 is one number in Table 1; with background's row kept it would not be.

    A row of background that is longest and answers to every feature, biases of no weight: a class that wins against it
    wins by more when both are normalised.
    """
    generator = torch.Generator().manual_seed(0)
    base = SoftmaxClassifier(8, 32).double()
    directions = torch.rand(9, 32, generator=generator, dtype=torch.float64) ** 2
    with torch.no_grad():
        base.weight.copy_(torch.nn.functional.normalize(directions) * torch.linspace(1.2, 4, 9)[:, None])
        base.bias.zero_()
    kinds = torch.randint(9, (3000,), generator=generator)
    features = directions[kinds] + 0.05 * torch.rand(3000, 32, generator=generator, dtype=torch.float64)
    before = base(features).argmax(dim=1)
    paper, kept = (
        select.scores(select(features)).argmax(dim=1)
        for select in (
            TauNormSelectClassifier.from_base(base, normalize_background=row).double() for row in (True, False)
        )
    )
    assert torch.equal(paper == 8, before == 8)
    assert (paper != before).any()
    assert ((kept == 8) & (before != 8)).any()


def test_without_a_tail_nothing_is_taken() -> None:
    base = trained()
    select = TauNormSelectClassifier.from_base(base, tail=[]).double()
    features = torch.randn(50, 6, dtype=torch.float64)
    torch.testing.assert_close(select.scores(select(features)), base.scores(base(features)), atol=1e-5, rtol=0)
