"""The box head that hosts any Classifier, and the taps it reads features from."""

from __future__ import annotations

import logging
from typing import Any, cast

import torch
from mmdet.models.roi_heads.bbox_heads import ConvFCBBoxHead
from mmdet.registry import MODELS
from mmengine.logging import print_log
from torch import Tensor, nn

from imbalance_bench.categories import CategoryTable
from imbalance_bench.classifiers import Classifier, build
from imbalance_bench.detectors.mmdet import class_boxes
from imbalance_bench.runtime.errors import InputError


def branch_features(head: ConvFCBBoxHead, roi_features: Tensor) -> dict[str, Tensor]:
    """Compute the features that classifiers and the box regressor read, from pooled RoI features.

    Works on mmdet's own ConvFCBBoxHead as well as on the hosting head.

    Args:
        head: the box head.
        roi_features: (N, channels, h, w) output of RoIAlign.

    Returns:
        ``conv``: (N, channels, h, w) RoIAlign, to be flattened; ``fc`` and ``fc_pre_relu``: (N, d) after and before
        the last ReLU of the classification branch; ``reg``: (N, d) input of the box regressor.
    """
    taps = {"conv": roi_features}
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
    """Run one of the head's two branches; return the features after and before its last ReLU."""
    for conv in convs:
        x = conv(x)
    if len(fcs) or x.dim() > 2:
        return _fully_connected(head, x, fcs, flatten=True)
    return x, x


def _fully_connected(
    head: ConvFCBBoxHead, x: Tensor, fcs: nn.ModuleList, flatten: bool = False
) -> tuple[Tensor, Tensor]:
    """Pool, flatten and apply fully connected layers; return the features after and before the last ReLU."""
    if (len(fcs) or flatten) and x.dim() > 2:
        x = head.avg_pool(x) if head.with_avg_pool else x
        x = x if len(fcs) else x.flatten(1)
    pre_relu = x
    for fc in fcs:
        pre_relu = _of_maps(cast(nn.Linear, fc), x) if x.dim() > 2 else fc(x)
        x = pre_relu.relu()
    return x, pre_relu


def _of_maps(fc: nn.Linear, maps: Tensor) -> Tensor:
    """Apply a fully connected layer to (N, C, h, w) features in their own order of memory.

    Of features that are channels last, the few weights are brought into that order instead of the many features.
    """
    if maps.is_contiguous() or not maps.is_contiguous(memory_format=torch.channels_last):
        flat: Tensor = fc(maps.flatten(1))
        return flat
    weight = fc.weight.unflatten(1, maps.shape[1:]).permute(0, 2, 3, 1).flatten(1)
    return nn.functional.linear(maps.permute(0, 2, 3, 1).flatten(1), weight, fc.bias)


