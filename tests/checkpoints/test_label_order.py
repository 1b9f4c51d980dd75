"""The category of each label: by names, else as the framework numbers the categories of the file."""

from pathlib import Path

import numpy as np
import pytest

from imbalance_bench.categories import CategoryTable
from imbalance_bench.checkpoints.label_order import check_labels, class_names, label_order, labels_by_id
from imbalance_bench.runtime.errors import InputError

PATH = Path("x.pth")
LISTED = [(30, "traffic light"), (4, "cat"), (11, "dog")]


def test_names_come_first() -> None:
    order = label_order(LISTED, ["cat", "dog", "traffic light"], PATH)
    assert order.ids == (4, 11, 30)
    assert ["--label-order file" in note for note in order.notes] == [True]
    # As mmdet numbers them that trains on this file, whatever the order of its names.
    assert label_order(LISTED, ["cat", "dog", "traffic light"], PATH, by="file").ids == (30, 4, 11)
    assert label_order(LISTED, ["traffic light", "cat", "dog"], PATH).notes == ()


def test_names_of_another_writing() -> None:
    assert label_order(LISTED, ["Cat", "traffic_light", "dog"], PATH).ids == (4, 30, 11)
    # Where signs alone tell names apart, they count.
    listed = [(1, "a_b"), (2, "a b")]
    assert label_order(listed, ["a b", "a_b"], PATH).ids == (2, 1)
    assert label_order([(1, "🐈"), (2, "🐕")], ["🐕", "🐈"], PATH).ids == (2, 1)


def test_without_names_the_framework_counts() -> None:
    assert label_order(LISTED, None, PATH).ids == (30, 4, 11)
    assert label_order(LISTED, None, PATH, ascending=True).ids == (4, 11, 30)
    for listed, classes in (([(5, "a"), (2, "a")], ["a", "b"]), ([(5, "5"), (2, "2")], ["a", "b"])):
        order = label_order(listed, classes, PATH)
        assert order.ids == (5, 2) and len(order.notes) == 1


def test_a_part_of_the_classes() -> None:
    order = label_order(LISTED, ["dog", "cow", "cat"], PATH)
    assert order.ids == (11, None, 4)
    said = " ".join(order.notes)
    assert "1 classes of the checkpoint are not among the categories: cow" in said
    assert "1 categories that the checkpoint does not know are left out: traffic light" in said
    with pytest.raises(InputError, match=r"x\.pth: none of its 2 class names \(cow, pig\) is among the 3") as caught:
        label_order(LISTED, ["cow", "pig"], PATH)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="'--label-order' is 'id', expected names or file"):
        label_order(LISTED, None, PATH, by="id")


def test_any_shuffle() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        ids, names = rng.permutation(100)[:12].tolist(), [f"n{i}" for i in rng.permutation(12)]
        listed = list(zip(ids, names, strict=True))
        classes = rng.permutation(names).tolist()
        id_of = {name: category_id for category_id, name in listed}
        assert label_order(listed, classes, PATH).ids == tuple(id_of[name] for name in classes)


def test_a_data_sets_labels_are_checked() -> None:
    content = {"categories": [{"id": i, "name": name} for i, name in LISTED], "images": [], "annotations": []}
    categories = CategoryTable.from_annotations(content)
    names = ("cat", "dog", "traffic light")
    own = {"classifier": {}, "categories": {"names": names}}
    for meta in (own, {"CLASSES": names}, {"classifier": {}}):
        check_labels(categories, meta, PATH)
    for meta, label in (({"CLASSES": ("dog", "cat", "traffic light")}, "dog"), ({}, "category 30")):
        with pytest.raises(InputError, match=rf"x\.pth: its label 0 is {label}.*, expected cat: ") as caught:
            check_labels(categories, meta, PATH)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="none of its 3 class names"):
        check_labels(categories, {"CLASSES": ("x", "y", "z")}, PATH)


@pytest.mark.parametrize(
    ("meta", "expected"),
    [
        ({"dataset_meta": {"classes": ("a", "b")}, "CLASSES": ("c",)}, ("a", "b")),
        ({"dataset_meta": {"CLASSES": ["a", "b"]}}, ("a", "b")),
        ({"CLASSES": ("a", "b")}, ("a", "b")),
        ({"CLASSES": "whale"}, ("whale",)),
        ({"categories": {"names": ["a", "b"]}}, ("a", "b")),
        ({"CLASSES": None, "dataset_meta": {}}, None),
        ({"CLASSES": ("a", 3), "dataset_meta": "x", "categories": 3}, None),
        ({}, None),
    ],
)
def test_names_in_a_checkpoint(meta: dict[str, object], expected: tuple[str, ...] | None) -> None:
    assert class_names(meta) == expected


@pytest.mark.parametrize(
    ("ids", "rows", "first", "expected"),
    [
        ([3, 7, 5], 7, 1, (1, 2, 3, 4, 5, 6, 7)),
        ([3, 7, 5], 8, 0, (0, 1, 2, 3, 4, 5, 6, 7)),
        ([3, 7, 5], 4, 0, (0, 3, 5, 7)),
        ([0, 1, 2], 4, 0, (-1, 0, 1, 2)),
        ([3, 7, 5], 3, 0, None),
        ([3, 7, 5], 6, 1, None),
        ([0, 1, 6], 6, 1, None),
        ([3, 7, 5], 7, None, None),
    ],
)
def test_labels_of_no_category(ids: list[int], rows: int, first: int | None, expected: tuple[int, ...] | None) -> None:
    found = labels_by_id(ids, rows, first)
    assert (found and found.ids) == expected
    if found is not None:
        assert f"{rows - 3} of {rows} labels are of no category" in found.notes[0]
