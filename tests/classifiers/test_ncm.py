"""Nearest class mean against loops, and why temperature 1 makes background win."""

import math

import pytest
import torch
from torch import Tensor

from imbalance_bench.classifiers import NCMClassifier, SoftmaxClassifier


def trained(classes: int, dim: int) -> SoftmaxClassifier:
    torch.manual_seed(0)
    base = SoftmaxClassifier(classes, dim).double()
    torch.nn.init.normal_(base.weight)
    torch.nn.init.normal_(base.bias)
    return base


def slow_scores(centres: Tensor, embedding: Tensor, base_scores: Tensor, scale: float) -> Tensor:
    rows = []
    for f, p in zip(embedding, base_scores, strict=True):
        cosines = [float(f @ c) / max(float(f.norm() * c.norm()), 1e-300) for c in centres]
        exponentials = [math.exp(scale * cosine) for cosine in cosines]
        background = p[-1].item()
        rows.append([e / sum(exponentials) * (1 - background) for e in exponentials] + [background])
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("scale", [1.0, 20.0])
@pytest.mark.parametrize("taps", [("fc",), ("fc_pre_relu",), ("conv", "fc")])
def test_scores_are_the_loops(scale: float, taps: tuple[str, ...]) -> None:
    base = trained(3, 4)
    conv_dim = 6 if len(taps) == 2 else 4
    ncm = NCMClassifier.from_base(base, conv_dim, scale, taps).double()
    features = torch.randn(10, 10 if len(taps) == 2 else 4, dtype=torch.float64)
    labels = torch.tensor([0, 1, 1, 0, 3, 3, 1, 3, 0, 3])
    ncm.fit([(features[:4], labels[:4]), (features[4:], labels[4:])])
    embedding = features[:, :conv_dim]
    centres = torch.stack(
        [
            embedding[labels == c].mean(dim=0) if (labels == c).any() else torch.zeros(conv_dim).double()
            for c in range(3)
        ]
    )
    assert torch.allclose(ncm.centres, centres)
    read = features[:, -4:].relu() if taps == ("fc_pre_relu",) else features[:, -4:]
    base_scores = base.scores(base(read))
    scores = ncm.scores(ncm(features))
    assert torch.allclose(scores, slow_scores(centres, embedding, base_scores, scale), atol=1e-10)
    assert torch.allclose(scores[:, -1], base_scores[:, -1]), "background is the trained classifier's"
    expected = -sum(math.log(scores[i, labels[i]]) for i in range(10)) / 10
    assert ncm.loss(ncm(features), labels)["loss_cls"].item() == pytest.approx(expected)


def test_temperature_one_cannot_name_a_class() -> None:
    ncm = NCMClassifier(1230, 1230, 1230, taps=("fc",))
    ncm.centres.copy_(torch.eye(1230))
    with torch.no_grad():
        ncm.base_bias[-1] = -50  # the trained classifier is sure of foreground
    scores = ncm.scores(ncm(torch.eye(1230)[:5]))
    assert round(scores.max().item(), 4) <= 0.0022
    assert scores.max().item() == pytest.approx(math.e / (math.e + 1229), rel=1e-4)
    ncm.scale = 20.0
    assert ncm.scores(ncm(torch.eye(1230)[:5])).max().item() > 0.99


def test_centres_stand_for_weights() -> None:
    ncm = NCMClassifier.from_base(trained(3, 4), 4)
    ncm.fit([(torch.randn(8, 4), torch.tensor([0, 1, 2, 3, 3, 2, 1, 0]))])
    assert torch.equal(ncm.class_weights()[:3], ncm.centres)
    assert ncm.class_weights()[-1].isnan().all()
    assert ncm.class_biases().isnan().all()


def test_unknown_taps() -> None:
    with pytest.raises(ValueError, match="taps"):
        NCMClassifier(3, 4, 4, taps=("reg",))
