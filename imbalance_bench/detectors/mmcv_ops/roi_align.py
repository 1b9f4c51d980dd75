"""RoIAlign on a CPU as products with sparse matrices.

A pooled value is a weighted sum of feature vectors: 4 for each sample point, the same for all channels. So the pooled
RoIs are ``S @ features``, where the rows of ``features`` are the pixels of all levels of all images, and the gradient
is ``S.T @ grad``, with one row of S for each bin. torchvision's kernel goes over every channel by itself; its backward
pass takes a fifth of a training step of a small detector, this one a hundredth. Features and pooled RoIs stay in
PyTorch's channels-last order, in which a feature vector is one piece of memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from scipy.sparse import csr_array
from torch import Tensor
from torch.nn.functional import embedding_bag


class Pooling(NamedTuple):
    """The settings of the pooling, with mmcv's argument names.

    Attributes:
        aligned_height: bins of a RoI from top to bottom.
        aligned_width: and from left to right.
        sampling_ratio: sample points of a bin along each axis; 0: the number of pixels that it covers.
        aligned: pixel centres are at .5 (else at 0, and a RoI is at least one pixel wide).
    """

    aligned_height: int
    aligned_width: int
    sampling_ratio: int
    aligned: bool


class Level(NamedTuple):
    """A level of the features.

    Attributes:
        shape: B, C, H, W.
        scale: pixels of the features for one of the image.
    """

    shape: tuple[int, int, int, int]
    scale: float


class Samples(NamedTuple):
    """The non-zero entries of S for RoIs with equal numbers of sample points.

    Attributes:
        chosen: the n RoIs.
        columns: (n, bins, K) rows of the features, as int32.
        weights: (n, bins, K) of them.
    """

    chosen: Tensor | slice
    columns: Tensor
    weights: Tensor


class RoIAlign(torch.autograd.Function):
    """RoIs pooled from the levels that they are assigned to, as rows (``to_maps``): its output may not be a view."""

    @staticmethod
    def forward(
        ctx: Any, rois: Tensor, level: Tensor, scales: Sequence[float], pooling: Pooling, *features: Tensor
    ) -> Tensor:
        """Pool (N, 5) RoIs (image, xyxy in the image) to (N h w, C), each from its level of L (B, C, H, W) features."""
        levels = [Level((*feature.shape,), scale) for feature, scale in zip(features, scales, strict=True)]
        ctx.levels, ctx.samples = levels, list(samples(rois, level, levels, pooling))
        return forward(features, ctx.samples, len(rois), pooling)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Compute the gradients of the features."""
        return (None, None, None, None, *backward(grads[0], ctx.samples, ctx.levels))


def forward(features: Sequence[Tensor], sampled: Sequence[Samples], number: int, pooling: Pooling) -> Tensor:
    """Pool a number of RoIs to (N h w, C) rows from the (B, C, H, W) features of every level."""
    rows = torch.cat([feature.permute(0, 2, 3, 1).flatten(0, 2) for feature in features])
    bins, channels = pooling.aligned_height * pooling.aligned_width, rows.shape[1]
    pooled = None
    for chosen, columns, weights in sampled:
        part = embedding_bag(columns.flatten(0, 1), rows, per_sample_weights=weights.flatten(0, 1).to(rows), mode="sum")
        if isinstance(chosen, slice):
            pooled = part
        else:
            pooled = rows.new_zeros(number * bins, channels) if pooled is None else pooled
            pooled.view(number, bins, channels)[chosen] = part.view(-1, bins, channels)
    return rows.new_zeros(number * bins, channels) if pooled is None else pooled


def to_maps(rows: Tensor, number: int, pooling: Pooling) -> Tensor:
    """Return a number of pooled RoIs as (N, C, h, w), channels last, from (N h w, C)."""
    return rows.view(number, pooling.aligned_height, pooling.aligned_width, rows.shape[1]).permute(0, 3, 1, 2)


