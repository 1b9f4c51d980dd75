"""Batches of cached RoIs, by a method's sampling: random images, or images or RoIs of sampled classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor

from imbalance_bench.proposals.proposal_set import ProposalSet
from imbalance_bench.proposals.shards import ahead

Batches = Callable[[int, torch.Generator, str], Iterator[tuple[Tensor, Tensor]]]
"""(images of a batch, generator of what is random, device) -> the (features, labels) of one epoch."""


def drawing(proposals: ProposalSet, num_classes: int, sampling: str = "uniform") -> Batches:
    """Return the function that draws the batches of an epoch.

    Args:
        proposals: the training part of a cache.
        num_classes: C; background is no class here.
        sampling: of ``Method``: ``uniform``, ``class-balanced`` or ``bi-level``.
    """
    of: dict[str, Callable[[], Batches]] = {
        "uniform": lambda: partial(whole_images, proposals, None),
        "class-balanced": lambda: partial(whole_images, proposals, balanced_weights(proposals, num_classes)),
        "bi-level": lambda: partial(bi_level, proposals, num_classes),
    }
    return of[sampling]()


def whole_images(
    proposals: ProposalSet, weights: Tensor | None, images_per_batch: int, generator: torch.Generator, device: str
) -> Iterator[tuple[Tensor, Tensor]]:
    """Draw every image once, in random order, each in one of its views.

    The next batch is read while the present one is in use.

    Args:
        proposals: the training part of a cache.
        weights: of the images in ascending order of ids; as many images are then drawn by them, with replacement.
        images_per_batch: images of a batch.
        generator: of what is random.
        device: of the batches.
    """
    unique, position = np.unique(proposals.image_ids, return_inverse=True)
    views = np.argsort(position, kind="stable").reshape(len(unique), -1)
    choice = torch.randint(views.shape[1], (len(unique),), generator=generator).numpy()
    if weights is None:
        order = torch.randperm(len(unique), generator=generator).numpy()
    else:
        order = torch.multinomial(weights, len(unique), replacement=True, generator=generator).numpy()
    images = views[np.arange(len(unique)), choice][order]
    drawn = (images[start : start + images_per_batch] for start in range(0, len(images), images_per_batch))
    return ahead(lambda batch: proposals.batch([proposals.rows(image) for image in batch], device), drawn)


def balanced_weights(proposals: ProposalSet, num_classes: int) -> Tensor:
    """Compute the probability of each image when a class is drawn at random, then an image that holds it."""
    unique, position = np.unique(proposals.image_ids, return_inverse=True)
    image = np.repeat(position, np.diff(proposals.offsets))
    foreground = proposals.labels < num_classes
    pairs = np.unique(np.stack([image[foreground], proposals.labels[foreground]]), axis=1)
    images_of_class = np.bincount(pairs[1], minlength=num_classes)
    weights = np.bincount(pairs[0], 1 / images_of_class[pairs[1]], minlength=len(unique))
    return torch.from_numpy(weights / weights.sum())


def bi_level(
    proposals: ProposalSet, num_classes: int, images_per_batch: int, generator: torch.Generator, device: str
) -> Iterator[tuple[Tensor, Tensor]]:
    """Draw classes at random, and of each a view of an image that holds it (SimCal, arXiv 2007.11978).

    Of the view come the class's own RoIs and as many of background's, at random; as many draws as there are images.

    Args:
        proposals: the training part of a cache.
        num_classes: C, the label of background.
        images_per_batch: classes of a batch.
        generator: of what is random.
        device: of the batches.
    """
    view_of = np.repeat(np.arange(proposals.num_images), np.diff(proposals.offsets))
    foreground = proposals.labels < num_classes
    holders = np.unique(np.stack([proposals.labels[foreground], view_of[foreground]]), axis=1)
    classes, starts, sizes = np.unique(holders[0], return_index=True, return_counts=True)
    chosen = []
    for _ in range(len(np.unique(proposals.image_ids))):
        number, place = (_below(most, generator) for most in (len(classes), 1 << 30))
        view = holders[1, starts[number] + place % sizes[number]]
        rows = proposals.rows(view)
        labels = torch.from_numpy(proposals.labels[rows])
        own, background = (labels == classes[number]).nonzero()[:, 0], (labels == num_classes).nonzero()[:, 0]
        others = background[torch.randperm(len(background), generator=generator)[: len(own)]]
        chosen.append(torch.cat([own, others]) + rows.start)
    batches = (torch.cat(chosen[start : start + images_per_batch]) for start in range(0, len(chosen), images_per_batch))
    return ahead(lambda batch: proposals.batch([slice(row, row + 1) for row in batch.tolist()], device), batches)


def _below(most: int, generator: torch.Generator) -> int:
    return int(torch.randint(most, (), generator=generator))
