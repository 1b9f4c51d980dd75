"""What a convolution reads at single points of its maps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def patches(maps: Sequence[Tensor], kernel: tuple[int, ...], shapes: int, rows: Tensor) -> Tensor:
    """Return the (R, channels h w) patches that a convolution with padding reads at some anchors.

    Args:
        maps: of each level, (channels, H, W).
        kernel: height h and width w of the filters, odd.
        shapes: anchors at a point, A; they follow each other, point after point in rows, level after level.
        rows: (R,) numbers of anchors, in ascending order.
    """
    height, width = kernel
    found, start = [], 0
    for level in maps:
        size = level.shape[1] * level.shape[2] * shapes
        own = rows[(rows >= start) & (rows < start + size)] - start
        point = (own // shapes).to(level.device)
        padded = torch.nn.functional.pad(level, (width // 2, width // 2, height // 2, height // 2))
        windows = padded.unfold(1, height, 1).unfold(2, width, 1)  # (channels, H, W, h, w)
        y, x = point // level.shape[2], point % level.shape[2]
        found.append(windows[:, y, x].movedim(0, 1).flatten(1))
        start += size
    return torch.cat(found)
