"""Dense and query detectors with a hosted classifier in mmdet's registry: ``dict(type="HostedDetector", ...)``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmdet.registry import MODELS
from torch import nn

from imbalance_bench.classifiers import build


@MODELS.register_module(name="HostedDetector")
def hosted_detector(detector: str, classifier: Mapping[str, Any], **model: Any) -> nn.Module:
    """Build a detector with a classifier of this package.

    Args:
        detector: type of the detector.
        classifier: configuration of the classifier.
        model: what else configures the detector.
    """
    # It imports mmdet's heads, at whose import this module is registered.
    from imbalance_bench.detectors.mmdet.hosted import host

    built: nn.Module = MODELS.build({**model, "type": detector})
    host(built, build(dict(classifier)))
    return built
