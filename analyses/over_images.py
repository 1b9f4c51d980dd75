"""Intervals over validation images: what other images could have given, for two runs on the same drawn ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from imbalance_bench.categories import CategoryTable
from imbalance_bench.datasets import registry
from imbalance_bench.datasets.registry import DataSet
from imbalance_bench.evaluation.bootstrap import ap_of_draws, bounds
from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.evaluation.ground_truth import GroundTruth
from imbalance_bench.evaluation.grouping import bin_groups
from imbalance_bench.evaluation.matching import match
from imbalance_bench.experiments.run_folder import RunFolder
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.files import sha256


def annotations_of(run: RunFolder, data_dir: Path) -> tuple[DataSet, GroundTruth]:
    """Read the validation annotations that a run was measured on.

    Raises:
        InputError: the data set is not in ``data_dir``, or has other annotations there.
    """
    settings = run.record()["settings"]
    dataset = registry.get(settings["dataset"], data_dir)
    if not dataset.is_prepared():
        raise InputError(f"data set '{dataset.name}' is not in {data_dir}, '--data-dir' names another place")
    sums = settings.get("annotations_sha256")
    if sums is not None and sums != [sha256(dataset.train_annotations), sha256(dataset.val_annotations)]:
        raise InputError(f"data set '{dataset.name}' in {data_dir} is not the one that the runs were measured on")
    return dataset, GroundTruth.read(dataset.val_annotations, dataset.categories(), lvis_style=dataset.lvis_style)


def drawn(detections: Detections, truth: GroundTruth) -> pd.DataFrame:
    """Compute mean APs by group of classes (``tail``, ``head``, ``mAP``, ``AP1``, ...): row 0 on all, then on draws."""
    ap = pd.DataFrame(ap_of_draws(match(detections, truth)))
    return pd.DataFrame({name: ap[labels].mean(axis=1) for name, labels in _groups(truth.categories).items()})


def gains(run: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """Compute the gain of one run over another with its 95 % interval.

    Args:
        run: result of ``drawn``.
        other: the same of the other run.

    Returns:
        Index: the groups; columns ``gain``, ``low``, ``high``, fractions.
    """
    difference = run - other
    limits = bounds(difference.loc[0], difference.loc[1:])
    return pd.DataFrame({"gain": difference.loc[0], "low": limits["low"], "high": limits["high"]})


def _groups(categories: CategoryTable) -> dict[str, np.ndarray]:
    return {
        "tail": np.array(categories.tail_labels, dtype=np.int64),
        "head": np.array(categories.head_labels, dtype=np.int64),
        "mAP": categories.binned_labels,
        **{f"AP{number}": labels for number, labels in bin_groups(categories).items()},
    }
