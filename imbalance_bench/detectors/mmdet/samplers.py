"""Samplers of images for mmdet's data loaders: ``sampler=dict(type="RepeatFactorSampler")``."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmdet.registry import DATA_SAMPLERS
from mmengine.dist import sync_random_seed

from imbalance_bench.datasets.sampling import RepeatFactorSampler, class_balanced_factors, repeat_factors


@DATA_SAMPLERS.register_module(name="RepeatFactorSampler")
def repeat_factor_sampler(
    dataset: Any, threshold: float = 0.001, ceil: bool = False, seed: int | None = None
) -> RepeatFactorSampler:
    """Build a sampler that repeats images by their rarest class (RFS, arXiv 1908.03195), drawn anew every epoch.

    Args:
        dataset: of mmdet, with boxes.
        threshold: share of images below which a class is repeated.
        ceil: round repeat factors up, as BAGS's code does.
        seed: of the order; None for a random one that all processes share.
    """
    factors = repeat_factors(_labels_of_images(dataset), len(dataset.metainfo["classes"]), threshold, ceil)
    return RepeatFactorSampler(factors, sync_random_seed() if seed is None else seed)


@DATA_SAMPLERS.register_module(name="ClassBalancedSampler")
def class_balanced_sampler(dataset: Any, seed: int | None = None) -> RepeatFactorSampler:
    """Build a sampler that draws all classes equally often (arXiv 1910.09217); ``seed`` as in RepeatFactorSampler."""
    factors = class_balanced_factors(_labels_of_images(dataset), len(dataset.metainfo["classes"]))
    return RepeatFactorSampler(factors, sync_random_seed() if seed is None else seed)


def _labels_of_images(dataset: Any) -> list[np.ndarray]:
    """Return the distinct labels of each image, without those of crowd regions."""
    return [
        np.unique(
            [box["bbox_label"] for box in dataset.get_data_info(index)["instances"] if not box["ignore_flag"]]
        ).astype(np.int64)
        for index in range(len(dataset))
    ]
