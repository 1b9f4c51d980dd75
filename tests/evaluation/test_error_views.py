"""Errors by bin: sums and means of the per-category table, and a figure that shows them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from imbalance_bench import plotting
from imbalance_bench.categories import CategoryTable
from imbalance_bench.evaluation import error_views as views
from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.evaluation.error_analysis import analyse
from imbalance_bench.evaluation.ground_truth import GroundTruth
from imbalance_bench.runtime.errors import InputError

COUNTS = np.array([5, 2000, 50, 8])
CATEGORIES = CategoryTable(np.array([1, 2, 3, 7]), tuple("abcd"), COUNTS, COUNTS, tuple("rfcr"))
"""Bins 1, 4, 2, 1; the last class has no validation box."""


@pytest.fixture
def frame() -> pd.DataFrame:
    """Two boxes of a: one under b's name, one not found; b's right; c's a little off."""
    boxes = [(1, 1, 0, 0), (1, 1, 50, 50), (1, 2, 80, 0), (2, 3, 0, 0)]
    content = {
        "images": [{"id": 1, "height": 100, "width": 100}, {"id": 2, "height": 100, "width": 100}],
        "annotations": [{"image_id": i, "category_id": c, "bbox": [x, y, 10, 10]} for i, c, x, y in boxes],
    }
    truth = GroundTruth.read(content | {"categories": []}, CATEGORIES, lvis_style=False)
    corners = np.array([[0, 0, 10, 10], [80, 0, 90, 10], [5, 0, 15, 10]], dtype=float)
    found = Detections(np.array([1, 1, 2]), np.array([1, 1, 2]), corners, np.array([0.9, 0.8, 0.7]))
    overlaps = np.where(truth.boxes[:, 0] == 50, 0.3, 0.9)
    return views.per_category(analyse(found, truth), overlaps)


def test_by_bin(frame: pd.DataFrame) -> None:
    tables = views.by_bin(frame, CATEGORIES)
    best = tables["best detections"]
    assert best.index.tolist() == ["all", "1", "2", "3", "4"]
    assert best.loc["4", "bin 1"] == 1, "its best one stands on a box of a"
    assert best.loc["2", "localisation"] == 1
    assert best.loc["1"].isna().all()
    boxes = tables["boxes"]
    assert boxes.loc["1", ["bin 4", "no proposal", "missed"]].tolist() == [0.5, 0.5, 0.5]
    assert boxes.loc["2", "proposal only"] == 1
    assert boxes.drop(columns="missed").loc["all"].sum() == pytest.approx(1)
    gained = tables["gains in AP50"]
    assert gained.loc["4", ["ap50", "classification"]].tolist() == pytest.approx([0.5, 0.5])
    assert gained.loc["2", "localisation"] == pytest.approx(1)
    # Recall 1 of 2 of the 101 levels: 0 to .5.
    assert gained.loc["1", "classification"] == pytest.approx(51 / 101)
    assert gained.loc["all", "ap50"] == pytest.approx(0.5 / 3)


def test_figure(frame: pd.DataFrame) -> None:
    tables = views.by_bin(frame, CATEGORIES)
    sheet = plotting.errors(tables, "title")
    top, middle, bottom = sheet.axes
    for axis, name in ((top, "best detections"), (middle, "boxes")):
        widths = [patch.get_width() for patch in axis.patches]
        assert sum(widths) == pytest.approx(100 * tables[name].drop(columns="missed", errors="ignore").sum().sum())
    heights = sum(patch.get_height() for patch in bottom.patches)
    assert heights == pytest.approx(100 * tables["gains in AP50"].drop(index="all", columns="ap50").sum().sum())


def test_written_tables_are_read_back(frame: pd.DataFrame, tmp_path: Path) -> None:
    tables = views.by_bin(frame, CATEGORIES)
    views.write(tables, tmp_path)
    for name, table in views.read(tmp_path).items():
        pd.testing.assert_frame_equal(table, tables[name])
    with pytest.raises(InputError, match="not the tables that 'errors' writes"):
        views.read(tmp_path / "absent")
