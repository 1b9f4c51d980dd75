"""Chance of the validation images in AP: images drawn with replacement, AP of each draw, runs compared in pairs.

The spread over draws tells what another set of validation images of the same size could have given. It does not tell
what another training seed or another choice of categories would.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from imbalance_bench.categories import CategoryTable
from imbalance_bench.evaluation.grouping import bin_groups, frequency_groups
from imbalance_bench.evaluation.matching import Matches, average_precision


def bootstrap(
    matches_list: Sequence[Matches], categories: CategoryTable, *, resamples: int = 200, seed: int = 0
) -> pd.DataFrame:
    """Mean APs of several runs on images drawn with replacement, the same images for every run.

    A category that has no box in a draw does not count in it.

    Args:
        matches_list: of runs on the same images.
        categories: their bins and frequencies.
        resamples: number of draws.
        seed: of the generator.

    Returns:
        Columns ``resample``, ``run`` (position in ``matches_list``), ``measure`` (``mAP``, ``AP1``.., ``APr``,
        ``APc``, ``APf``), ``value`` (fraction, NaN where no category counts).

    Raises:
        ValueError: the runs' images differ.
    """
    image_ids = matches_list[0].image_ids
    if any(not np.array_equal(matches.image_ids, image_ids) for matches in matches_list):
        raise ValueError("the runs were evaluated on different images, expected the same")
    count = len(image_ids)
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    frames = []
    for run, matches in enumerate(matches_list):
        means = mean_ap(average_precision(matches, draws), categories)
        tidy = means.rename_axis("resample").reset_index().melt("resample", var_name="measure")
        frames.append(tidy.assign(run=run)[["resample", "run", "measure", "value"]])
    return pd.concat(frames, ignore_index=True)


def mean_ap(ap: np.ndarray, categories: CategoryTable) -> pd.DataFrame:
    """``grouping.summarize_ap`` of many APs at once: (R, C) to R rows, columns ``mAP``, ``AP1``.., ``APr``.. ."""
    groups = {"": np.arange(categories.num_classes)} | bin_groups(categories) | frequency_groups(categories)
    frame = pd.DataFrame(ap)
    return pd.DataFrame({f"AP{key}" if key else "mAP": frame[labels].mean(axis=1) for key, labels in groups.items()})
