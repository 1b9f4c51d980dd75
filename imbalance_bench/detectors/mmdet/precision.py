"""Half precision in training where a detector multiplies matrices, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import torch
from mmdet.models.detectors import TwoStageDetector
from torch import Tensor, nn


def multiply_in(model: TwoStageDetector, dtype: torch.dtype) -> None:
    """Have backbone, neck and heads multiply in half precision in training mode; weights and results stay single.

    What stands between them (RoIs, assignment, suppression, losses) sees single precision alone. mmengine's
    AmpOptimWrapper, which runs on GPUs only, covers that too: mmdet then rounds RoIs to the type of the features.
    bfloat16 has 8 bits, so the corner of a RoI at 200 pixels would move by half a pixel, and scores of the RPN would
    tie.
    """
    for network in _networks(model):
        network.forward = _autocast(network, network.forward, dtype)


def _networks(model: TwoStageDetector) -> Iterator[nn.Module]:
    yield from (model.backbone, model.neck, model.rpn_head)
    for name, head in model.roi_head.named_children():
        if name.endswith("_head"):  # of boxes, of masks, of the semantic branch; a list of them in a cascade
            yield from head if isinstance(head, nn.ModuleList) else (head,)


def _autocast(network: nn.Module, forward: Callable[..., Any], dtype: torch.dtype) -> Callable[..., Any]:
    @wraps(forward)
    def in_half(*inputs: Any, **options: Any) -> Any:
        if not network.training:
            return forward(*inputs, **options)
        with torch.autocast(next(network.parameters()).device.type, dtype):
            return _single(forward(*inputs, **options))

    return in_half


def _single(value: Any) -> Any:
    """Return nested tuples and lists with their tensors in single precision."""
    if isinstance(value, Tensor):
        return value.float()
    return type(value)(_single(part) for part in value) if isinstance(value, (tuple, list)) else value
