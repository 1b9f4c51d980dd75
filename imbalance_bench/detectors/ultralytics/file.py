"""A ``.pt`` of ultralytics, which pickles a whole model: read as data, and the model rebuilt from the yaml in it.

Of the yaml nothing is taken that ultralytics' parser would evaluate or call, beside layers of a list.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from imbalance_bench.checkpoints import modules
from imbalance_bench.checkpoints.pickles import UNREADABLE, Object
from imbalance_bench.checkpoints.tensors import Tensor
from imbalance_bench.detectors.ultralytics.library import HEADS, LAYERS, DetectionModel, parse_model
from imbalance_bench.runtime.equality import ByValue
from imbalance_bench.runtime.errors import InputError, first

WHAT = "a checkpoint of ultralytics"
MODEL = "ultralytics.nn.tasks.DetectionModel"
SETTINGS = ("nc", "scales", "scale", "depth_multiple", "width_multiple", "max_channels", "activation", "end2end",
            "reg_max", "backbone", "head")  # fmt: skip
"""What a model's yaml says that its parser reads."""
ACTIVATION = re.compile(r"(torch\.)?nn\.[A-Z][A-Za-z0-9]*\((inplace=)?(True|False|[0-9.]*)\)")
"""The parser evaluates it."""
MOST, MOST_VALUES, LONGEST, DEEPEST = 10_000, 20_000, 200, 8
"""Of plain data: the largest number, how many values, characters of a text, containers in each other."""
IMAGE_SIZE = 640
"""Of the network's images where a training says nothing, as ultralytics has it."""


