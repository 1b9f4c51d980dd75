"""Intervals of mean APs, and of the difference of two runs, over the random choice of validation images.

An interval covers the results that another draw of equally many validation images could give (bootstrap over images).
It covers neither training (other seeds give other weights; train several) nor the choice of categories (see
``bootstrap.interval_over_classes``): a run's interval holds for *this* detector on *these* categories.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import pandas as pd

from imbalance_bench.categories import CategoryTable
from imbalance_bench.evaluation.bootstrap import bootstrap, bounds, mean_ap
from imbalance_bench.evaluation.detections import read
from imbalance_bench.evaluation.ground_truth import GroundTruth
from imbalance_bench.evaluation.matching import average_precision, match


def intervals(
    run_folders: Mapping[str, str | os.PathLike[str]],
    annotations: str | os.PathLike[str] | Mapping[str, Any],
    categories: CategoryTable,
    *,
    lvis_style: bool,
    resamples: int = 200,
    seed: int = 0,
) -> pd.DataFrame:
    """Compute mean APs of runs, each with its 95 % interval over the validation images.

    Overlapping intervals do not mean that two runs are equal, as both use the same images: see ``paired``.

    Args:
        run_folders: folder with ``detections.npz`` (or a file that ``detections.read`` accepts) of each run.
        annotations: annotations of the validation images, as for ``GroundTruth.read``.
        categories: as for ``GroundTruth.read``.
        lvis_style: as for ``GroundTruth.read``.
        resamples: number of draws of the images.
        seed: seed of the draws.

    Returns:
        Index (``run``, ``measure``), measures ``mAP``, ``AP1``.., ``APr``, ``APc``, ``APf``; columns ``value`` (on
        all images), ``images_low``, ``images_high``: fractions, NaN if no category of the group has ground truth.

    Raises:
        InputError: bad annotations or detections.
    """
    values, draws = _values_and_draws(run_folders, annotations, categories, lvis_style, resamples, seed)
    frames = {
        run: pd.DataFrame({"value": values[run]}).join(_over_images(values[run], draws[run])) for run in run_folders
    }
    return pd.concat(frames, names=["run", "measure"])


def paired(
    run_a: str | os.PathLike[str],
    run_b: str | os.PathLike[str],
    annotations: str | os.PathLike[str] | Mapping[str, Any],
    categories: CategoryTable,
    *,
    lvis_style: bool,
    resamples: int = 200,
    seed: int = 0,
) -> pd.DataFrame:
    """Compute the difference of two runs with its 95 % interval, both measured on the same drawn images.

    Args:
        run_a: folder with ``detections.npz`` of the first run.
        run_b: folder of the second run.
        annotations: as for ``intervals``.
        categories: as for ``intervals``.
        lvis_style: as for ``intervals``.
        resamples: as for ``intervals``.
        seed: as for ``intervals``.

    Returns:
        Index ``measure``; columns ``a``, ``b``, ``difference`` (b - a), ``images_low``, ``images_high`` (of the
        difference), ``real`` (the interval excludes 0). ``real`` holds for these two detectors, not for their methods:
        with another training seed it may change.

    Raises:
        InputError: bad annotations or detections.
    """
    runs = {"a": run_a, "b": run_b}
    values, draws = _values_and_draws(runs, annotations, categories, lvis_style, resamples, seed)
    difference = values["b"] - values["a"]
    frame = pd.DataFrame({**values, "difference": difference}).join(_over_images(difference, draws["b"] - draws["a"]))
    return frame.assign(real=(frame["images_low"] > 0) | (frame["images_high"] < 0)).rename_axis("measure")


def _over_images(values: pd.Series, draws: pd.DataFrame) -> pd.DataFrame:
    return bounds(values, draws).add_prefix("images_")


def _values_and_draws(
    runs: Mapping[str, str | os.PathLike[str]],
    annotations: str | os.PathLike[str] | Mapping[str, Any],
    categories: CategoryTable,
    lvis_style: bool,
    resamples: int,
    seed: int,
) -> tuple[dict[str, pd.Series], dict[str, pd.DataFrame]]:
    """Compute the measures of each run on all images, and on each draw (a frame with one row per draw)."""
    truth = GroundTruth.read(annotations, categories, lvis_style=lvis_style)
    matches = [match(read(path, categories), truth) for path in runs.values()]
    drawn = bootstrap(matches, categories, resamples=resamples, seed=seed)
    values, draws = {}, {}
    for number, (run, matched) in enumerate(zip(runs, matches, strict=True)):
        values[run] = mean_ap(average_precision(matched)[None], categories).loc[0]
        own = drawn[drawn["run"] == number].pivot_table("value", "resample", "measure", dropna=False)
        draws[run] = own[values[run].index]
    return values, draws
