"""Classifiers that share their proposals between them, as one classifier: a proposal's features stand in its block.

A dense head has a classifier for each anchor shape (RetinaNet) or level (YOLO), and a proposal is scored by that of its
own. Put into block b of B, beside a one at place b, the features x of width d make one linear layer of all:
``W_b x + w_b + bias = (W_1 ... W_B w_1 ... w_B) (0 ... x ... 0, 0 ... 1 ... 0) + bias``. They are then fitted together,
by any method, with one loss and one set of counters, and a class has one row. With one block nothing is added.
"""

from __future__ import annotations

import torch
from torch import Tensor


def width(dim: int, blocks: int) -> int:
    """Return the width of features of width ``dim`` in their blocks.

    Example:
        >>> width(256, 1), width(256, 9)
        (256, 2313)
    """
    return dim if blocks == 1 else blocks * (dim + 1)


def expand(features: Tensor, block: Tensor | None, blocks: int) -> Tensor:
    """Put (N, d) features into their blocks.

    Args:
        features: (N, d).
        block: (N,) block of each, 0..B-1; None where there is one.
        blocks: B.

    Returns:
        (N, ``width(d, B)``).

    Example:
        >>> expand(torch.tensor([[5.0, 6.0]]), torch.tensor([1]), 2).tolist()
        [[0.0, 0.0, 5.0, 6.0, 0.0, 1.0]]
    """
    if block is None or blocks == 1:
        return features
    rows, places = torch.arange(len(features), device=features.device), block.to(features.device).long()
    expanded = features.new_zeros((len(features), blocks, features.shape[1]))
    expanded[rows, places] = features
    ones = torch.nn.functional.one_hot(places, blocks).to(features)
    return torch.cat([expanded.flatten(1), ones], dim=1)


def join_rows(weights: Tensor, biases: Tensor) -> tuple[Tensor, Tensor]:
    """Return weight (K, ``width(d, B)``) and bias (K,) of the classifier that B classifiers are together.

    Args:
        weights: (B, K, d).
        biases: (B, K); the bias of a class is their mean, and what they differ by is in the weights.
    """
    if len(weights) == 1:
        return weights[0], biases[0]
    bias = biases.mean(dim=0)
    return torch.cat([weights.transpose(0, 1).flatten(1), (biases - bias).T], dim=1), bias


def split_rows(weight: Tensor, bias: Tensor, blocks: int) -> tuple[Tensor, Tensor]:
    """Return the (B, K, d) weights and (B, K) biases that a classifier is made of: what ``join_rows`` joined."""
    if blocks == 1:
        return weight[None], bias[None]
    return weight[:, :-blocks].unflatten(1, (blocks, -1)).transpose(0, 1), (bias[:, None] + weight[:, -blocks:]).T
