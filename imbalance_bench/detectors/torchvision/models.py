"""A user's torchvision detector without its weights: found by its name, or made by a function of the user's."""

from __future__ import annotations

import hashlib
import importlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torchvision.models import detection, get_model, list_models

from imbalance_bench.checkpoints import own as checkpoints
from imbalance_bench.runtime.errors import InputError, look_up

CLS_SCORE = "roi_heads.box_predictor.cls_score."
"""Prefix of the classifier of a two-stage detector."""
CLS_LOGITS = "head.classification_head.cls_logits."
"""Prefix of the classifier of a dense one."""


def build(source: str, num_classes: int) -> nn.Module:
    """Build the model that a user names.

    Args:
        source: name of a builder in ``torchvision.models.detection``, or ``module:function``: the function is called
            without arguments, so that the user's code runs.
        num_classes: number of the model's classes as torchvision counts them, for a builder.

    Raises:
        InputError: an unknown name, or code that does not return a model.
    """
    if ":" in source:
        return _called(source)
    names = list_models(module=detection)
    look_up(dict.fromkeys(names), source, "model of torchvision (or module:function)")
    try:
        return get_model(source, weights=None, weights_backbone=None, num_classes=num_classes)
    except Exception as error:
        raise InputError(f"option '--model {source}': cannot be built: {' '.join(str(error).split())[:200]}") from error


def _called(source: str) -> nn.Module:
    """Call the user's function; modules in the current folder are found, as with ``python -m``."""
    name, _, function = source.partition(":")
    where = f"option '--model {source}'"
    if not function.isidentifier():
        raise InputError(f"{where}: expected the name of a model, or module:function")
    sys.path.insert(0, os.getcwd())
    try:
        made = getattr(importlib.import_module(name), function)()
    except Exception as error:
        what = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise InputError(f"{where}: the call of {function}() of module {name} failed ({what})") from error
    finally:
        sys.path.remove(os.getcwd())
    if not isinstance(made, nn.Module):
        raise InputError(f"{where}: returned {type(made).__name__}, expected a model of torchvision.models.detection")
    return made


def read_state(path: Path) -> tuple[dict[str, Tensor], Mapping[Any, Any]]:
    """Read the tensors of a user's checkpoint, in single precision, and its ``meta``; nothing in it is executed.

    Of several dictionaries in the file that with a detector's classifier is taken.

    Raises:
        InputError: not a checkpoint.
    """
    content = checkpoints.load(path, is_stock_classifier)
    state = content["state_dict"]
    return {name: value.float() if value.is_floating_point() else value for name, value in state.items()}, content[
        "meta"
    ]


def is_stock_classifier(name: str) -> bool:
    """Return whether a tensor belongs to the classifier of one of torchvision's detectors."""
    return name.startswith((CLS_SCORE, CLS_LOGITS))


def load(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load all tensors of a model.

    Raises:
        InputError: a tensor is missing, unknown or of another shape; the message is the reason.
    """
    try:
        model.load_state_dict(dict(state))
    except RuntimeError as error:
        raise InputError(" ".join(str(error).split())) from error


def identity(model: nn.Module) -> str:
    """Return a checksum of a model's structure and of its plain settings: sizes of images, thresholds, numbers."""
    texts = [repr(model)]
    for name, module in model.named_modules():
        for key, value in sorted(vars(module).items()):
            # Coders, matchers and samplers are plain objects with numbers.
            held = vars(value) if type(value).__module__ == "torchvision.models.detection._utils" else value
            if _is_plain(held):
                texts.append(f"{name}.{key}={held!r}")
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(_is_plain(part) for part in value.values())
    if isinstance(value, (list, tuple)):
        return all(_is_plain(part) for part in value)
    return value is None or isinstance(value, (bool, int, float, str))
