"""The hosting head is mmdet's own head when it hosts softmax, and scores as the cache does whatever it hosts."""

import pytest
import torch
from mmdet.models.roi_heads.bbox_heads import Shared2FCBBoxHead, Shared4Conv1FCBBoxHead
from mmdet.registry import MODELS
from torch import Tensor

from imbalance_bench.classifiers import (
    Classifier,
    GroupSoftmaxClassifier,
    NCMClassifier,
    SigmoidFocalClassifier,
    SoftmaxClassifier,
    TauNormSelectClassifier,
)
from imbalance_bench.detectors.mmdet.bbox_head import ClassifierBBoxHead, branch_features

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
    features = torch.cat([taps[tap] for tap in classifier.taps], dim=1)
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
    assert torch.equal(taps["conv"], x.flatten(1))


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
