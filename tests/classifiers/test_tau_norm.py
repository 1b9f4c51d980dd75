"""tau-normalisation and its selective variant against loops."""

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


@pytest.mark.parametrize("tail", [None, [0, 2], []])
def test_select_is_the_loop(tail: list[int] | None) -> None:
    base = trained()
    select = TauNormSelectClassifier.from_base(base, tail=tail).double()
    normalized = tau_norm(base, normalize_background=False).double()
    features = 2 * torch.randn(200, 6, dtype=torch.float64)
    scores = select.scores(select(features))
    took = 0
    for f, row in zip(features, scores, strict=True):
        trained_scores, tau_scores = base(f[None]).softmax(1)[0], normalized(f[None]).softmax(1)[0]
        use_tau = int(trained_scores.argmax()) != 4 and (tail is None or int(tau_scores.argmax()) in tail)
        took += use_tau
        assert torch.allclose(row, tau_scores if use_tau else trained_scores, atol=1e-5)
    assert (took == 0) == (tail == []), "both sides of the rule are seen"
    assert took < 200
    assert torch.allclose(select.class_weights()[:4].norm(dim=1), torch.ones(4).double(), atol=1e-6)


def test_a_background_proposal_is_never_lost() -> None:
    base = trained()
    select = TauNormSelectClassifier.from_base(base).double()
    features = 3 * torch.randn(500, 6, dtype=torch.float64)
    background = base(features).argmax(1) == 4
    assert torch.all(select.scores(select(features)).argmax(1)[background] == 4)