@dataclass(frozen=True, eq=False)
class File(ByValue):
    """What a checkpoint says.

    Attributes:
        path: of the file.
        yaml: of the model.
        names: of its classes.
        train_args: settings of its training, as far as they are plain data.
        state: tensors of the model, whose numbers are not read yet.
    """

    path: Path
    yaml: dict[str, Any]
    names: tuple[str, ...]
    train_args: dict[str, Any]
    state: dict[str, Tensor]

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the network's images, before they are rounded to strides."""
        size = self.train_args.get("imgsz") or IMAGE_SIZE
        height, width = (size, size) if isinstance(size, int) else size
        return height, width

    def build(self) -> nn.Module:
        """Build the model with its weights, in evaluation mode.

        Raises:
            InputError: the yaml describes no model, or tensors are missing, unknown, of another shape or damaged.
        """
        with self._describing(), torch.device("meta"):
            layers, _ = parse_model(copy.deepcopy(self.yaml), ch=3, verbose=False)
        expected = {f"model.{name}": tuple(value.shape) for name, value in layers.state_dict().items()}
        stored = {name: value.size for name, value in self.state.items()}
        odd = [f"'{name}' is missing" for name in expected.keys() - stored.keys()]
        odd += [f"'{name}' is unknown" for name in stored.keys() - expected.keys()]
        odd += [f"'{name}' has shape {stored[name]}, expected {shape}" for name, shape in expected.items()
                if name in stored and stored[name] != shape]  # fmt: skip
        if odd:
            raise InputError(f"{self.path}: its tensors are not of the model of its yaml: {first(sorted(odd))}")
        with self._describing():
            model: Any = DetectionModel(copy.deepcopy(self.yaml), ch=3, verbose=False)
        model.load_state_dict({name: self._numbers(name) for name in stored})
        model.names = dict(enumerate(self.names))
        return model.eval()

    @contextmanager
    def _describing(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            said = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            raise InputError(f"{self.path}: field 'yaml' describes no model of ultralytics ({said})") from error

    def _numbers(self, name: str) -> torch.Tensor:
        try:
            numbers = self.state[name].numbers()
        except UNREADABLE as error:
            raise InputError(f"{self.path}: field '{name}' is no tensor ({error})") from error
        if np.issubdtype(numbers.dtype, np.floating):
            numbers = numbers.astype(np.float32)
            if not np.isfinite(numbers).all():
                raise InputError(f"{self.path}: field '{name}' holds values that are NaN or infinite, expected numbers")
        return torch.from_numpy(numbers)


def read(path: Path) -> File:
    """Read a checkpoint; nothing in it is executed.

    Raises:
        InputError: it is missing, damaged, hostile, or of no detector.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file, expected {WHAT} (.pt)")
    content = modules.load(path, "ultralytics", WHAT)
    found = (content.get("ema") or content.get("model")) if isinstance(content, dict) else None
    if not isinstance(found, Object):
        raise InputError(f"{path}: field 'model' is {_said(found)}, expected the model that ultralytics saves (.pt)")
    if found.kind != MODEL:
        kind = found.kind.rpartition(".")[2]
        raise InputError(f"{path}: field 'model' is a {kind}, expected a DetectionModel: only boxes are measured")
    held = modules.fields(found, path, "model")
    yaml, args = held.get("yaml"), content.get("train_args")
    if not isinstance(yaml, dict):
        raise InputError(f"{path}: field 'yaml' of its model is {_said(yaml)}, expected a dictionary")
    if yaml.get("channels", 3) != 3:
        raise InputError(f"{path}: field 'channels' of its yaml is {_said(yaml['channels'])}, expected 3")
    plain = _Plain(path).data({name: yaml[name] for name in SETTINGS if name in yaml}, "yaml")
    state = modules.state_of(found, path)
    _check_layers(plain, len(state), path)
    names = _names(held.get("names"), plain["nc"], path)
    return File(path, plain, names, _train_args(args, path), state)


def _said(value: Any) -> str:
    """Say what is in the place of something else: a container may be endless, and a number too long to be written."""
    if isinstance(value, str):
        return repr(value[:50])
    if isinstance(value, (int, float)) and abs(value) < 1e30:
        return repr(value)
    return "missing" if value is None else f"a {type(value).__name__}"


class _Plain:
    """Copies plain data out of a file, whose objects may hold themselves, or be one in many places."""

    def __init__(self, path: Path) -> None:
        self.path, self.left = path, MOST_VALUES

    def data(self, value: Any, field: str, depth: int = 0) -> Any:
        """Copy a value.

        Raises:
            InputError: it is no plain data, or too much.
        """
        self.left -= 1
        if self.left >= 0 and depth <= DEEPEST:
            if isinstance(value, dict) and all(isinstance(key, str) and len(key) <= LONGEST for key in value):
                return {key: self.data(part, f"{field}.{key}", depth + 1) for key, part in value.items()}
            if isinstance(value, (list, tuple)):
                return [self.data(part, f"{field}.{place}", depth + 1) for place, part in enumerate(value)]
            if value is None or isinstance(value, bool):
                return value
            if isinstance(value, str) and len(value) <= LONGEST:
                return value
            if isinstance(value, (int, float)) and abs(value) <= MOST:
                return value
        raise InputError(
            f"{self.path}: field '{field}' is {_said(value)}, expected plain data: numbers up to {MOST:,}, and few"
        )


def _check_layers(yaml: Mapping[str, Any], tensors: int, path: Path) -> None:
    """Check what a yaml makes the parser build.

    Raises:
        InputError: a layer is none of ``LAYERS``, or there are more than the file has tensors for.
    """
    classes, activation = yaml.get("nc"), yaml.get("activation")
    if type(classes) is not int or classes < 1:
        raise InputError(f"{path}: field 'nc' of its yaml is {classes!r}, expected a number of classes")
    if activation is not None and not (isinstance(activation, str) and ACTIVATION.fullmatch(activation)):
        raise InputError(f"{path}: field 'activation' of its yaml is {activation!r}, expected such as nn.SiLU()")
    layers = []
    for part in ("backbone", "head"):
        listed = yaml.get(part)
        if not isinstance(listed, list) or not listed or not all(_is_layer(layer) for layer in listed):
            raise InputError(f"{path}: field '{part}' of its yaml is no list of [from, repeats, layer, arguments]")
        layers += listed
    *others, last = (layer[2] for layer in layers)
    if last not in HEADS:
        raise InputError(f"{path}: the head of its yaml is {last!r}, expected {' or '.join(HEADS)}")
    for kind in others:
        if kind not in LAYERS:
            raise InputError(f"{path}: its yaml has a layer {kind!r}, expected layers of ultralytics' detectors")
    depth = _depth(yaml)
    if sum(max(layer[1], layer[1] * depth) for layer in layers) > len(layers) + tensors:
        raise InputError(f"{path}: its yaml repeats layers more often than there are tensors in it")


def _depth(yaml: Mapping[str, Any]) -> float:
    """Return what the parser multiplies repeats by."""
    depth, scales = yaml.get("depth_multiple"), yaml.get("scales")
    if isinstance(scales, dict) and scales:
        chosen = scales.get(yaml.get("scale")) or next(iter(scales.values()))
        depth = chosen[0] if isinstance(chosen, list) and chosen else None
    return depth if isinstance(depth, (int, float)) else 1.0


def _is_layer(layer: Any) -> bool:
    if not isinstance(layer, list) or len(layer) != 4:
        return False
    _, repeats, kind, arguments = layer
    return type(repeats) is int and repeats >= 1 and isinstance(kind, str) and isinstance(arguments, list)


def _names(names: Any, classes: int, path: Path) -> tuple[str, ...]:
    """Return the names of the classes, in order of labels."""
    listed: Sequence[Any] = []
    if isinstance(names, dict):
        listed = [names.get(label) for label in range(len(names))]
    elif isinstance(names, (list, tuple)):
        listed = names
    if len(listed) != classes or not all(isinstance(name, str) for name in listed):
        raise InputError(f"{path}: field 'names' of its model is {_said(names)}, expected {classes} names")
    return tuple(listed)


def _train_args(args: Any, path: Path) -> dict[str, Any]:
    """Return the plain ones of a training's settings; paths and others are left out."""
    given = args if isinstance(args, dict) else {}
    kept = {
        name: list(value) if isinstance(value, (list, tuple)) else value
        for name, value in given.items()
        if isinstance(name, str) and _is_plain(value)
    }
    size = kept.get("imgsz") or IMAGE_SIZE
    sides = [size, size] if not isinstance(size, list) else size
    if len(sides) != 2 or not all(type(side) is int and 32 <= side <= MOST for side in sides):
        raise InputError(f"{path}: field 'imgsz' of its train_args is {_said(size)}, expected 32 to {MOST:,}")
    return kept


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return len(value) <= LONGEST and all(part is None or type(part) in (bool, int, float, str) for part in value)
    return value is None or type(value) in (bool, int, float, str)
