"""Intervals of mean APs, and whether two runs differ, over the chance of the validation images.

An interval covers what another draw of as many validation images could give (bootstrap over images). It covers
neither training (other seeds give other weights; train several) nor the choice of categories (see
``bootstrap.interval_over_classes``): a run's interval is of *this* detector on *these* categories.
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
    """Mean APs of runs, each with its 95 % interval over the validation images.

    Two intervals that overlap do not mean that the runs are equal, as both saw the same images: see ``paired``.

    Args:
        run_folders: folder with ``detections.npz`` (or a file that ``detection.read`` takes) of each run.
        annotations: of the validation images, as for ``detection.evaluate``.
        categories: as for ``detection.evaluate``.
        lvis_style: as for ``detection.evaluate``.
        resamples: draws of the images.
        seed: of the draws.

    Returns:
        Index (``run``, ``measure``), measures ``mAP``, ``AP1``.., ``APr``, ``APc``, ``APf``; columns ``value`` (on
        all images), ``images_low``, ``images_high``: fractions, NaN where no category of the group has ground truth.

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
    """Difference of two runs with its 95 % interval: both are measured on the same drawn images.

    Args:
        run_a: folder with ``detections.npz`` of the one run.
        run_b: of the other.
        annotations: as for ``intervals``, and so the rest.
        categories: as above.
        lvis_style: as above.
        resamples: as above.
        seed: as above.

    Returns:
        Index ``measure``; columns ``a``, ``b``, ``difference`` (b - a), ``images_low``, ``images_high`` (of it),
        ``real`` (the interval excludes 0). ``real`` is said of these two detectors, not of their methods: another
        training seed may turn it.

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
    """Of each run the measures on all images, and a frame of them with a row a draw."""
    truth = GroundTruth.read(annotations, categories, lvis_style=lvis_style)
    matches = [match(read(path, categories), truth) for path in runs.values()]
    drawn = bootstrap(matches, categories, resamples=resamples, seed=seed)
    values, draws = {}, {}
    for number, (run, matched) in enumerate(zip(runs, matches, strict=True)):
        values[run] = mean_ap(average_precision(matched)[None], categories).loc[0]
        own = drawn[drawn["run"] == number].pivot_table("value", "resample", "measure", dropna=False)
        draws[run] = own[values[run].index]
    return values, draws
