import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr

from imbalance_bench.categories import CategoryTable
from imbalance_bench.evaluation.weight_norms import (
    correlation_text,
    norm_summary,
    norms_by_bin,
    row_norms,
    spearman,
    weight_norms,
)

COUNTS = np.array([5, 40, 7, 2000, 40, 3])


def table(counts=COUNTS):
    n = len(counts)
    return CategoryTable(np.arange(n) * 2 + 1, tuple("abcdefghijklmnopqrstuvwxyz"[:n]), counts // 2, counts, ("c",) * n)


def test_norms_ranks_and_background_by_hand():
    weights = torch.zeros(7, 3, requires_grad=True)
    with torch.no_grad():
        weights[:, 0], weights[:, 1] = 3 * torch.arange(1, 8), 4 * torch.arange(1, 8)
    frame = weight_norms(weights, torch.arange(7), table())
    assert frame["weight_norm"].tolist() == pytest.approx([5.0 * i for i in range(1, 8)])
    assert frame["bias"].tolist() == list(range(7))
    assert frame["rank"].tolist() == [5, 2, 4, 1, 3, 6, 0]
    assert frame["bin"].tolist() == [1, 2, 1, 4, 2, 1, 0]
    assert frame.loc[6, ["id", "name", "instance_count", "frequency"]].tolist() == [0, "background", 0, ""]
    assert frame.index.name == "label"
    assert frame["rank"].dtype.kind == frame["id"].dtype.kind == "i"
    pd.testing.assert_frame_equal(frame, weight_norms(weights.detach().numpy(), np.arange(7), table()))
    bins = norms_by_bin(frame)
    assert bins.index.tolist() == ["background", "1", "2", "4"]
    assert bins["classes"].tolist() == [1, 3, 2, 1]
    assert bins["mean"].tolist() == pytest.approx([35, (5 + 15 + 30) / 3, (10 + 25) / 2, 20])
    assert bins.loc["2", ["std", "min", "max"]].tolist() == pytest.approx([7.5, 10, 25])


@pytest.mark.parametrize("seed", range(5))
def test_spearman_equals_scipys_with_ties(seed):
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 8, 20)
    weights = np.round(rng.normal(size=(21, 1)) + np.append(counts, 1e6)[:, None] / 4, 1)
    frame = weight_norms(weights, np.zeros(21), table(counts))
    assert spearman(frame) == pytest.approx(spearmanr(np.abs(weights[:-1, 0]), counts).statistic)


def test_rows_that_do_not_exist_are_left_out():
    weights = np.ones((7, 2)) * np.append(COUNTS, 1)[:, None]
    weights[[3, 6]] = np.nan
    frame = weight_norms(weights, np.full(7, np.nan), table())
    assert spearman(frame) == pytest.approx(1)
    assert norms_by_bin(frame)["classes"].tolist() == [0, 3, 2, 0]
    assert math.isnan(spearman(weight_norms(np.full((7, 2), np.nan), np.zeros(7), table())))


def test_shapes_that_do_not_fit():
    for weights, biases in [((6, 3), (7,)), ((7, 3), (6,)), ((7,), (7,))]:
        with pytest.raises(ValueError, match="expected"):
            weight_norms(np.ones(weights), np.ones(biases), table())


def test_norms_of_unknown_categories():
    weights = np.array([[3, 4], [6, 8], [0, 5], [np.nan, np.nan], [30, 40]])
    frame = row_norms(torch.tensor(weights[[0, 1, 2, 4]]), torch.arange(4))
    assert frame["weight_norm"].tolist() == [5, 10, 5, 50] and frame["bias"].tolist() == [0, 1, 2, 3]
    summary = norm_summary({"a": frame, "b": row_norms(weights[:4], np.zeros(4))})
    assert summary.loc["a", ["classes", "background", "min", "50%", "max"]].tolist() == [3, 50, 5, 5, 10]
    assert summary.loc["a", "mean"] == pytest.approx(20 / 3) and summary.loc["a", "75%"] == 7.5
    assert math.isnan(summary.loc["b", "background"]) and summary.loc["b", "classes"] == 3


def test_the_correlation_of_one_class_is_none() -> None:
    one = weight_norms(np.ones((2, 3)), np.zeros(2), table(np.array([4])))
    assert math.isnan(spearman(one)) and correlation_text(one) == "-"
    several = weight_norms(np.diag(np.arange(1.0, 8)), np.zeros(7), table(np.arange(6) + 1))
    assert correlation_text(several, 2) == "1.00"
