"""The category table: bins, labels, and annotation files that are wrong."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from imbalance_bench.categories import CategoryTable, bin_index
from imbalance_bench.errors import InputError

SHARED = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "lvis_v0.5_train_counts.csv"


def content(**changes: Any) -> dict[str, Any]:
    good = {
        "images": [{"id": 1}, {"id": 2}],
        "categories": [{"id": 7, "name": "b"}, {"id": 3, "name": "a"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 7},
            {"id": 2, "image_id": 1, "category_id": 7},
            {"id": 3, "image_id": 2, "category_id": 3},
            {"id": 4, "image_id": 2, "category_id": 3, "iscrowd": 1},
        ],
    }
    return good | changes


def test_labels_ascend_with_ids_and_crowds_do_not_count() -> None:
    table = CategoryTable.from_annotations(content())
    assert table.ids.tolist() == [3, 7]
    assert table.names == ("a", "b")
    assert table.instance_counts.tolist() == [1, 2]
    assert table.image_counts.tolist() == [1, 1]
    assert table.background == 2
    assert table.labels_of([7, 3, 7]).tolist() == [1, 0, 1]
    with pytest.raises(KeyError, match="5"):
        table.labels_of([3, 5])


def test_bins_take_their_lower_edge() -> None:
    counts = np.array([0, 9, 10, 99, 100, 999, 1000, 50000])
    assert bin_index(counts, (10, 100, 1000)).tolist() == [1, 1, 2, 2, 3, 3, 4, 4]


@pytest.mark.skipif(not SHARED.exists(), reason="LVIS's own counts are not here")
def test_bins_of_lvis() -> None:
    counts = pd.read_csv(SHARED)
    table = CategoryTable(
        counts["id"].to_numpy(), tuple(counts["name"]), counts["image_count"].to_numpy(),
        counts["instance_count"].to_numpy(), tuple(counts["frequency"]),
    )  # fmt: skip
    assert np.bincount(table.bins)[1:].tolist() == [294, 453, 302, 181]
    assert [table.frequencies.count(letter) for letter in "rcf"] == [454, 461, 315]
    assert table.instance_counts.sum() == 693_958


def test_edges_from_the_file_or_the_caller() -> None:
    file = content(info={"bin_edges": [2, 5]})
    assert CategoryTable.from_annotations(file).bin_edges == (2, 5)
    assert CategoryTable.from_annotations(file, bin_edges=[4]).bin_edges == (4,)
    assert CategoryTable.from_annotations(content()).bin_names == ["[0,10)", "[10,100)", "[100,1000)", "[1000,inf)"]


def test_stated_counts_where_there_are_no_annotations() -> None:
    categories = [
        {"id": 1, "name": "a", "instance_count": 50, "image_count": 20},
        {"id": 2, "name": "b", "instance_count": 3},
    ]
    table = CategoryTable.from_annotations(content(categories=categories, annotations=[]))
    assert table.instance_counts.tolist() == [50, 3]
    assert table.image_counts.tolist() == [20, 3]
    assert table.frequencies == ("c", "r")


def test_frame() -> None:
    frame = CategoryTable.from_annotations(content()).frame(background=True)
    assert frame.index.tolist() == [0, 1, 2]
    assert frame.index.name == "label"
    assert frame.iloc[-1].to_dict() == {
        "id": 0, "name": "background", "image_count": 0, "instance_count": 0, "frequency": "", "bin": 0
    }  # fmt: skip
    assert frame["id"].dtype.kind == "i"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"categories": None}, "categories"),
        ({"categories": []}, "categories"),
        ({"categories": [{"id": "1", "name": "a"}]}, "id"),
        ({"categories": [{"id": 1}]}, "name"),
        ({"categories": [{"id": 3, "name": "a"}, {"id": 3, "name": "b"}]}, "duplicate"),
        ({"annotations": [{"category_id": 3}]}, "image_id"),
        ({"annotations": [{"category_id": 99, "image_id": 1}]}, "99"),
        ({"annotations": "none"}, "annotations"),
        ({"annotations": [3]}, "category_id"),
        ({"info": {"bin_edges": [10, 5]}}, "bin_edges"),
        ({"info": {"bin_edges": ["a"]}}, "bin_edges"),
    ],
)
def test_wrong_files_name_the_field(tmp_path: Path, changes: dict[str, Any], field: str) -> None:
    path = tmp_path / "train.json"
    path.write_text(json.dumps(content(**changes)))
    with pytest.raises(InputError, match=field) as caught:
        CategoryTable.from_annotations(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "\x00\xff", "[" * 100_000])
def test_not_json(tmp_path: Path, text: str) -> None:
    path = tmp_path / "train.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=r"train\.json"):
        CategoryTable.from_annotations(path)
    with pytest.raises(InputError, match="no such file"):
        CategoryTable.from_annotations(tmp_path / "absent.json")