def backward(grad_output: Tensor, sampled: Sequence[Samples], levels: Sequence[Level]) -> list[Tensor]:
    """Compute the (B, C, H, W) gradient of every level from the (N h w, C) gradient of the pooled RoIs."""
    pixels = [batch * height * width for (batch, _, height, width), _ in levels]
    total = None
    for chosen, columns, weights in sampled:
        bins, terms = len(columns) * columns.shape[1], columns.shape[2]
        matrix = csr_array(
            (
                weights.to(grad_output).flatten().numpy(),
                columns.flatten().numpy(),
                torch.arange(0, bins * terms + 1, terms, dtype=torch.int32).numpy(),
            ),
            shape=(bins, sum(pixels)),
        )
        grads = grad_output.unflatten(0, (-1, columns.shape[1]))[chosen].reshape(bins, -1)
        part = torch.from_numpy(matrix.T @ grads.numpy())
        total = part if total is None else total.add_(part)
    if total is None:
        total = grad_output.new_zeros(sum(pixels), grad_output.shape[1])
    return [
        part.view(batch, height, width, -1).permute(0, 3, 1, 2)
        for part, ((batch, _, height, width), _) in zip(total.split(pixels), levels, strict=True)
    ]


def samples(rois: Tensor, level: Tensor, levels: Sequence[Level], pooling: Pooling) -> Iterator[Samples]:
    """Yield the entries of S.

    Args:
        rois: (N, 5): image, xyxy in the image.
        level: (N,), of each.
        levels: of the features.
        pooling: its settings.
    """
    heights, widths, starts_at = (
        torch.tensor(of_levels)[level]
        for of_levels in (
            [shape[2] for shape, _ in levels],
            [shape[3] for shape, _ in levels],
            [sum(b * h * w for (b, _, h, w), _ in levels[:number]) for number in range(len(levels))],
        )
    )
    scales = rois.new_tensor([scale for _, scale in levels])[level]
    first_rows = starts_at + rois[:, 0].long() * heights * widths
    corners = rois[:, 1:] * scales[:, None] - (0.5 if pooling.aligned else 0.0)
    starts, sizes = corners[:, :2], corners[:, 2:] - corners[:, :2]
    if not pooling.aligned:
        sizes = sizes.clamp(min=1)
    sizes = sizes / sizes.new_tensor([pooling.aligned_width, pooling.aligned_height])  # of a bin
    for chosen, (across, down) in _grids(sizes, pooling.sampling_ratio):
        x, x_weights = _axis(starts[chosen, 0], sizes[chosen, 0], pooling.aligned_width, across, widths[chosen])
        y, y_weights = _axis(starts[chosen, 1], sizes[chosen, 1], pooling.aligned_height, down, heights[chosen])
        y = y * widths[chosen, None, None].int() + first_rows[chosen, None, None].int()
        yield Samples(chosen, _of_bins(torch.add, y, x), _of_bins(torch.mul, y_weights, x_weights))


def _grids(sizes: Tensor, ratio: int) -> Iterator[tuple[Tensor | slice, tuple[int, int]]]:
    """Yield the RoIs with equal numbers of sample points across and down a bin; RoIs without a point are skipped."""
    if ratio > 0:
        if len(sizes):
            yield slice(None), (ratio, ratio)
        return
    points = sizes.ceil().clamp(min=0).long()
    for across, down in points.unique(dim=0).tolist():
        if across * down:
            yield (points == points.new_tensor([across, down])).all(dim=1).nonzero()[:, 0], (across, down)


def _of_bins(combine: Callable[[Tensor, Tensor], Tensor], down: Tensor, across: Tensor) -> Tensor:
    """Combine (n, h, K) and (n, w, L) values of the two axes to (n, h w, K L) of the bins."""
    # One pair at a time: a broadcast over K and L has an innermost loop of length L, which takes three times as long.
    pairs = [combine(y[:, :, None], x[:, None, :]) for y in down.unbind(2) for x in across.unbind(2)]
    return torch.stack(pairs, dim=3).flatten(1, 2)


def _axis(start: Tensor, size: Tensor, bins: int, points: int, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Return the two neighbours of every sample point along one axis: (n, bins, 2 points) positions and weights.

    A point more than a pixel outside counts as 0; one closer takes the border's value.
    """
    start, size, last = start[:, None, None], size[:, None, None], lengths[:, None, None].to(start) - 1
    bin_number = torch.arange(bins, dtype=start.dtype)[:, None]
    point = torch.arange(points, dtype=start.dtype) + 0.5
    at = start + bin_number * size + point * size / points  # (n, bins, points)
    inside = (at >= -1) & (at <= last + 1)
    at = at.clamp(min=0).minimum(last)
    low = at.floor()
    share = at - low
    positions = torch.cat([low, (low + 1).minimum(last)], dim=2).int()
    weights = torch.cat([1 - share, share], dim=2) * torch.cat([inside, inside], dim=2) / points
    return positions, weights
