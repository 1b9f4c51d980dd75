"""torchvision's operators in place of mmcv's compiled ones, when, and only when, those are absent.

mmcv installed without its compiled module lacks ``mmcv._ext``; ``ops_finder`` then has this module's ``StandIns``
imported under that name. Its functions have mmcv's signatures and torchvision's insides (RoIAlign on a CPU: our own,
``roi_align``); an operator without a counterpart can be imported, and its error when called says what to do.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.ops import deform_conv2d
from torchvision.ops import nms as torchvision_nms

from imbalance_bench.detectors.mmcv_ops import roi_align

BUILD = "MMCV_WITH_OPS=1 pip install --no-build-isolation --no-binary onedl-mmcv --force-reinstall onedl-mmcv"


class StandIns(types.ModuleType):
    """The module ``mmcv._ext``: every name is a function; a function without a stand-in raises when called."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)
        return OPERATORS.get(name) or _missing(name)


def _missing(name: str) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError(
            f"mmcv's operator '{name}' is not there: mmcv was installed without its compiled operators, and "
            f"torchvision has no counterpart. Build mmcv with them (about a quarter of an hour): {BUILD}"
        )

    return call


def _nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Return (K,) kept indices by descending score; with ``offset`` 1, sides include the last pixel."""
    if offset:
        boxes = torch.cat([boxes[:, :2], boxes[:, 2:] + 1], dim=1)
    return torchvision_nms(boxes, scores, iou_threshold)


def _roi_align_forward(
    features: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    *,
    spatial_scale: float,
    pool_mode: int,
    **options: Any,
) -> None:
    """Fill (N, C, h, w) ``output`` from (B, C, H, W) features and (N, 5) rois."""
    if pool_mode != 1:
        _missing("roi_align with pool_mode='max'")()
    pooling = roi_align.Pooling(**options)
    if features.is_cuda:
        output.copy_(torch.ops.torchvision.roi_align(features, rois, spatial_scale, *pooling))
    else:
        samples = _samples(rois, features.shape, spatial_scale, pooling)
        output.copy_(roi_align.to_maps(roi_align.forward([features], samples, len(rois), pooling), len(rois), pooling))


def _roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    *,
    spatial_scale: float,
    pool_mode: int,
    **options: Any,
) -> None:
    """Add to (B, C, H, W) ``grad_input`` from (N, C, h, w) ``grad_output``."""
    pooling = roi_align.Pooling(**options)
    if grad_output.is_cuda:
        height, width, *sampling = pooling
        grad_input += torch.ops.torchvision._roi_align_backward(
            grad_output, rois, spatial_scale, height, width, *grad_input.shape, *sampling
        )
    else:
        samples = _samples(rois, grad_input.shape, spatial_scale, pooling)
        rows = grad_output.permute(0, 2, 3, 1).flatten(0, 2)
        (grad,) = roi_align.backward(rows, samples, [roi_align.Level((*grad_input.shape,), spatial_scale)])
        grad_input += grad


def _samples(rois: Tensor, shape: torch.Size, scale: float, pooling: roi_align.Pooling) -> list[roi_align.Samples]:
    level = torch.zeros(len(rois), dtype=torch.long)
    return list(roi_align.samples(rois, level, [roi_align.Level((*shape,), scale)], pooling))


def _sigmoid_focal_loss(logits: Tensor, target: Tensor, weight: Tensor, gamma: float, alpha: float) -> Tensor:
    """Compute (N, C) focal terms; for a target of C or more (background) all C logits are negatives."""
    positive = functional.one_hot(target.clamp(max=logits.shape[1]), logits.shape[1] + 1)[:, :-1].to(logits.dtype)
    entropy = functional.binary_cross_entropy_with_logits(logits, positive, reduction="none")
    probability = logits.sigmoid()
    p_t = probability * positive + (1 - probability) * (1 - positive)
    terms = (alpha * positive + (1 - alpha) * (1 - positive)) * (1 - p_t) ** gamma * entropy
    return terms * weight[target.clamp(max=len(weight) - 1)][:, None] if weight.numel() else terms


def _sigmoid_focal_loss_forward(
    logits: Tensor, target: Tensor, weight: Tensor, output: Tensor, *, gamma: float, alpha: float
) -> None:
    output.copy_(_sigmoid_focal_loss(logits, target, weight, gamma, alpha))


def _sigmoid_focal_loss_backward(
    logits: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, *, gamma: float, alpha: float
) -> None:
    with torch.enable_grad():
        leaf = logits.detach().requires_grad_()
        (grad,) = torch.autograd.grad(_sigmoid_focal_loss(leaf, target, weight, gamma, alpha).sum(), leaf)
    grad_input.copy_(grad)


def _single(tensor: Tensor) -> Tensor:
    """Return bf16, which torchvision's operator lacks on a CPU, in single precision."""
    return tensor.float() if tensor.dtype == torch.bfloat16 else tensor


