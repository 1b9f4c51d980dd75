"""Norms of a classifier's weights against training instances (Figures 1 and 3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from imbalance_bench.categories import CategoryTable
from imbalance_bench.runtime.arrays import numpy_of

if TYPE_CHECKING:
    from torch import Tensor


def weight_norms(weights: Tensor | np.ndarray, biases: Tensor | np.ndarray, categories: CategoryTable) -> pd.DataFrame:
    """Compute the L2 norm of each category's weight row, without the bias.

    Args:
        weights: (C + 1, d) rows in category order, background last, helper rows dropped; NaN if a category has no row
            (``Classifier.class_weights()``).
        biases: (C + 1,), NaN if a category has no bias (``Classifier.class_biases()``).
        categories: give names, training counts and bins.

    Returns:
        Index ``label`` 0..C; columns of ``CategoryTable.frame`` (``id``, ``name``, ``image_count``,
        ``instance_count``, ``frequency``, ``bin``), ``rank`` (1 has the most training instances, the lower label
        first among equals), ``weight_norm``, ``bias``. Background is the last row: counts, bin and rank 0, no
        frequency. Sorted by rank, it comes first, as in Figure 1.

    Raises:
        ValueError: shapes that do not fit the categories.

    Example:
        >>> table = CategoryTable.from_arrays([4, 120], names=["ladle", "kite"])
        >>> weights = np.array([[0.0, 1.0], [3.0, 4.0], [6.0, 8.0]])
        >>> weight_norms(weights, np.zeros(3), table)[["name", "instance_count", "rank", "weight_norm"]]
                     name  instance_count  rank  weight_norm
        label
        0           ladle               4     2          1.0
        1            kite             120     1          5.0
        2      background               0     0         10.0
    """
    rows, bias = _array(weights), _array(biases)
    expected = categories.num_classes + 1
    if rows.ndim != 2 or len(rows) != expected or bias.shape != (expected,):
        raise ValueError(f"weights {rows.shape}, biases {bias.shape}: expected ({expected}, d) and ({expected},)")
    frame = categories.frame(background=True)
    order = np.argsort(-frame["instance_count"].to_numpy()[:-1], kind="stable")
    rank = np.zeros(expected, dtype=np.int64)
    rank[order] = np.arange(1, expected)
    frame["rank"] = rank
    return frame.assign(weight_norm=np.linalg.norm(rows, axis=1), bias=bias)


def row_norms(weights: Tensor | np.ndarray, biases: Tensor | np.ndarray) -> pd.DataFrame:
    """Compute the L2 norm of each row, without information on the categories.

    Args:
        weights: as for ``weight_norms``.
        biases: as for ``weight_norms``.

    Returns:
        Index ``label`` 0..C, background last; columns ``weight_norm``, ``bias``.
    """
    columns = {"weight_norm": np.linalg.norm(_array(weights), axis=1), "bias": _array(biases)}
    return pd.DataFrame(columns).rename_axis("label")


def norm_summary(frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Summarise the norms of the classes of each stage, and the norm of background.

    Args:
        frames: results of ``row_norms`` or ``weight_norms``, by stage.

    Returns:
        Index ``stage``; columns ``classes``, ``background``, ``mean``, ``min``, ``25%``, ``50%``, ``75%``, ``max``.
    """
    rows = {}
    for stage, frame in frames.items():
        spread = frame["weight_norm"].iloc[:-1].describe()[["mean", "min", "25%", "50%", "75%", "max"]]
        rows[stage] = {"classes": len(frame) - 1, "background": frame["weight_norm"].iloc[-1], **spread}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("stage").astype({"classes": int})


def spearman(frame: pd.DataFrame, column: str = "weight_norm") -> float:
    """Compute the Spearman correlation of norm and training instances over foreground classes; NaN if one is constant.

    Args:
        frame: result of ``weight_norms``, or any per-category table with the background row last.
        column: the column that is correlated with training instances.
    """
    pairs = frame.iloc[:-1][[column, "instance_count"]].dropna().rank()
    if (pairs.nunique() < 2).any():
        return float("nan")
    return float(pairs[column].corr(pairs["instance_count"]))


def correlation_text(frame: pd.DataFrame, digits: int = 3, column: str = "weight_norm") -> str:
    """Format the result of ``spearman``; ``-`` for NaN, for example with only one class."""
    correlation = spearman(frame, column)
    return "-" if np.isnan(correlation) else f"{correlation:.{digits}f}"


def norms_by_bin(frame: pd.DataFrame) -> pd.DataFrame:
    """Compute the number of classes and mean, deviation, least and greatest norm of each bin of training instances.

    Args:
        frame: as for ``spearman``.

    Returns:
        Index ``bin``: ``background``, then 1, 2, ... (those that have a class); columns ``classes``, ``mean``,
        ``std`` (over the population), ``min``, ``max``.
    """
    groups = {"background": frame.iloc[-1:]}
    groups |= {str(int(number)): part for number, part in frame.iloc[:-1].groupby("bin")}
    rows = {}
    for name, part in groups.items():
        norms = part["weight_norm"].dropna()
        spread = {"std": norms.std(ddof=0), "min": norms.min(), "max": norms.max()}
        rows[name] = {"classes": len(norms), "mean": norms.mean(), **spread}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("bin").astype({"classes": int})


def _array(values: Tensor | np.ndarray) -> np.ndarray:
    """Convert values to double precision on the CPU."""
    return np.asarray(numpy_of(values), dtype=np.float64)
