"""mmdet detectors with hosted classifiers: built from a configuration, and filled with weights."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmdet.models.detectors import TwoStageDetector
from mmdet.registry import MODELS
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.runner import set_random_seed
from torch import Tensor

from imbalance_bench.checkpoints import own as checkpoints
from imbalance_bench.classifiers import Classifier
from imbalance_bench.detectors.mmdet.detector import Detector
from imbalance_bench.detectors.mmdet.passes import box_heads
from imbalance_bench.runtime.errors import InputError, first


def build_detector(
    detector: Detector,
    classifiers: Sequence[Classifier],
    seed: int = 0,
    *,
    stuff: bool = False,
    pretrained: bool = False,
) -> TwoStageDetector:
    """Build the detector, initialised from the seed; each stage hosts a classifier with the given parameters.

    Args:
        detector: its record.
        classifiers: one a stage.
        seed: of the initialisation.
        stuff: the data has stuff maps.
        pretrained: weights of a whole detector will be loaded, so that the stages it ships frozen stay frozen.
    """
    init_default_scope("mmdet")
    set_random_seed(seed)
    first = classifiers[0]
    model = MODELS.build(detector.model(first.num_classes, first.config(), stuff=stuff, pretrained=pretrained))
    drop_closed_logs()
    model.init_weights()
    for head, classifier in zip(box_heads(model), classifiers, strict=True):
        head.fc_cls.load_state_dict(classifier.state_dict())
    return model


def drop_closed_logs() -> None:
    """Remove closed log files (Ray closes them when it starts), to which mmengine would write about initial weights."""
    logger = MMLogger.get_current_instance()
    for handler in [h for h in logger.handlers if isinstance(h, logging.FileHandler) and h.stream is None]:
        logger.removeHandler(handler)


def load_features(model: TwoStageDetector, state_dict: Mapping[str, Tensor]) -> None:
    """Load all parameters except those of the classifiers.

    Raises:
        RuntimeError: a parameter is missing or of another shape.
    """
    own = {name: value for name, value in model.state_dict().items() if checkpoints.is_classifier(name)}
    others = {name: value for name, value in state_dict.items() if not checkpoints.is_classifier(name)}
    model.load_state_dict({**others, **own})


def load_pretrained(model: TwoStageDetector, path: Path) -> str:
    """Load the weights of a detector trained on other classes, by parameter names (section 5.1).

    Classifiers, box regressors and the class-specific last layer of masks stay as they are initialised.

    Returns:
        One line that says what was loaded, what is new, and what did not match.

    Raises:
        InputError: not a checkpoint, or not of this kind of detector: no backbone parameter matches.
    """
    theirs, own = checkpoints.load(path)["state_dict"], model.state_dict()
    new = {name for name in own if checkpoints.is_new_in_training(name)}
    wanted = own.keys() - new
    matched = {name: theirs[name] for name in wanted & theirs.keys() if theirs[name].shape == own[name].shape}
    if not any(name.startswith("backbone.") for name in matched):
        raise InputError(f"{path}: field 'state_dict' has no 'backbone.*' that fits, expected a detector of this kind")
    model.load_state_dict(matched, strict=False)
    left_out = sorted(wanted - matched.keys())
    unused = sorted(name for name in theirs.keys() - matched.keys() - new if name not in left_out)
    parts = [f"{path.name}: {len(matched)} of {len(wanted)} tensors loaded, {len(new)} new (classifier, box regressor)"]
    for what, names in (("not found or of another shape", left_out), ("not used", unused)):
        if names:
            parts.append(f"{len(names)} {what}: {first(names, 5)}")
    return "; ".join(parts)
