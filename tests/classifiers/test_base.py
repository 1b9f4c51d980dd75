"""Every Classifier is restored from its configuration and state, and keeps the shapes of the interface."""

import pytest
import torch
from mmdet.models.layers import NormedLinear

from imbalance_bench.classifiers import (
    CLASSIFIERS,
    ACSLClassifier,
    BACLClassifier,
    BalancedSigmoidClassifier,
    Classifier,
    ClassWeightedSigmoidClassifier,
    DropLossClassifier,
    DualHeadClassifier,
    ECMClassifier,
    EQLClassifier,
    EQLv2Classifier,
    EquilibriumClassifier,
    FCBLClassifier,
    FederatedClassifier,
    GroupSoftmaxClassifier,
    GumbelClassifier,
    H2TClassifier,
    IIFClassifier,
    IsotonicClassifier,
    LOCEClassifier,
    LogitTransformClassifier,
    LogNClassifier,
    LOSClassifier,
    NCMClassifier,
    ReleasedFocalClassifier,
    RepairClassifier,
    SeesawClassifier,
    ShiftedSoftmaxClassifier,
    SigmoidClassifier,
    SigmoidFocalClassifier,
    SoftmaxClassifier,
    TauNormSelectClassifier,
    build,
)

EXAMPLES = [
    SoftmaxClassifier(5, 8),
    SoftmaxClassifier(5, 8, [0.1, 1, 2, 3, 4, 1]),
    SoftmaxClassifier(5, 8, cosine=20.0),
    GroupSoftmaxClassifier(5, 8, [1, 2, 2, 1, 3]),
    GroupSoftmaxClassifier(5, 8, [1, 2, 2, 1, 3], beta="n", others=False, background=False),
    GroupSoftmaxClassifier(5, 8, [1, 2, 2, 1, 3], background_loss="sigmoid", cosine=20.0),
    SigmoidFocalClassifier(5, 8),
    SigmoidFocalClassifier(5, 8, cosine=20.0),
    ReleasedFocalClassifier(5, 8, gamma=1.0),
    NCMClassifier(5, 8, 8),
    NCMClassifier(5, 20, 8, scale=20.0, taps=("conv", "fc")),
    LogNClassifier(5, 8),
    LogNClassifier(5, 8, 0.0, cosine=20.0),
    LogitTransformClassifier(5, 8),
    LogitTransformClassifier(5, 8, shift=True, gate=True, background=False, loss_weights=[0.1, 1, 2, 3, 4, 1]),
    ShiftedSoftmaxClassifier(5, 8, [-1, -2, 0, -3, -4, 0]),
    ShiftedSoftmaxClassifier(5, 8, [-1, -2, 0, -3, -4, 0], margin=True, cosine=30.0),
    BalancedSigmoidClassifier(5, 8, [-1, -2, 0, -3, -4]),
    EquilibriumClassifier(5, 8),
    SeesawClassifier(5, 8),
    SeesawClassifier(5, 8, cosine=None),
    SigmoidClassifier(5, 8),
    SigmoidClassifier(5, 8, "objectness", cosine=20.0),
    SigmoidClassifier(5, 8, "own"),
    EQLv2Classifier(5, 8),
    EQLClassifier(5, 8, [True, False, True, False, False]),
    DropLossClassifier(5, 8, [True, False, True, False, False]),
    FederatedClassifier(5, 8, [1, 2, 30, 4, 0], sampled=3),
    ECMClassifier(5, 8, [1, 2, 30, 4, 0]),
    ACSLClassifier(5, 8, "rcfff"),
    BalancedSigmoidClassifier(5, 8, [0.5, 0.1, 0.01, 0.001, 0.3]),
    FCBLClassifier(5, 8),
    BACLClassifier(5, 8),
    LOCEClassifier(5, 8),
    LOCEClassifier(5, 8, cosine=20.0),
    EquilibriumClassifier(5, 8, cosine=20.0),
    DualHeadClassifier(5, 8, [True, False, True, False, False]),
    ShiftedSoftmaxClassifier(5, 8, [-1, -2, 0, -3, -4, 0], True, 30.0, [0.1, 1, 2, 3, 4, 1]),
    GumbelClassifier(5, 8),
    ClassWeightedSigmoidClassifier(5, 8, [0.1, 0.5, 1, 1.4, 2]),
    H2TClassifier(5, 8),
    H2TClassifier(5, 8, cosine=20.0),
    IIFClassifier(5, 8, [0.5, 1, 2, 3, 4, 1]),
    IIFClassifier(5, 8, [0.5, 1, 2, 3, 4, 1], cosine=20.0),
    IsotonicClassifier(5, 8),
    LOSClassifier(5, 8),
    RepairClassifier(5, 8, [1, 2, 30, 4, 0], shortlist=3, tau=1.0),
    TauNormSelectClassifier(5, 8),
    TauNormSelectClassifier(5, 8, tail=[0, 3]),
]


@pytest.mark.parametrize("classifier", EXAMPLES, ids=lambda c: type(c).__name__)
def test_contract(classifier: Classifier) -> None:
    for tensor in classifier.state_dict().values():
        if tensor.is_floating_point():
            torch.nn.init.normal_(tensor, std=0.3)
    twin = build(classifier.config())
    assert type(twin) is type(classifier)
    twin.load_state_dict(classifier.state_dict())
    features, labels = torch.randn(7, classifier.feature_dim), torch.tensor([0, 1, 2, 3, 4, 5, 5])
    logits = classifier(features)
    scores = classifier.scores(logits)
    assert torch.equal(scores, twin.scores(twin(features)))
    assert scores.shape == (7, 6)
    assert torch.all(scores >= 0)
    assert torch.all(scores <= 1)
    losses = classifier.loss(logits, labels)
    assert all(loss.dim() == 0 and loss.isfinite() for loss in losses.values())
    assert classifier.class_weights().shape[0] == 6
    assert classifier.class_biases().shape == (6,)
    assert not classifier.class_weights().requires_grad
    own = classifier.category_logits(logits)
    assert own.shape == (7, 6)
    if not isinstance(classifier, NCMClassifier) and not getattr(classifier, "gate", False):
        read = torch.nn.functional.normalize(features, dim=1) if getattr(classifier, "cosine", None) else features
        expected = read @ classifier.class_weights().T + classifier.class_biases()
        torch.testing.assert_close(own, expected, rtol=1e-4, atol=1e-5, equal_nan=True)
    assert bool(classifier.class_weights()[-1].isnan().all()) != classifier.has_background_row
    assert classifier.scores(classifier(features[:0])).shape == (0, 6)


def test_every_classifier_has_an_example() -> None:
    assert set(CLASSIFIERS) == {type(example).__name__ for example in EXAMPLES}


@pytest.mark.parametrize(
    "config", [{"type": "Unknown"}, {}, {"type": "SoftmaxClassifier", "classes": 3}, {"type": "SoftmaxClassifier"}]
)
def test_bad_configurations(config: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="classifier"):
        build(config)


def test_sizes_are_checked() -> None:
    with pytest.raises(ValueError, match=">= 1"):
        SoftmaxClassifier(0, 4)


def test_a_cosine_is_mmdets() -> None:
    theirs = NormedLinear(8, 6, temperature=20)
    ours = SoftmaxClassifier(5, 8, cosine=20.0)
    ours.load_state_dict(theirs.state_dict())
    features = torch.randn(4, 8)
    torch.testing.assert_close(ours(features), theirs(features), rtol=1e-4, atol=1e-4)  # theirs adds 1e-6 to norms
    torch.testing.assert_close(ours.class_weights().norm(dim=1), torch.full((6,), 20.0))
