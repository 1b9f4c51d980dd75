"""RoIAlign on a CPU as products with sparse matrices.

A pooled value is a weighted sum of feature vectors: 4 for each sample point, the same for all channels. So the pooled
RoIs of an image level are ``S @ features``, and the gradient is ``S.T @ grad``, with one row of S for each bin.
torchvision's kernel goes over every channel by itself; its backward pass takes a fifth of a training step of a small
detector, this one a hundredth.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from scipy.sparse import csr_array
from torch import Tensor
from torch.nn.functional import embedding_bag


class Pooling(NamedTuple):
    """The settings of the pooling, with mmcv's argument names.

    Attributes:
        aligned_height: bins of a RoI from top to bottom.
        aligned_width: and from left to right.
        spatial_scale: pixels of the features for one of the image.
        sampling_ratio: sample points of a bin along each axis; 0: the number of pixels that it covers.
        aligned: pixel centres are at .5 (else at 0, and a RoI is at least one pixel wide).
    """

    aligned_height: int
    aligned_width: int
    spatial_scale: float
    sampling_ratio: int
    aligned: bool


def forward(features: Tensor, rois: Tensor, pooling: Pooling) -> Tensor:
    """Pool (B, C, H, W) features in (N, 5) RoIs (image, xyxy in the image) to (N, C, h, w)."""
    batch, channels, height, width = features.shape
    rows = features.permute(0, 2, 3, 1).reshape(batch * height * width, channels)
    pooled = features.new_zeros(len(rois), pooling.aligned_height * pooling.aligned_width, channels)
    for chosen, columns, weights in _samples(rois, height, width, pooling):
        pooled[chosen] = embedding_bag(
            columns.flatten(0, 1), rows, per_sample_weights=weights.flatten(0, 1).to(rows), mode="sum"
        ).view(len(columns), -1, channels)
    return pooled.permute(0, 2, 1).reshape(len(rois), channels, pooling.aligned_height, pooling.aligned_width)


def backward(grad_output: Tensor, rois: Tensor, shape: torch.Size, pooling: Pooling) -> Tensor:
    """Compute the (B, C, H, W) gradient of the features from the (N, C, h, w) gradient of the pooled RoIs."""
    batch, channels, height, width = shape
    grads = grad_output.flatten(2).permute(0, 2, 1)  # (N, bins, C)
    total = grad_output.new_zeros(batch * height * width, channels)
    for chosen, columns, weights in _samples(rois, height, width, pooling):
        bins, terms = len(columns) * columns.shape[1], columns.shape[2]
        matrix = csr_array(
            (
                weights.to(grads).flatten().numpy(),
                columns.int().flatten().numpy(),
                torch.arange(0, bins * terms + 1, terms, dtype=torch.int32).numpy(),
            ),
            shape=(bins, len(total)),
        )
        total += torch.from_numpy(matrix.T @ grads[chosen].reshape(bins, channels).numpy())
    return total.view(batch, height, width, channels).permute(0, 3, 1, 2)


def _samples(
    rois: Tensor, height: int, width: int, pooling: Pooling
) -> Iterator[tuple[Tensor | slice, Tensor, Tensor]]:
    """Yield RoIs with equal numbers of sample points, their (n, bins, K) feature rows, and the weights of the rows."""
    shift = 0.5 if pooling.aligned else 0.0
    corners = rois[:, 1:] * pooling.spatial_scale - shift
    starts, sizes = corners[:, :2], corners[:, 2:] - corners[:, :2]
    if not pooling.aligned:
        sizes = sizes.clamp(min=1)
    sizes = sizes / sizes.new_tensor([pooling.aligned_width, pooling.aligned_height])  # of a bin
    for chosen, (across, down) in _grids(sizes, pooling.sampling_ratio):
        x, x_weights = _axis(starts[chosen, 0], sizes[chosen, 0], pooling.aligned_width, across, width)
        y, y_weights = _axis(starts[chosen, 1], sizes[chosen, 1], pooling.aligned_height, down, height)
        columns = y[:, :, None, :, None] * width + x[:, None, :, None, :]  # (n, h, w, 2 down, 2 across)
        columns += (rois[chosen, 0].long() * (height * width))[:, None, None, None, None]
        weights = y_weights[:, :, None, :, None] * x_weights[:, None, :, None, :]
        yield chosen, columns.flatten(3).flatten(1, 2), weights.flatten(3).flatten(1, 2)


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


def _axis(start: Tensor, size: Tensor, bins: int, points: int, length: int) -> tuple[Tensor, Tensor]:
    """Return the two neighbours of every sample point along one axis: (n, bins, 2 points) positions and weights.

    A point more than a pixel outside counts as 0; one closer takes the border's value.
    """
    start, size = start[:, None, None], size[:, None, None]
    bin_number = torch.arange(bins, dtype=start.dtype)[:, None]
    point = torch.arange(points, dtype=start.dtype) + 0.5
    at = start + bin_number * size + point * size / points  # (n, bins, points)
    inside = (at >= -1) & (at <= length)
    at = at.clamp(0, length - 1)
    low = at.floor()
    share = at - low
    positions = torch.cat([low, (low + 1).clamp(max=length - 1)], dim=2).long()
    weights = torch.cat([1 - share, share], dim=2) * torch.cat([inside, inside], dim=2) / points
    return positions, weights
