"""The hosting head equals mmdet's head with softmax, and scores as the cache does with every classifier."""

import json
from pathlib import Path

import pytest
import torch
from mmdet.models.roi_heads.bbox_heads import Shared2FCBBoxHead, Shared4Conv1FCBBoxHead
from mmdet.registry import MODELS
from torch import Tensor

from imbalance_bench.classifiers import (
    ACSLClassifier,
    Classifier,
    DualHeadClassifier,
    EQLv2Classifier,
    EquilibriumClassifier,
    FCBLClassifier,
    GroupSoftmaxClassifier,
    LOCEClassifier,
    LogitTransformClassifier,
    LogNClassifier,
    NCMClassifier,
    ReleasedFocalClassifier,
    SeesawClassifier,
    ShiftedSoftmaxClassifier,
    SigmoidFocalClassifier,
    SoftmaxClassifier,
    TauNormSelectClassifier,
    build,
    class_balanced_weights,
    ldam_margins,
)
from imbalance_bench.detectors.mmdet.bbox_head import ClassifierBBoxHead, branch_features
from imbalance_bench.runtime.errors import InputError

SHIFT = [-1, -2, 0, -3, -4, 0]
WEIGHTS = [0.1, 1, 2, 3, 4, 1]
EVERY_LOSS = [
    SoftmaxClassifier(5, 16),
    SoftmaxClassifier(5, 16, WEIGHTS),
    GroupSoftmaxClassifier(5, 16, [1, 2, 2, 1, 3], beta=1.0),
    GroupSoftmaxClassifier(5, 16, [1, 2, 2, 1, 3], background_loss="sigmoid"),
    SigmoidFocalClassifier(5, 16),
    ReleasedFocalClassifier(5, 16),
    TauNormSelectClassifier(5, 16),
    NCMClassifier(5, 16, 16),
    LogNClassifier(5, 16),
    LogitTransformClassifier(5, 16, loss_weights=WEIGHTS),
    ShiftedSoftmaxClassifier(5, 16, SHIFT, True, 30.0),
    EquilibriumClassifier(5, 16),
    SeesawClassifier(5, 16),
    EQLv2Classifier(5, 16),
    ACSLClassifier(5, 16, "rcfff"),
    FCBLClassifier(5, 16),
    DualHeadClassifier(5, 16, [True, False, True, False, False]),
]

OPTIONS = {
    "in_channels": 8,
    "fc_out_channels": 16,
    "roi_feat_size": 7,
    "num_classes": 5,
    "reg_class_agnostic": True,
    "bbox_coder": {"type": "DeltaXYWHBBoxCoder", "target_stds": [0.1, 0.1, 0.2, 0.2]},
    "loss_bbox": {"type": "L1Loss"},
}


def hosting(classifier: dict | Classifier) -> ClassifierBBoxHead:
    config = classifier if isinstance(classifier, dict) else classifier.config()
    head = MODELS.build({"type": "mmdet.ClassifierBBoxHead", "classifier": config, "num_shared_fcs": 2, **OPTIONS})
    if isinstance(classifier, Classifier):
        head.fc_cls.load_state_dict(classifier.state_dict())
    return head


