"""A user's checkpoint of an mmdet detector: checked against its configuration, and loaded with hosted classifiers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imbalance_bench.checkpoints import own as checkpoints
from imbalance_bench.detectors.mmdet import source
from imbalance_bench.runtime.errors import InputError

if TYPE_CHECKING:
    from imbalance_bench.detectors.mmdet.from_config import ForeignDetector


def check_weights(detector: ForeignDetector, path: Path) -> Mapping[Any, Any]:
    """Check the classifiers of a checkpoint against the configuration; return the checkpoint's ``meta``.

    Raises:
        InputError: the checkpoint has no classifier, or one of another shape than configured.
    """
    content = checkpoints.load(path)
    found = {name: tensor for name, tensor in content["state_dict"].items() if checkpoints.is_classifier(name)}
    weights = [tensor for name, tensor in found.items() if name.endswith("weight")]
    if len(weights) != detector.num_stages:
        raise InputError(
            f"{path}: field 'state_dict' has {len(weights)} box classifiers ('...fc_cls.weight'), expected "
            f"{detector.num_stages} as configured"
        )
    expected = detector.stock_classifier(detector.num_classes, detector.tap_dims["fc"])
    for weight in weights:
        if weight.shape != expected.weight.shape:
            raise InputError(
                f"{path}: its classifier has shape {tuple(weight.shape)}, expected {tuple(expected.weight.shape)}: "
                f"field 'num_classes' of {detector.config} is {detector.num_classes}"
            )
    meta: Mapping[Any, Any] = content["meta"]
    return meta


def adopt(detector: ForeignDetector, path: Path) -> source.TwoStageSource:
    """Build the detector of the user's checkpoint, with its classifiers in heads of this package.

    Raises:
        InputError: the checkpoint's tensors do not fit the configured model, or are not finite.
    """
    state = checkpoints.load(path)["state_dict"]
    state = {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
    stock = detector.stock_classifier(detector.num_classes, detector.tap_dims["fc"])
    named = {"state_dict": state, "meta": {"classifier": stock.config()}}
    classifiers = list(checkpoints.classifiers_of(named, path).values())
    try:
        adopted = source.host(detector, classifiers, state)
    except InputError as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{path}: field 'state_dict' is not of the model of {detector.config}: {reason}") from error
    for classifier in classifiers:
        if any(not value.isfinite().all() for value in classifier.state_dict().values() if value.is_floating_point()):
            raise InputError(f"{path}: the classifier holds values that are NaN or infinite, expected numbers")
    return adopted
