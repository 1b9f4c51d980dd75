"""Nearest class mean: its rows, and the reason why background wins at temperature 1."""

import math

import pytest
import torch

from imbalance_bench.classifiers import NCMClassifier, SoftmaxClassifier


def trained(classes: int, dim: int) -> SoftmaxClassifier:
    torch.manual_seed(0)
    base = SoftmaxClassifier(classes, dim).double()
    torch.nn.init.normal_(base.weight)
    torch.nn.init.normal_(base.bias)
    return base


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