def targets(n: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    corners = torch.rand(n, 2, generator=generator) * 20
    return {
        "rois": torch.cat([torch.zeros(n, 1), corners, corners + 10], dim=1),
        "labels": torch.randint(6, (n,), generator=generator),
        "label_weights": torch.ones(n),
        "bbox_targets": torch.rand(n, 4, generator=generator),
        "bbox_weights": torch.ones(n, 4),
    }


def test_hosted_softmax_is_mmdets_head() -> None:
    torch.manual_seed(0)
    original = Shared2FCBBoxHead(loss_cls={"type": "CrossEntropyLoss"}, **OPTIONS)
    original.init_weights()
    head = hosting({"type": "SoftmaxClassifier"})
    head.load_state_dict(original.state_dict(), strict=True)
    x = torch.randn(12, 8, 7, 7)
    outputs, expected = head(x), original(x)
    assert torch.equal(outputs[0], expected[0])
    assert torch.equal(outputs[1], expected[1])
    losses, expected_losses = head.loss(*outputs, **targets(12)), original.loss(*expected, **targets(12))
    assert losses["loss_cls"].item() == pytest.approx(expected_losses["loss_cls"].item(), rel=1e-6)
    assert losses["loss_bbox"].item() == pytest.approx(expected_losses["loss_bbox"].item(), rel=1e-6)
    assert losses["acc"].item() == pytest.approx(expected_losses["acc"].item())


def test_initialisation_is_mmdets() -> None:
    head = hosting({"type": "SoftmaxClassifier"})
    torch.manual_seed(0)
    head.init_weights()
    assert head.fc_cls.weight.std().item() == pytest.approx(0.01, rel=0.3)
    assert head.fc_reg.weight.std().item() == pytest.approx(0.001, rel=0.3)


@pytest.mark.parametrize(
    "classifier",
    [
        SoftmaxClassifier(5, 16, [0.1, 1, 2, 3, 4, 1]),
        GroupSoftmaxClassifier(5, 16, [1, 2, 2, 1, 3]),
        SigmoidFocalClassifier(5, 16),
        TauNormSelectClassifier(5, 16),
        NCMClassifier(5, 16, 16, scale=20.0),
        NCMClassifier(5, 16, 16, taps=("fc_pre_relu",)),
        NCMClassifier(5, 8 * 49 + 16, 16, taps=("conv", "fc")),
    ],
    ids=lambda c: type(c).__name__,
)
def test_hosted_scores_and_losses_are_the_classifiers(classifier: Classifier) -> None:
    for tensor in classifier.state_dict().values():
        if tensor.is_floating_point():
            torch.nn.init.normal_(tensor, std=0.3)
    head = hosting(classifier)
    assert sum("fc_cls" in name for name in head.state_dict()) == len(classifier.state_dict())
    x = torch.randn(12, 8, 7, 7)
    taps = branch_features(head, x)
    features = torch.cat([taps[tap].flatten(1) for tap in classifier.taps], dim=1)
    logits, deltas = head(x)
    hosted = head.loss_cls.get_activation(logits)
    assert torch.equal(hosted, classifier.scores(classifier(features)))
    torch.manual_seed(3)
    losses = head.loss(logits, deltas, **targets(12))
    torch.manual_seed(3)
    for name, value in classifier.loss(classifier(features), targets(12)["labels"]).items():
        assert losses[name].item() == pytest.approx(value.item(), rel=1e-6)


def test_taps_of_other_heads() -> None:
    torch.manual_seed(0)
    options = {k: v for k, v in OPTIONS.items() if k != "fc_out_channels"}
    head = Shared4Conv1FCBBoxHead(
        loss_cls={"type": "CrossEntropyLoss"}, conv_out_channels=8, fc_out_channels=16, **options
    )
    x = torch.randn(3, 8, 7, 7)
    taps = branch_features(head, x)
    logits, deltas = head(x)
    assert torch.allclose(head.fc_cls(taps["fc"]), logits)
    assert torch.allclose(head.fc_reg(taps["reg"]), deltas)
    assert torch.equal(taps["fc"], taps["fc_pre_relu"].relu())
    assert torch.equal(taps["conv"], x)


def test_a_classifier_of_another_width() -> None:
    with pytest.raises(ValueError, match="has 4 classes, the box head has 5"):
        hosting({"type": "SoftmaxClassifier", "num_classes": 4})


def test_shared_boxes_are_the_mean_of_the_class_s_own_and_all_classes() -> None:
    torch.manual_seed(0)
    options = OPTIONS | {"reg_class_agnostic": False, "shared_boxes": True}
    config = SoftmaxClassifier(5, 16).config()
    head = MODELS.build({"type": "mmdet.ClassifierBBoxHead", "classifier": config, "num_shared_fcs": 2, **options})
    head.init_weights()
    names = [name for name, _ in head.named_parameters() if name.startswith("fc_reg.")]
    assert len(names) == 4
    for _, parameter in head.fc_reg.named_parameters():
        torch.nn.init.normal_(parameter)
    parts = head.fc_reg.parametrizations
    x = torch.randn(3, 16)
    own = x @ parts.weight.original.T + parts.bias.original
    shared = x @ parts.weight[0].shared.T + parts.bias[0].shared
    expected = (own.view(3, 5, 4) + shared[:, None]) / 2
    torch.testing.assert_close(head.fc_reg(x).view(3, 5, 4), expected)
    head.fc_reg(x)[:, :4].sum().backward()
    assert parts.weight[0].shared.grad.abs().sum() > 0, "all classes train what they share"
    assert parts.weight.original.grad[4:].abs().sum() == 0
    twin = MODELS.build({"type": "mmdet.ClassifierBBoxHead", "classifier": config, "num_shared_fcs": 2, **options})
    twin.load_state_dict(head.state_dict())
    assert torch.equal(twin.fc_reg(x), head.fc_reg(x))


def weighed(classifier: Classifier, weights: Tensor, **options: object) -> dict[str, Tensor]:
    """What the head's loss gives for RoIs of some weights, all random numbers drawn anew."""
    torch.manual_seed(3)
    head = hosting(classifier)
    logits = head.fc_cls(torch.randn(12, 16, generator=torch.Generator().manual_seed(4)))
    torch.manual_seed(5)
    return head.loss_cls(logits, targets(12)["labels"], weights, **options)


@pytest.mark.parametrize("classifier", EVERY_LOSS, ids=lambda c: type(c).__name__)
def test_rois_are_weighed(classifier: Classifier) -> None:
    plain = weighed(classifier, torch.ones(12), avg_factor=12)
    each = weighed(classifier, torch.ones(12), reduction_override="none")["loss_cls"]
    assert each.shape == (12,)
    assert each.mean().item() == pytest.approx(sum(plain.values()).item(), rel=1e-5)
    weights = torch.linspace(0.5, 3, 12)
    parts = weighed(classifier, weights, avg_factor=5)
    assert parts.keys() == plain.keys()
    assert sum(parts.values()).item() == pytest.approx((weights * each).sum().item() / 5, rel=1e-5)
    summed = weighed(classifier, torch.ones(12), avg_factor=12, reduction_override="sum")
    assert sum(summed.values()).item() == pytest.approx(each.sum().item(), rel=1e-5)


@pytest.mark.parametrize("classifier", [*EVERY_LOSS, LOCEClassifier(5, 16)], ids=lambda c: type(c).__name__)
def test_rois_of_weight_0_are_left_out_and_one_weight_scales(classifier: Classifier) -> None:
    head = hosting(classifier)
    features, labels = torch.randn(12, 16), targets(12)["labels"]
    head.fc_cls.eval()
    weights = torch.tensor([2.0] * 8 + [0.0] * 4)
    torch.manual_seed(5)
    found = head.loss_cls(head.fc_cls(features), labels, weights, avg_factor=8)
    torch.manual_seed(5)
    expected = head.fc_cls.loss(head.fc_cls(features[:8]), labels[:8])
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(2 * value.item(), rel=1e-5)
    none = head.loss_cls(head.fc_cls(features), labels, torch.zeros(12), avg_factor=1)
    assert none["loss_cls"].item() == 0


def test_what_cannot_be_weighed_is_refused() -> None:
    head = hosting(LOCEClassifier(5, 16))
    logits = head.fc_cls(torch.randn(12, 16))
    with pytest.raises(InputError, match="LOCEClassifier adds drawn RoIs to those of a batch"):
        head.loss_cls(logits, targets(12)["labels"], torch.linspace(1, 2, 12))


def test_looking_at_losses_leaves_no_trace() -> None:
    head = hosting(SeesawClassifier(5, 16))
    with torch.no_grad():
        head.loss_cls(head.fc_cls(torch.randn(12, 16)), targets(12)["labels"], reduction_override="none")
    assert head.fc_cls.counts.sum() == 0 and head.fc_cls.training


COUNTS = [3, 40, 0, 5000, 150]


def annotations(path: Path, ids: list[int]) -> str:
    """A training file whose categories are listed in this order, with so many boxes."""
    content = {
        "images": [{"id": 1}],
        "categories": [
            {"id": i, "name": f"class {i}", "instance_count": n, "image_count": n}
            for i, n in zip(ids, COUNTS, strict=False)
        ],
        "annotations": [],
    }
    path.write_text(json.dumps(content))
    return str(path)


@pytest.mark.parametrize("ids", [[1, 2, 3, 4, 5], [9, 4, 7, 1, 3]])
def test_counts_are_read_in_the_order_of_the_file(ids: list[int], tmp_path: Path) -> None:
    """So mmdet's data sets label, whatever the ids."""
    path = annotations(tmp_path / "train.json", ids)
    assert hosting({"type": "GroupSoftmaxClassifier", "categories": path}).fc_cls.groups == [1, 2, 1, 4, 3]
    assert hosting({"type": "ECMClassifier", "categories": path}).fc_cls.counts == COUNTS
    assert hosting({"type": "EQLClassifier", "categories": path}).fc_cls.tail == [True, True, True, False, False]
    assert hosting({"type": "ACSLClassifier", "categories": path}).fc_cls.frequencies == list("rcrff")
    assert hosting({"type": "SeesawClassifier", "categories": path}).fc_cls.p == 0.8
    reweighted = hosting({"type": "SoftmaxClassifier", "categories": path, "loss_weights": "counts"}).fc_cls
    assert reweighted.loss_weights == class_balanced_weights(COUNTS)
    assert hosting({"type": "SoftmaxClassifier", "categories": path}).fc_cls.loss_weights is None
    ldam = hosting({"type": "ShiftedSoftmaxClassifier", "margin": True, "cosine": 30.0, "categories": path}).fc_cls
    assert ldam.shift == ldam_margins(COUNTS)
    assert not ldam.changes_over_epochs
    twin = build(ldam.config())
    assert twin.shift == ldam.shift


def test_counts_that_do_not_fit(tmp_path: Path) -> None:
    path = annotations(tmp_path / "train.json", [1, 2, 3, 4])
    with pytest.raises(ValueError, match=r"field 'categories' has 4 classes, the box head 5 \(num_classes\)"):
        hosting({"type": "GroupSoftmaxClassifier", "categories": path})
    with pytest.raises(ValueError, match="loss_weights='counts' needs 'categories', which is missing"):
        hosting({"type": "SoftmaxClassifier", "loss_weights": "counts"})
    path = annotations(tmp_path / "train.json", [1, 2, 3, 4, 5])
    with pytest.raises(ValueError, match="training counts do not give 'cosine'"):
        hosting({"type": "SoftmaxClassifier", "cosine": "counts", "categories": path})
