"""Any JSON value in any field of an annotation file gives one line that names the field, or correct values."""

import copy
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imbalance_bench.categories import CategoryTable
from imbalance_bench.datasets.coco_format import check, check_same_categories, missing_images
from imbalance_bench.datasets.coco_lt import sample_long_tail
from imbalance_bench.datasets.held_out import hold_out
from imbalance_bench.detectors.mmdet.annotation_dataset import AnnotationDataset
from imbalance_bench.evaluation.ground_truth import GroundTruth
from imbalance_bench.runtime.errors import InputError

BOX = {"bbox": [1.0, 2.0, 3.0, 4.5], "area": 13.5, "iscrowd": 0}


def sound() -> dict[str, Any]:
    """Every field that is read, some with counts stated, federated in part."""
    polygon = [[1, 2, 4, 2, 4, 6.5]]
    return {
        "info": {"bin_edges": [2, 3]},
        "categories": [
            {"id": 90, "name": "c", "supercategory": "x", "instance_count": 4, "image_count": 3, "frequency": "r"},
            {"id": 7, "name": "a", "supercategory": "x", "instance_count": 4},
            {"id": 0, "name": "x", "supercategory": "none", "instance_count": 0},
        ],
        "images": [
            {"id": 30, "height": 10, "width": 20, "file_name": "x.jpg", "neg_category_ids": [7],
             "not_exhaustive_category_ids": [7]},
            {"id": 4, "height": 8, "width": 8, "coco_url": "http://images/train2017/y.jpg"},
        ],
        "annotations": [
            {"id": 1, "image_id": 30, "category_id": 90, "segmentation": polygon, **BOX},
            {"id": 5, "image_id": 4, "category_id": 7, "segmentation": {"size": [8, 8], "counts": [60, 4]}, **BOX},
            {"id": 9, "image_id": 4, "category_id": 7, "segmentation": {"size": [8, 8], "counts": "o14"}, **BOX},
            {"id": 6, "image_id": 4, "category_id": 90, "bbox": [0, 0, 8, 8], "segmentation": polygon},
        ],
    }  # fmt: skip


def fields(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of everything inside a JSON value."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [step for key, inner in pairs for step in [(*path, key), *fields(inner, (*path, key))]]


NUMBERS = st.one_of(
    st.integers(-3, 100),
    st.integers(),
    st.floats(),
    st.sampled_from([2**31, 2**53, 2**63 - 1, 2**63, -(2**63), 10**400]),
)
LEAVES = st.one_of(
    st.none(), st.booleans(), NUMBERS, st.text(max_size=5), st.sampled_from(["", "a\nb", "r", "\0", "/x"])
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=6,
)
CHANGES = st.lists(st.tuples(st.sampled_from(fields(sound())), VALUES), min_size=1, max_size=2)
MANY = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))


def has(value: Any, step: Any) -> bool:
    return step in (value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ())


def mutated(changes: list[tuple[tuple[Any, ...], Any]], stripped: bool) -> dict[str, Any]:
    """The sound file with some values in the place of others; ``stripped`` of annotations counts are the stated."""
    content = copy.deepcopy(sound())
    if stripped:
        content["annotations"] = []
    for path, value in changes:
        target: Any = content
        for step in path[:-1]:
            target = target[step] if has(target, step) else None
        if isinstance(target, dict) or has(target, path[-1]):
            target[path[-1]] = value
    return content


def one_line(error: InputError) -> None:
    assert re.match(r"[^ ]+: .*field '", str(error)) and "\n" not in str(error) and len(str(error)) < 300


def is_counted(annotation: dict[str, Any]) -> bool:
    return not annotation.get("iscrowd") and annotation["bbox"][2] > 0 and annotation["bbox"][3] > 0


@MANY
@given(changes=CHANGES, masks=st.booleans())
def test_what_is_checked_can_be_worked_with(
    tmp_path_factory: pytest.TempPathFactory, changes: list[Any], masks: bool
) -> None:
    content = mutated(changes, stripped=False)
    try:
        findings = check(content, "f.json", masks)
    except InputError as error:
        one_line(error)
        return
    assert all("\n" not in note for note in findings.notes())
    objects = [a for a in content["annotations"] if is_counted(a)]
    table = CategoryTable.from_annotations(content)
    expected = Counter(a["category_id"] for a in objects)
    assert dict(zip(table.ids.tolist(), table.instance_counts.tolist(), strict=True)) == {
        c["id"]: expected[c["id"]] for c in content["categories"]
    }
    frame = table.frame(background=True)
    assert frame["id"].is_unique and frame["id"].dtype.kind == "i"
    assert len(missing_images(content, Path("absent"))) == len(content["images"])
    assert check_same_categories(content, content, "f.json") == []
    drawn = sample_long_tail(content, np.full(table.num_classes, 100), 0)
    assert {a["id"] for a in drawn["annotations"] if not a.get("iscrowd")} == {a["id"] for a in objects}
    try:
        fitting, held_out = hold_out(content, np.random.default_rng(0))
        assert len(fitting["images"]) + len(held_out["images"]) == len(content["images"])
    except InputError:
        assert len({a["image_id"] for a in objects}) <= 2, "too few images alone are a reason"
    truth = GroundTruth.read(content, table, lvis_style=False)
    assert len(truth.boxes) == len(content["annotations"])

    path = tmp_path_factory.getbasetemp() / "annotations.json"
    path.write_text(json.dumps(content))
    data = AnnotationDataset(table.ids, ann_file=str(path), data_prefix={"img_path": "images"}, lazy_init=True)
    records = data.load_data_list()
    trained = sum(not instance["ignore_flag"] for record in records for instance in record["instances"])
    assert trained == len(objects) == table.instance_counts.sum()


@MANY
@given(changes=CHANGES, stripped=st.booleans())
def test_a_category_table_of_anything(changes: list[Any], stripped: bool) -> None:
    content = mutated(changes, stripped)
    try:
        table = CategoryTable.from_annotations(content)
    except InputError as error:
        one_line(error)
        return
    assert table.ids.dtype == table.instance_counts.dtype == table.image_counts.dtype == np.int64
    assert (np.diff(table.ids.astype(object)) > 0).all() and (table.instance_counts >= 0).all()
    assert set(table.frequencies) <= set("rcf") and table.bins.min() >= 0
    assert sorted(table.ids.tolist()) == sorted(c["id"] for c in content["categories"])
    if not content["annotations"] and all(c.get("instance_count") is not None for c in content["categories"]):
        stated = {c["id"]: c["instance_count"] for c in content["categories"]}
        assert table.instance_counts.tolist() == [stated[i] for i in table.ids.tolist()]
    assert table.frame(background=True)["id"].is_unique


@pytest.mark.parametrize("path", fields(sound()), ids=lambda path: ".".join(map(str, path)))
def test_each_field_is_checked(path: tuple[Any, ...]) -> None:
    """Of each field that is read some value is refused, with masks or without."""
    refused = 0
    for value in (None, "x", -1, [], [[]], {}, float("nan"), 10**30):
        try:
            check(mutated([(path, value)], stripped=False), "f.json", masks=True)
        except InputError as error:
            one_line(error)
            refused += 1
    unused = ("supercategory", "instance_count", "image_count", "frequency")  # counted, where annotations are there
    assert refused or path[0] == "info" or path[-1] in unused
