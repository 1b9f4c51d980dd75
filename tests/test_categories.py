"""The category table: bins, labels, and wrong annotation files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from imbalance_bench.bins import bin_index, parse_edges, tail_bins
from imbalance_bench.categories import CategoryTable, lvis_frequency
from imbalance_bench.diagnosis.conclusions import ap_groups
from imbalance_bench.runtime.errors import InputError

LVIS = Path(__file__).resolve().parent / "data" / "lvis_v0.5_train_counts.csv"


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


def test_bins_of_lvis() -> None:
    counts = pd.read_csv(LVIS)
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


@pytest.mark.parametrize(
    ("field", "value"),
    [("instance_count", 10**30), ("instance_count", -1), ("instance_count", 1.5), ("instance_count", "3"),
     ("image_count", 10**30), ("image_count", float("inf")), ("image_count", [3])],
)  # fmt: skip
def test_stated_counts_that_are_none(field: str, value: Any) -> None:
    categories = [{"id": 1, "name": "a", "instance_count": 50, "image_count": 20} | {field: value}]
    with pytest.raises(InputError, match=f"field '{field}'"):
        CategoryTable.from_annotations(content(categories=categories, annotations=[]))


def test_boxes_without_area_are_not_trained_on_and_do_not_count() -> None:
    boxes = [[0, 0, 3, 4], [0, 0, 0, 4], [0, 0, 3, -4], None]
    annotations = [{"id": n, "image_id": n, "category_id": 7, "bbox": box} for n, box in enumerate(boxes)]
    table = CategoryTable.from_annotations(content(annotations=annotations))
    assert table.instance_counts.tolist() == table.image_counts.tolist() == [0, 2]


@pytest.mark.parametrize(("ids", "expected"), [([1, 3], 0), ([5], 0), ([0, 1], -1), ([-3, 0, 2], -4)])
def test_the_id_of_background_is_no_categorys(ids: list[int], expected: int) -> None:
    categories = [{"id": i, "name": f"c{i}"} for i in ids]
    frame = CategoryTable.from_annotations(content(categories=categories, annotations=[])).frame(background=True)
    assert frame["id"].tolist() == [*ids, expected]


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
        ({"info": {"bin_edges": [float("inf")]}}, "bin_edges"),
        ({"info": {"bin_edges": [10**30]}}, "bin_edges"),
        ({"info": {"bin_edges": 5}}, "bin_edges"),
        ({"categories": [{"id": 10**30, "name": "a"}]}, "'id' does not fit 64 bits"),
        ({"annotations": [{"category_id": 3, "image_id": 2**63}]}, "'image_id' does not fit 64 bits"),
        ({"annotations": [{"category_id": 3, "image_id": float("inf")}]}, "'image_id' is float"),
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


def test_counts_from_a_csv(tmp_path: Path) -> None:
    path = tmp_path / "counts.csv"
    path.write_text("id,name,frequency,image_count,instance_count\n7,b,,12,300\n3,NA,f,,9\n")
    table = CategoryTable.from_counts(path)
    assert table.ids.tolist() == [3, 7] and table.names == ("NA", "b")
    assert table.image_counts.tolist() == [9, 12] and table.instance_counts.tolist() == [9, 300]
    assert table.frequencies == ("f", "c") and table.bins.tolist() == [1, 3]
    path.write_text("instance_count\n5\n200\n")
    table = CategoryTable.from_counts(path)
    assert table.ids.tolist() == [1, 2] and table.names == ("1", "2") and table.image_counts.tolist() == [5, 200]


@pytest.mark.parametrize(
    ("text", "expectation"),
    [
        ("", "not readable as CSV"),
        ('a,"b', "not readable as CSV|'instance_count' is missing"),
        ("id,name\n1,a\n", "'instance_count' is missing"),
        ("instance_count\n", "'instance_count' is missing or empty"),
        ("instance_count\n-1\n", "'instance_count' has a value that is no count"),
        ("instance_count\n1.5\n", "'instance_count' has a value"),
        ("instance_count\nmany\n", "'instance_count' has a value"),
        ("instance_count\ninf\n", "'instance_count' has a value"),
        ("instance_count\n1e300\n", "'instance_count' has a value"),
        ("id,instance_count\n,3\n", "'id' has a value"),
        ("id,instance_count\n1,3\n1,4\n", "'id': category ids must ascend"),
    ],
)
def test_counts_that_are_wrong(tmp_path: Path, text: str, expectation: str) -> None:
    path = tmp_path / "counts.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=expectation) as caught:
        CategoryTable.from_counts(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
    with pytest.raises(InputError, match="no such file"):
        CategoryTable.from_counts(tmp_path / "absent.csv")


def test_counts_of_lvis_from_a_csv() -> None:
    table = CategoryTable.from_counts(LVIS)
    assert np.bincount(table.bins).tolist() == [0, 294, 453, 302, 181]
    assert [table.frequencies.count(letter) for letter in "rcf"] == [454, 461, 315]


@pytest.mark.parametrize(
    ("edges", "tail"),
    [((), []), ((10,), [1]), ((10, 100), [1]), ((10, 100, 1000), [1, 2]), ((5, 10, 100, 1000), [1, 2])],
)
def test_the_tail_is_the_lower_half_of_the_bins(edges: tuple[int, ...], tail: list[int]) -> None:
    counts = np.array([3, 7, 50, 500, 5000])
    table = CategoryTable(np.arange(5), tuple("abcde"), counts, counts, ("f",) * 5, edges)
    assert table.tail_bins == tail
    assert table.tail_labels == [label for label in range(5) if table.bins[label] in tail]
    assert table.head_labels == [label for label in range(5) if table.bins[label] not in tail]
    assert tail_bins(edges) == tail, "of reports that know the edges alone"
    groups = ap_groups(table)
    assert (groups["tail"].tolist(), groups["head"].tolist()) == (table.tail_labels, table.head_labels)


@pytest.mark.parametrize(("text", "separator"), [("5,50,500", ","), ("5-50-500", "-"), ("5 50 500", " ")])
def test_edges_as_text(text: str, separator: str) -> None:
    assert parse_edges(text, separator) == (5, 50, 500)
    wrong = ("", "50{}5", "0{}5", "5{}5", "x", "5{0}{0}6", "5;6", "1.5", "-3", "\u0663", "9" * 19)
    for odd in (odd.format(separator) for odd in wrong):
        with pytest.raises(InputError, match=f"expected whole numbers that ascend from 1, e.g. 10{separator}100"):
            parse_edges(odd, separator)


def test_the_letters_of_lvis() -> None:
    assert [lvis_frequency(images) for images in (0, 10, 11, 100, 101)] == ["r", "r", "c", "c", "f"]


def test_counts_in_arrays() -> None:
    table = CategoryTable.from_arrays([0, 9, 10, 1000], image_counts=[0, 9, 8, 500], bin_edges=(10,), num_images=900)
    assert (table.bins.tolist(), table.frequencies) == ([0, 1, 2, 2], ("r", "r", "r", "f"))
    assert (table.ids.tolist(), table.names, table.total_images) == ([1, 2, 3, 4], ("1", "2", "3", "4"), 900)
    for given, message in (
        ({"instance_counts": []}, "instance_counts: expected at least one count"),
        ({"instance_counts": [1.5]}, "instance_counts: values are float64, expected integers"),
        ({"instance_counts": [1], "image_counts": [-1]}, "image_counts: expected at least one count, and none below 0"),
        ({"instance_counts": [1, 2], "ids": [4, 3]}, "categories: category ids must ascend strictly"),
        ({"instance_counts": [1, 2], "names": ["a"]}, "categories: category columns differ in length"),
        (
            {"instance_counts": [1, 2], "bin_edges": (9, 3)},
            "categories: bin edges are .9, 3., expected whole numbers that ascend from 1",
        ),
    ):
        with pytest.raises(InputError, match=message):
            CategoryTable.from_arrays(**given)  # type: ignore[arg-type]


def test_the_order_of_the_file() -> None:
    listed = [{"id": i, "name": f"c{i}", "instance_count": n, "image_count": n} for i, n in ((9, 3), (2, 400), (5, 20))]
    table = CategoryTable.from_annotations({"categories": listed, "annotations": [], "images": []})
    assert table.names == ("c2", "c5", "c9")
    ordered = table.in_file_order()
    assert (ordered.names, ordered.instance_counts.tolist(), ordered.ids.tolist()) == (
        ("c9", "c2", "c5"),
        [3, 400, 20],
        [1, 2, 3],
    )
    assert ordered.frequencies == ("r", "f", "c") and ordered.in_file_order() == ordered


def test_a_file_of_either_kind(tmp_path: Path) -> None:
    (tmp_path / "counts.csv").write_text("name,instance_count\na,3\nb,50\n")
    (tmp_path / "train.json").write_text('{"categories": [{"id": 4, "name": "a"}], "annotations": [], "images": []}')
    assert CategoryTable.read(tmp_path / "counts.csv").instance_counts.tolist() == [3, 50]
    assert CategoryTable.read(tmp_path / "train.json").ids.tolist() == [4]