class _HostedLoss(nn.Module):
    """The hosted classifier behind mmdet's interface of a custom classification loss."""

    custom_cls_channels = True
    custom_activation = True
    custom_accuracy = True

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        # In a tuple, so that the classifier stands in the state dict once, as fc_cls.
        self._classifier = (classifier,)

    def forward(
        self,
        cls_score: Tensor,
        labels: Tensor,
        weight: Tensor | None = None,
        avg_factor: float | None = None,
        reduction_override: str | None = None,
        **kwargs: Any,
    ) -> dict[str, Tensor]:
        """Return the losses of the hosted classifier, weighted and divided as mmdet's own losses are.

        A RoI of weight 0 is left out, as if it had not been sampled.

        Args:
            cls_score: (N, K) logits.
            labels: (N,), background C.
            weight: (N,) of each RoI; None for 1.
            avg_factor: what the sum over RoIs is divided by; None for N.
            reduction_override: ``mean`` (also None), ``sum``, or ``none``: then one loss ``loss_cls`` (N,) for each
                RoI, summed over all parts, for samplers that use losses.
            kwargs: arguments of other mmdet losses; ignored.

        Raises:
            InputError: the loss cannot be computed for each RoI, and weights differ or ``none`` is requested.
        """
        (classifier,) = self._classifier
        if reduction_override == "none":
            return {"loss_cls": _of_each(classifier, cls_score, labels, weight)}
        if classifier.training and not classifier.attended:
            _say_what_is_missing(classifier)
        number = len(labels)
        scale = 1.0 if reduction_override == "sum" else 1 / (number if avg_factor is None else avg_factor)
        if weight is not None and not bool((weight == 1).all()):
            kept = weight > 0
            cls_score, labels, weight = cls_score[kept], labels[kept], weight[kept].to(cls_score)
            if not len(labels):
                return {"loss_cls": cls_score.sum()}
            if bool((weight != weight[0]).any()):
                losses = classifier.loss(cls_score, labels, "none")
                return {name: scale * (weight * value).sum() for name, value in losses.items()}
            scale *= float(weight[0])
        scale *= len(labels)
        losses = classifier.loss(cls_score, labels)
        return losses if scale == 1 else {name: scale * value for name, value in losses.items()}

    def get_activation(self, cls_score: Tensor) -> Tensor:
        """Compute (N, C + 1) scores."""
        return self._classifier[0].scores(cls_score)

    def get_accuracy(self, cls_score: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return the percentage of RoIs whose highest score is that of their label, as mmdet logs it."""
        with torch.no_grad():
            predicted = self._classifier[0].scores(cls_score).argmax(dim=1)
            return {"acc": 100 * (predicted == labels).float().mean()}


def _of_each(classifier: Classifier, logits: Tensor, labels: Tensor, weight: Tensor | None) -> Tensor:
    """Return the (N,) loss of each RoI; without gradients, the state of the loss is not updated."""
    training = classifier.training
    classifier.train(training and torch.is_grad_enabled())
    try:
        losses = torch.stack(list(classifier.loss(logits, labels, "none").values())).sum(dim=0)
    finally:
        classifier.train(training)
    return losses if weight is None else losses * weight


def _say_what_is_missing(classifier: Classifier) -> None:
    """Warn once if nothing calls ``begin_epoch`` or ``fit`` in a training that needs them."""
    classifier.attended = True
    missing = []
    if classifier.changes_over_epochs:
        missing.append("its loss changes over the epochs")
    if classifier.needs_fit:
        missing.append("its statistics are taken at the end of the training")
    if missing:
        print_log(
            f"{type(classifier).__name__}: {' and '.join(missing)}, which nothing here does; add "
            "custom_hooks = [dict(type='ClassifierHook')] to the configuration",
            "current",
            logging.WARNING,
        )


@MODELS.register_module()
class ClassifierBBoxHead(ConvFCBBoxHead):
    """mmdet's box head of convolutional and fully connected layers, with any Classifier.

    The classifier is the module ``fc_cls``, so a softmax classifier's state dict is that of mmdet's own head.

    Args:
        classifier: configuration of the Classifier (``Classifier.config()``); ``num_classes`` and ``feature_dim`` may
            be left out; the values of the head are then used. With ``categories``, the training
            annotations (or a CSV of counts), groups, counts and similar arguments are computed from them, in the order
            of the file, which is the order of labels in mmdet's data sets.
        shared_boxes: add a box regressor that all classes share to the class-specific ones (``SharedRows``).
        kwargs: of mmdet's ConvFCBBoxHead.
    """

    def __init__(self, classifier: dict[str, Any], shared_boxes: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if shared_boxes:
            class_boxes.share_boxes(self.fc_reg)
        config = {"feature_dim": self.cls_last_dim, "num_classes": self.num_classes, **classifier}
        if "categories" in config:
            table = CategoryTable.read(config["categories"]).in_file_order()
            if table.num_classes != self.num_classes:
                raise InputError(
                    f"{config['categories']}: field 'categories' has {table.num_classes} classes, the box head "
                    f"{self.num_classes} (num_classes)"
                )
            config["categories"] = table
        hosted = build(config)
        if hosted.num_classes != self.num_classes:
            raise ValueError(f"classifier has {hosted.num_classes} classes, the box head has {self.num_classes}")
        self.fc_cls = hosted
        self.loss_cls = _HostedLoss(hosted)
        # These have initialised themselves.
        own = [{"name": "fc_cls"}, *([{"name": "fc_reg"}] if shared_boxes else [])]
        self.init_cfg: list[dict[str, Any]] = [cfg for cfg in self.init_cfg if cfg.get("override") not in own]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute (N, K) logits and box deltas from (N, channels, h, w) RoI features."""
        features = branch_features(self, x)
        logits = self.fc_cls(torch.cat([features[tap].flatten(1) for tap in self.fc_cls.taps], dim=1))
        return logits, self.fc_reg(features["reg"])
