"""Roboflow's COCO export, and its placeholder class, also in two files of one's own."""

import json
from pathlib import Path
from typing import Any

import pytest
from little import LITTLE, NAMES, boxes_of, coco, write, write_coco

from imbalance_bench.categories import read_json
from imbalance_bench.datasets import registry
from imbalance_bench.datasets.formats import roboflow
from imbalance_bench.datasets.placeholder import placeholder_of
from imbalance_bench.datasets.prepared import prepare_splits
from imbalance_bench.datasets.registry import DataSet
from imbalance_bench.datasets.split import Split
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.progress import Reporter

PLACEHOLDER = {"id": 0, "name": "things", "supercategory": "none"}
CATEGORIES = [PLACEHOLDER, *({"id": n, "name": name, "supercategory": "things"} for n, name in enumerate(NAMES, 1))]
NOTE = ("1 category is Roboflow's placeholder: things, the others' supercategory, has the id 0 and no instance, and is "
        "left out")  # fmt: skip


def prepare(splits: dict[str, Split], data: Path) -> tuple[DataSet, dict[str, Any]]:
    record = prepare_splits("my-set", splits, data / "my-set", what="my own", attribution="")
    return registry.get("my-set", data), record


def test_the_splits_of_an_export(tmp_path: Path) -> None:
    splits = roboflow.read(write_coco(tmp_path, categories=CATEGORIES), Reporter())
    assert splits["val"] == Split(tmp_path / "valid/_annotations.coco.json", tmp_path / "valid")
    dataset, record = prepare(splits, tmp_path / "data")
    for key, path in (("train", dataset.train_annotations), ("val", dataset.val_annotations)):
        content = read_json(path)
        assert content["categories"] == CATEGORIES[1:]
        assert boxes_of(content) == boxes_of(coco(LITTLE[key]))
        assert record[key]["notes"] == [NOTE]
        assert path.parent == tmp_path / "data/my-set/annotations"
    assert len(read_json(splits["train"].annotations)["categories"]) == 4, "the given file is not touched"
    assert dataset.categories().ids.tolist() == [1, 2, 3]
    dataset.check()


def test_a_file_without_a_placeholder_is_used_where_it_lies(tmp_path: Path) -> None:
    dataset, record = prepare(roboflow.read(write_coco(tmp_path), Reporter()), tmp_path / "data")
    assert dataset.train_annotations == tmp_path / "train/_annotations.coco.json"
    assert record["train"]["notes"] == []


@pytest.mark.parametrize("with_it", ["train", "val"])
def test_a_placeholder_in_one_file(tmp_path: Path, with_it: str) -> None:
    splits = roboflow.read(write_coco(tmp_path), Reporter())
    file = splits[with_it].annotations
    write(file, json.dumps(read_json(file) | {"categories": CATEGORIES}))
    _, record = prepare(splits, tmp_path / "data")
    assert {key: record[key]["notes"] for key in splits} == {"train": [], "val": [], with_it: [NOTE]}


@pytest.mark.parametrize("used_in", ["train", "val"])
def test_a_class_that_is_used_in_one_file_is_none(tmp_path: Path, used_in: str) -> None:
    splits = roboflow.read(write_coco(tmp_path, categories=CATEGORIES), Reporter())
    content = read_json(splits[used_in].annotations)
    content["annotations"][0]["category_id"] = 0
    write(splits[used_in].annotations, json.dumps(content))
    dataset, record = prepare(splits, tmp_path / "data")
    assert dataset.categories().names == ("things", *NAMES)
    assert NOTE not in record["train"]["notes"] + record["val"]["notes"]


@pytest.mark.parametrize(
    "categories",
    [
        [{"id": 0, "name": "things", "supercategory": "none"}],
        [{"id": 0, "name": "things", "supercategory": "none"}, {"id": 1, "name": "a", "supercategory": "none"}],
        [{"id": 0, "name": "none", "supercategory": "none"}],
        [{"id": 0, "name": "things", "supercategory": "x"}, {"id": 1, "name": "a", "supercategory": "things"}],
        [{"id": 4, "name": "things", "supercategory": "none"}, {"id": 1, "name": "a", "supercategory": "things"}],
        [{"id": 0, "supercategory": "none"}, {"id": 1, "name": "a"}],
        [PLACEHOLDER, PLACEHOLDER, {"id": 1, "name": "a", "supercategory": "things"}],
        [3, None, PLACEHOLDER],
        {"id": 0},
        None,
    ],
)
def test_other_classes_are_no_placeholder(categories: Any) -> None:
    assert placeholder_of({"categories": categories, "annotations": [{"category_id": 1}]}) is None
    assert placeholder_of({"categories": CATEGORIES, "annotations": 3}) == "things", "and need not be checked"


def test_malformed_files_are_refused_as_others_are(tmp_path: Path) -> None:
    splits = roboflow.read(write_coco(tmp_path, categories=CATEGORIES), Reporter())
    for field, value in (("categories", 3), ("annotations", None), ("images", [3])):
        content = read_json(tmp_path / "valid/_annotations.coco.json")
        write(splits["train"].annotations, json.dumps(content | {field: value}))
        with pytest.raises(InputError, match=rf"_annotations\.coco\.json: .*{field}"):
            prepare(splits, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_missing_splits(tmp_path: Path) -> None:
    root = write_coco(tmp_path, val="test")
    assert roboflow.read(root, Reporter())["val"].notes == ("the validation split is 'test', as there is no 'val'",)
    (root / "test/_annotations.coco.json").unlink()
    with pytest.raises(InputError, match="no validation split"):
        roboflow.read(root, Reporter())
    (root / "train/_annotations.coco.json").unlink()
    with pytest.raises(InputError, match=r"expected Roboflow's export as COCO JSON$"):
        roboflow.read(root, Reporter())
    write(root / "data.yaml", "")
    with pytest.raises(InputError, match=r"'datasets prepare yolo --root .*data\.yaml'"):
        roboflow.read(root, Reporter())