def _deform_conv_gradients(
    grad_output: Tensor, tensors: dict[str, Tensor], geometry: dict[str, tuple[int, int]]
) -> dict[str, Tensor]:
    """Compute the gradients of the tensors, by the argument names of torchvision's ``deform_conv2d``."""
    with torch.enable_grad():
        leaves = {name: _single(tensor).detach().requires_grad_() for name, tensor in tensors.items()}
        output = deform_conv2d(**leaves, **geometry)
    return dict(zip(leaves, torch.autograd.grad(output, list(leaves.values()), _single(grad_output)), strict=True))


def _geometry(options: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """Return stride, padding and dilation under torchvision's names, from the names of either mmcv version."""
    if "dH" in options:
        keys = {"stride": ("dH", "dW"), "padding": ("padH", "padW"), "dilation": ("dilationH", "dilationW")}
    else:
        keys = {name: (f"{key}_h", f"{key}_w") for name, key in
                (("stride", "stride"), ("padding", "pad"), ("dilation", "dilation"))}  # fmt: skip
    return {name: (options[h], options[w]) for name, (h, w) in keys.items()}


def _deform_conv_forward(
    x: Tensor, weight: Tensor, offset: Tensor, output: Tensor, columns: Tensor, ones: Tensor, **options: Any
) -> None:
    output.copy_(deform_conv2d(_single(x), _single(offset), _single(weight), **_geometry(options)))


def _deform_conv_backward_input(
    x: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    weight: Tensor,
    columns: Tensor,
    **options: Any,
) -> None:
    tensors = {"input": x, "offset": offset, "weight": weight}
    gradients = _deform_conv_gradients(grad_output, tensors, _geometry(options))
    grad_input.copy_(gradients["input"])
    grad_offset.copy_(gradients["offset"])


def _deform_conv_backward_parameters(
    x: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_weight: Tensor,
    columns: Tensor,
    ones: Tensor,
    *,
    scale: float,
    **options: Any,
) -> None:
    # Linear in the weight, so its gradient does not depend on the weight's value.
    tensors = {"input": x, "offset": offset, "weight": torch.zeros_like(grad_weight)}
    grad_weight += scale * _deform_conv_gradients(grad_output, tensors, _geometry(options))["weight"]


def _modulated_deform_conv_forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    *,
    with_bias: bool,
    **options: Any,
) -> None:
    x, offset, weight, mask = _single(x), _single(offset), _single(weight), _single(mask)
    shift = _single(bias) if with_bias else None
    output.copy_(deform_conv2d(x, offset, weight, shift, mask=mask, **_geometry(options)))


def _modulated_deform_conv_backward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    *,
    with_bias: bool,
    **options: Any,
) -> None:
    tensors = {"input": x, "offset": offset, "weight": weight, "mask": mask}
    targets = {"input": grad_input, "offset": grad_offset, "weight": grad_weight, "mask": grad_mask}
    if with_bias:
        tensors["bias"], targets["bias"] = bias, grad_bias
    for name, gradient in _deform_conv_gradients(grad_output, tensors, _geometry(options)).items():
        targets[name].copy_(gradient)


def _not_compiled() -> str:
    """Return the compiler that mmcv's report of the environment prints."""
    return "n/a"


OPERATORS: dict[str, Callable[..., Any]] = {
    "nms": _nms,
    "roi_align_forward": _roi_align_forward,
    "roi_align_backward": _roi_align_backward,
    "sigmoid_focal_loss_forward": _sigmoid_focal_loss_forward,
    "sigmoid_focal_loss_backward": _sigmoid_focal_loss_backward,
    "deform_conv_forward": _deform_conv_forward,
    "deform_conv_backward_input": _deform_conv_backward_input,
    "deform_conv_backward_parameters": _deform_conv_backward_parameters,
    "modulated_deform_conv_forward": _modulated_deform_conv_forward,
    "modulated_deform_conv_backward": _modulated_deform_conv_backward,
    "get_compiler_version": _not_compiled,
    "get_compiling_cuda_version": _not_compiled,
}
"""Stand-ins by mmcv's names."""
