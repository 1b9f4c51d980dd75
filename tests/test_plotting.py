"""The figure of weight norms: each table is drawn by its own counts, and nothing outside the axes."""

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from imbalance_bench import plotting


def table(counts: list[int], norms: list[float]) -> pd.DataFrame:
    """A per-category table; background, of norm 9, is its last row."""
    bins = [1 if count < 10 else 2 for count in counts]
    return pd.DataFrame({"instance_count": [*counts, 0], "bin": [*bins, 0], "weight_norm": [*norms, 9.0]})


def test_each_data_set_is_ranked_by_its_own_counts() -> None:
    frames = {"long": table([5, 500, 50], [0.1, 0.3, 0.2]), "other": table([7, 3, 90, 40, 60], [3, 4, 0, 2, 1])}
    figure = plotting.weight_norms(frames, ["[0,10)", "[10,inf)"])
    top, bottom = figure.axes
    curves = [line for line in top.lines if len(line.get_xdata()) > 2]
    assert [line.get_ydata().tolist() for line in curves] == [[0.3, 0.2, 0.1], [0, 1, 2, 3, 4]]
    assert [line.get_xdata().tolist() for line in curves] == [[1, 2, 3], [1, 2, 3, 4, 5]]
    labels = [line.get_label() for line in curves]
    assert "1.00" in labels[0] and "-1.00" in labels[1], "the rank correlation is of its own counts too"
    assert [line.get_ydata().tolist() for line in bottom.lines[:2]] == [[500, 50, 5], [90, 60, 40, 7, 3]]
    assert top.get_xlim()[1] > 5
    plt.close(figure)


def test_a_class_without_an_instance_stands_on_the_axis() -> None:
    figure = plotting.weight_norms({"run": table([0, 500, 50], [0.1, 0.3, 0.2])}, ["[0,10)", "[10,inf)"])
    _, bottom = figure.axes
    (area,) = bottom.collections
    low, high = bottom.get_ylim()
    heights = area.get_paths()[0].vertices[:, 1]
    assert np.isfinite(heights).all() and low <= heights.min() and heights.max() <= high
    plt.close(figure)
