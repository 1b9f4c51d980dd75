"""mmdet's detectors with one head (``bbox_head``), dense or of queries, with any Classifier in the place of their own.

A hosted detector predicts; its losses are mmdet's own, which do not fit a hosted classifier.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmdet.models.detectors.base_detr import DetectionTransformer
from torch import Tensor, nn

from imbalance_bench.classifiers import Classifier, LinearClassifier
from imbalance_bench.detectors import sigmoid_heads
from imbalance_bench.detectors.hosting import HostingConv, HostingLayer
from imbalance_bench.detectors.mmdet.families import FAMILIES
from imbalance_bench.proposals import blocks
from imbalance_bench.runtime.errors import InputError


def layer_names(model: nn.Module) -> list[str]:
    """Return the names of the layers that the classifier is made of: one for each level if these share none, else one.

    Of decoder layers the last one's is served.
    """
    given: Any = model
    if isinstance(model, DetectionTransformer):
        return [f"bbox_head.cls_branches.{given.decoder.num_layers - 1}"]
    name = FAMILIES[type(given.bbox_head)].classifier
    layers = getattr(given.bbox_head, name)
    numbers = range(len(layers)) if isinstance(layers, nn.ModuleList) else ()
    return [f"bbox_head.{name}.{number}" for number in numbers] or [f"bbox_head.{name}"]


def joined(weights: Sequence[Tensor], biases: Sequence[Tensor], num_classes: int) -> dict[str, Tensor]:
    """Return weight and bias of the classifier that (A C, ...) layers are together, an anchor shape a block."""
    rows = torch.cat([weight.flatten(1).unflatten(0, (-1, num_classes)) for weight in weights])
    weight, bias = blocks.join_rows(rows, torch.cat([bias.unflatten(0, (-1, num_classes)) for bias in biases]))
    return {"weight": weight, "bias": bias}


def separated(classifier: LinearClassifier, layers: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of a detector's own layers, by name, that a classifier is: what ``joined`` joined."""
    count = sum(len(layer.weight) for layer in layers.values()) // classifier.num_classes
    weights, biases = blocks.split_rows(classifier.weight.detach(), classifier.bias.detach(), count)
    found = {}
    parts = zip(layers.items(), weights.chunk(len(layers)), biases.chunk(len(layers)), strict=True)
    for (name, layer), weight, bias in parts:
        found[f"{name}.weight"] = weight.reshape(layer.weight.shape).clone()
        found[f"{name}.bias"] = bias.flatten().clone()
    return found


def refusal(classifier: Classifier, model: nn.Module) -> str | None:
    """Return why a classifier cannot take the place of a detector's sigmoids; None if it can."""
    of_queries = isinstance(model, DetectionTransformer)
    return sigmoid_heads.refusal(classifier) if of_queries else sigmoid_heads.refusal_in_maps(classifier)


def host(model: nn.Module, classifier: Classifier) -> None:
    """Put a classifier into a detector, in place.

    Raises:
        InputError: a classifier that cannot take the place of sigmoids (``sigmoid_heads``).
    """
    if (reason := refusal(classifier, model)) is not None:
        raise InputError(f"{type(classifier).__name__}: {reason}")
    names = layer_names(model)
    if isinstance(model, DetectionTransformer):
        model.set_submodule(names[0], HostingLayer(classifier, softmax=False))
        return
    layers: list[Any] = [model.get_submodule(name) for name in names]
    shapes = layers[0].out_channels // classifier.num_classes
    for number, (name, layer) in enumerate(zip(names, layers, strict=True)):
        place, count = number * shapes, len(layers) * shapes
        model.set_submodule(name, HostingConv(classifier, layer, place, count, registered=number == 0))


def hosted_layers(model: nn.Module) -> list[Any]:
    """Return the layers of a detector that host a classifier; the first one registers it."""
    return [model.get_submodule(name) for name in layer_names(model)]
