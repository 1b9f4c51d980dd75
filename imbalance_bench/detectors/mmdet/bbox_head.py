"""The box head that hosts any Classifier, and the taps it reads features from."""

from __future__ import annotations

from typing import Any

import torch
from mmdet.models.roi_heads.bbox_heads import ConvFCBBoxHead
from mmdet.registry import MODELS
from torch import Tensor, nn

from imbalance_bench.classifiers import Classifier, build
from imbalance_bench.detectors.mmdet.class_boxes import share_boxes


def branch_features(head: ConvFCBBoxHead, roi_features: Tensor) -> dict[str, Tensor]:
    """Features that classifiers and the box regressor read, from pooled RoI features.

    Works on mmdet's own ConvFCBBoxHead as well as on the hosting head.

    Args:
        head: the box head.
        roi_features: (N, channels, h, w) output of RoIAlign.

    Returns:
        ``conv``: (N, channels * h * w) flattened RoIAlign; ``fc`` and ``fc_pre_relu``: (N, d) after and before
        the last ReLU of the classification branch; ``reg``: (N, d) input of the box regressor.
    """
    taps = {"conv": roi_features.flatten(1)}
    shared = roi_features
    for conv in head.shared_convs:
        shared = conv(shared)
    shared, taps["fc_pre_relu"] = _fully_connected(head, shared, head.shared_fcs)
    taps["fc"], pre_relu = _branch(head, shared, head.cls_convs, head.cls_fcs)
    if len(head.cls_fcs) or not len(head.shared_fcs):
        taps["fc_pre_relu"] = pre_relu
    taps["reg"], _ = _branch(head, shared, head.reg_convs, head.reg_fcs)
    return taps


def _branch(head: ConvFCBBoxHead, x: Tensor, convs: nn.ModuleList, fcs: nn.ModuleList) -> tuple[Tensor, Tensor]:
    """One of the head's two branches: (after, before) its last ReLU."""
    for conv in convs:
        x = conv(x)
    if len(fcs) or x.dim() > 2:
        return _fully_connected(head, x, fcs, flatten=True)
    return x, x


def _fully_connected(
    head: ConvFCBBoxHead, x: Tensor, fcs: nn.ModuleList, flatten: bool = False
) -> tuple[Tensor, Tensor]:
    """Pool, flatten and a chain of fully connected layers: (after, before) the last ReLU."""
    if (len(fcs) or flatten) and x.dim() > 2:
        x = (head.avg_pool(x) if head.with_avg_pool else x).flatten(1)
    pre_relu = x
    for fc in fcs:
        pre_relu = fc(x)
        x = pre_relu.relu()
    return x, pre_relu


class _HostedLoss(nn.Module):
    """mmdet's protocol of a custom classification loss, answered by the hosted classifier."""

    custom_cls_channels = True
    custom_activation = True
    custom_accuracy = True

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        # In a tuple, so that the classifier stands in the state dict once, as fc_cls.
        self._classifier = (classifier,)

    def forward(self, cls_score: Tensor, labels: Tensor, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Losses of the hosted classifier; every sampled RoI weighs 1 (``pos_weight=-1``)."""
        return self._classifier[0].loss(cls_score, labels)

    def get_activation(self, cls_score: Tensor) -> Tensor:
        """(N, C + 1) scores."""
        return self._classifier[0].scores(cls_score)

    def get_accuracy(self, cls_score: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Share of RoIs whose best score is their label's, in percent, as mmdet logs it."""
        with torch.no_grad():
            predicted = self._classifier[0].scores(cls_score).argmax(dim=1)
            return {"acc": 100 * (predicted == labels).float().mean()}


@MODELS.register_module()
class ClassifierBBoxHead(ConvFCBBoxHead):
    """mmdet's convolutional and fully connected box head around any Classifier.

    The classifier is the module ``fc_cls``, so a softmax classifier's state dict is that of mmdet's own head.

    Args:
        classifier: configuration of the Classifier (``Classifier.config()``); its ``feature_dim`` may be left
            out, and is then the width of the taps it reads.
        shared_boxes: beside the class-specific box regressors stands one that all classes share (``SharedRows``).
        kwargs: of mmdet's ConvFCBBoxHead.
    """

    def __init__(self, classifier: dict[str, Any], shared_boxes: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if shared_boxes:
            share_boxes(self.fc_reg)
        config = {"feature_dim": self.cls_last_dim, "num_classes": self.num_classes, **classifier}
        hosted = build(config)
        if hosted.num_classes != self.num_classes:
            raise ValueError(f"classifier has {hosted.num_classes} classes, the box head has {self.num_classes}")
        self.fc_cls = hosted
        self.loss_cls = _HostedLoss(hosted)
        # These have initialised themselves.
        own = [{"name": "fc_cls"}, *([{"name": "fc_reg"}] if shared_boxes else [])]
        self.init_cfg: list[dict[str, Any]] = [cfg for cfg in self.init_cfg if cfg.get("override") not in own]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, channels, h, w) RoI features -> (N, K) logits and box deltas."""
        features = branch_features(self, x)
        logits = self.fc_cls(torch.cat([features[tap] for tap in self.fc_cls.taps], dim=1))
        return logits, self.fc_reg(features["reg"])
