"""Counts and picture of Figure 6."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analyses import coco_lt, figures, outputs
from imbalance_bench.categories import CategoryTable
from imbalance_bench.datasets.coco_lt import sample_long_tail
from imbalance_bench.datasets.emoji_profile import PROFILES, lvis_counts_by_rank
from imbalance_bench.datasets.prepared import prepare_splits
from imbalance_bench.datasets.registry import DataSet
from imbalance_bench.datasets.split import Split
from imbalance_bench.runtime.errors import InputError


def test_the_embedded_set_stands_for_coco(tmp_path: Path) -> None:
    frame, names, title = coco_lt.profiles(tmp_path)
    assert names[0] == coco_lt.EMBEDDED and "not prepared" in title
    assert frame["available"].sum() == PROFILES[coco_lt.EMBEDDED].counts_by_rank().sum()
    assert (frame["instance_count"] == frame[["target", "available"]].min(axis=1)).all()
    assert sorted(frame["target"])[::-1] == lvis_counts_by_rank(64).tolist()


def test_its_labels_are_those_of_the_drawn_set(mini: DataSet) -> None:
    profile = PROFILES[mini.name]
    content = coco_lt.label_content(profile.train_labels(seed=0), profile.classes)
    counted = np.bincount([a["category_id"] for a in content["annotations"]])
    assert counted.tolist() == mini.categories().instance_counts.tolist()


def test_where_coco_lt_is_prepared(mini: DataSet, tmp_path: Path) -> None:
    splits = {
        "train": Split(mini.train_annotations, mini.train_images), "val": Split(mini.val_annotations, mini.val_images)
    }  # fmt: skip

    def sample(content: Any, categories: CategoryTable) -> tuple[dict[str, Any], np.ndarray]:
        return sample_long_tail(content, np.full(12, 3), 0), np.full(12, 3)

    prepare_splits("coco-lt", splits, tmp_path / "coco-lt", what="a stand-in", attribution="", sample=sample)
    frame, names, _ = coco_lt.profiles(tmp_path)
    assert names == ("COCO train2017", "COCO-LT")
    assert frame["available"].tolist() == mini.categories().instance_counts.tolist()
    assert frame["instance_count"].tolist() == np.minimum(3, frame["available"]).tolist()


def test_the_figure(tmp_path: Path) -> None:
    frame = pd.DataFrame({"available": [50, 9, 400], "instance_count": [7, 0, 400]})
    figure = figures.aligned_profiles(frame, np.array([900, 100, 60, 7, 1]), ("big", "small"))
    before, after = figure.axes[0].get_lines()
    assert before.get_xdata().tolist() == [1, 3, 5] and before.get_ydata().tolist() == [400, 50, 9]
    assert after.get_xdata().tolist() == [1, 3] and after.get_ydata().tolist() == [400, 7]
    assert outputs.draw_figure6(tmp_path, tmp_path / "figure6.png").stat().st_size > 10_000
    with pytest.raises(InputError, match=r"record\.json"):
        (tmp_path / "coco-lt").mkdir()
        (tmp_path / "coco-lt" / "record.json").write_text("{}")
        coco_lt.profiles(tmp_path)
