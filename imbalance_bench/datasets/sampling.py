"""Image sampling: by repeat factors, RFS (section 7.1.2; Table 1 rows 4 and 5) and IRFS, and class-balanced."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from mmengine.dist import get_dist_info
from torch.utils.data import Sampler

from imbalance_bench.categories import CategoryTable
from imbalance_bench.runtime.seeds import epoch_seed

LVIS_MEAN = 1.14307699
"""Mean repeat factor, by RFS, of LVIS v0.5's 56,740 training images at its t of .001."""


def lvis_threshold(
    image_labels: Sequence[np.ndarray], num_classes: int, instances: Sequence[int] | np.ndarray | None = None
) -> float:
    """Compute the t at which the images' mean repeat factor is LVIS's; by RFS it is .001 on LVIS v0.5.

    A class's share of images is larger where there are fewer images, so LVIS's own t repeats next to nothing of a small
    data set. With ``instances`` (IRFS) the mean is the same, so that epochs of RFS and IRFS are equally long.
    """
    low, high = 0.0, 1.0
    while repeat_factors(image_labels, num_classes, high, instances=instances).mean() < LVIS_MEAN:
        low, high = high, 2 * high
    for _ in range(40):
        middle = (low + high) / 2
        if repeat_factors(image_labels, num_classes, middle, instances=instances).mean() < LVIS_MEAN:
            low = middle
        else:
            high = middle
    return high


def repeat_factors(
    image_labels: Sequence[np.ndarray],
    num_classes: int,
    threshold: float = 0.001,
    ceil: bool = False,
    instances: Sequence[int] | np.ndarray | None = None,
) -> np.ndarray:
    """Return the (I,) repeat factor of each image: the largest ``r_c = max(1, sqrt(t / f_c))`` of its classes.

    f_c is the share of images that hold class c (RFS), or the geometric mean of this share and the class's share of all
    boxes (instance-aware RFS, arXiv 2305.08069).

    Args:
        image_labels: distinct labels of each image.
        num_classes: number of classes C.
        threshold: t, the fraction of images below which a class is repeated.
        ceil: round as BAGS's code does: an image of factor 1 comes once, every other image ``1 + ceil(r)`` times (the
            copies are added to the image itself). On LVIS v0.5 an epoch has 80,488 images of 56,740.
        instances: (C,) boxes of each class, for IRFS; None for RFS.
    """
    counts = np.bincount(np.concatenate(image_labels), minlength=num_classes)
    frequency = np.maximum(counts, 1) / len(image_labels)
    if instances is not None:
        boxes = np.maximum(np.asarray(instances, dtype=np.float64), 1)
        frequency = np.sqrt(frequency * boxes / boxes.sum())
    by_class = np.maximum(1, np.sqrt(threshold / frequency))
    factors = np.array([by_class[labels].max(initial=1.0) for labels in image_labels])
    return np.where(factors > 1, 1 + np.ceil(factors), 1.0) if ceil else factors


def class_balanced_factors(image_labels: Sequence[np.ndarray], num_classes: int) -> np.ndarray:
    """Return the (I,) expected draws of each image, if a random class and then an image of it are drawn I times.

    This is the class-balanced sampling of arXiv 1910.09217.

    Args:
        image_labels: distinct labels of each image.
        num_classes: number of classes C; a class without an image is never drawn.
    """
    images_of_class = np.bincount(np.concatenate(image_labels), minlength=num_classes)
    weights = np.array([(1 / images_of_class[labels]).sum() for labels in image_labels])
    return weights * (len(image_labels) / weights.sum())


def _repeated(
    labels: Sequence[np.ndarray], categories: CategoryTable, options: Mapping[str, Any], by_instances: bool
) -> np.ndarray:
    """Return the repeat factors that the options of a run ask for."""
    instances = categories.instance_counts if by_instances else None
    threshold = options["threshold"]
    if threshold == "lvis":
        threshold = lvis_threshold(labels, categories.num_classes, instances)
    return repeat_factors(labels, categories.num_classes, threshold, options["repeat"] == "ceil", instances)


IMAGE_FACTORS: dict[str, Callable[[Sequence[np.ndarray], CategoryTable, Mapping[str, Any]], np.ndarray]] = {
    "repeat-factor": partial(_repeated, by_instances=False),
    "instance-repeat-factor": partial(_repeated, by_instances=True),
    "class-balanced": lambda labels, categories, options: class_balanced_factors(labels, categories.num_classes),
}
"""By the ``sampling`` of a method: (labels of each image, categories, options of the run) -> (I,) how often each image
occurs in an epoch. With other samplings every image occurs once."""


class RepeatFactorSampler(Sampler[int]):
    """A sampler of images in random order, each repeated floor(r) or floor(r) + 1 times, r times on average.

    Every epoch is drawn anew (stochastic rounding), and cut or filled to the expected length, so that all epochs have
    the same number of iterations. Several processes draw the same epoch, and each takes every n-th image, as mmengine's
    DefaultSampler does.
    """

    def __init__(self, factors: np.ndarray, seed: int) -> None:
        self.factors, self.seed, self.epoch = np.asarray(factors, dtype=np.float64), seed, 0
        self.rank, self.world = get_dist_info()
        self.total = round(float(self.factors.sum()))

    def set_epoch(self, epoch: int) -> None:
        """Set the number of the epoch; mmengine calls this before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.total // self.world)

    def __iter__(self) -> Iterator[int]:
        generator = np.random.default_rng(epoch_seed(self.seed, self.epoch))
        whole = np.floor(self.factors)
        repeats = whole + (generator.random(len(whole)) < self.factors - whole)
        indices = generator.permutation(np.repeat(np.arange(len(whole)), repeats.astype(int)))
        missing = self.total - len(indices)
        if missing > 0:
            probabilities = self.factors / self.factors.sum()
            indices = np.concatenate([indices, generator.choice(len(whole), missing, p=probabilities)])
        # The first images fill the last round, so that every process has as many.
        indices = np.resize(indices[: self.total], len(self) * self.world)
        yield from indices[self.rank :: self.world].tolist()
