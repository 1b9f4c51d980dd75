"""torchvision's operators in place of mmcv's compiled ones, when, and only when, those are absent.

mmcv installed without its compiled module lacks ``mmcv._ext``; ``ops_finder`` then has this module's ``StandIns``
imported under that name. Its functions have mmcv's signatures and torchvision's insides; an operator that torchvision
lacks can be imported, and says what to do when it is called.
"""

from __future__ import annotations

import itertools
import types
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.ops import deform_conv2d
from torchvision.ops import nms as torchvision_nms

BUILD = "MMCV_WITH_OPS=1 pip install --no-build-isolation --no-binary onedl-mmcv --force-reinstall onedl-mmcv"


class StandIns(types.ModuleType):
    """The module ``mmcv._ext``: every name is a function, those without a stand-in raise when called."""

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
    """(K,) kept indices by descending score; ``offset`` 1 counts pixels, as the first Faster R-CNN did."""
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
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Fill (N, C, h, w) ``output`` from (B, C, H, W) features and (N, 5) rois; ``sampling_ratio`` 0 adapts."""
    if pool_mode != 1:
        _missing("roi_align with pool_mode='max'")()

    def pool(images: slice, chosen: Tensor) -> None:
        output[chosen] = torch.ops.torchvision.roi_align(
            features[images],
            _of_slice(rois[chosen], images),
            spatial_scale,
            aligned_height,
            aligned_width,
            sampling_ratio,
            aligned,
        )

    _by_image(pool, rois, len(features))


def _roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    *,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Add to (B, C, H, W) ``grad_input`` from (N, C, h, w) ``grad_output``."""

    def spread(images: slice, chosen: Tensor) -> None:
        grad = grad_input[images]
        grad += torch.ops.torchvision._roi_align_backward(
            grad_output[chosen],
            _of_slice(rois[chosen], images),
            spatial_scale,
            aligned_height,
            aligned_width,
            *grad.shape,
            sampling_ratio,
            aligned,
        )

    _by_image(spread, rois, len(grad_input))


def _by_image(work: Callable[[slice, Tensor], None], rois: Tensor, num_images: int) -> None:
    """Run ``work`` on slices of the batch and the indices of their RoIs, in threads on the CPU.

    torchvision's RoIAlign uses one core there. A RoI touches its own image only, so slices do not meet; and within
    an image the order of additions stays, so the result is the same to the last bit.
    """
    workers = 1 if rois.is_cuda else min(torch.get_num_threads(), num_images)
    bounds = [round(num_images * part / workers) for part in range(workers + 1)]
    slices = [slice(start, stop) for start, stop in itertools.pairwise(bounds)]
    image = rois[:, 0]
    chosen = [((image >= part.start) & (image < part.stop)).nonzero()[:, 0] for part in slices]
    if workers == 1:
        work(slices[0], chosen[0])
    else:
        # Whether gradients are recorded is a thread's own affair.
        list(_pool(workers).map(torch.no_grad()(work), slices, chosen))


def _of_slice(rois: Tensor, images: slice) -> Tensor:
    """RoIs with image indices counted from the start of the slice."""
    return torch.cat([rois[:, :1] - images.start, rois[:, 1:]], dim=1)


@lru_cache(maxsize=1)
def _pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, thread_name_prefix="roi_align")


def _sigmoid_focal_loss(logits: Tensor, target: Tensor, weight: Tensor, gamma: float, alpha: float) -> Tensor:
    """(N, C) focal terms; a target of C or more (background) makes all C logits negatives."""
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


def _deform_conv(x: Tensor, weight: Tensor, offset: Tensor, options: dict[str, Any], **more: Any) -> Tensor:
    """torchvision's deformable convolution; groups follow from the shapes."""
    return deform_conv2d(
        x,
        offset,
        weight,
        stride=(options["dH"], options["dW"]),
        padding=(options["padH"], options["padW"]),
        dilation=(options["dilationH"], options["dilationW"]),
        **more,
    )


def _deform_conv_forward(
    x: Tensor, weight: Tensor, offset: Tensor, output: Tensor, columns: Tensor, ones: Tensor, **options: Any
) -> None:
    output.copy_(_deform_conv(x, weight, offset, options))


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
    with torch.enable_grad():
        leaves = [x.detach().requires_grad_(), offset.detach().requires_grad_()]
        output = _deform_conv(leaves[0], weight, leaves[1], options)
        grads = torch.autograd.grad(output, leaves, grad_output)
    grad_input.copy_(grads[0])
    grad_offset.copy_(grads[1])


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
    with torch.enable_grad():
        leaf = grad_weight.new_zeros(grad_weight.shape).requires_grad_()
        # Linear in the weight, so its gradient does not depend on the weight's value.
        (grad,) = torch.autograd.grad(_deform_conv(x, leaf, offset, options), leaf, grad_output)
    grad_weight += scale * grad


OPERATORS: dict[str, Callable[..., Any]] = {
    "nms": _nms,
    "roi_align_forward": _roi_align_forward,
    "roi_align_backward": _roi_align_backward,
    "sigmoid_focal_loss_forward": _sigmoid_focal_loss_forward,
    "sigmoid_focal_loss_backward": _sigmoid_focal_loss_backward,
    "deform_conv_forward": _deform_conv_forward,
    "deform_conv_backward_input": _deform_conv_backward_input,
    "deform_conv_backward_parameters": _deform_conv_backward_parameters,
}
"""Stand-ins by mmcv's names."""
