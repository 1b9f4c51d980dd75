"""Annotation files: what passes, what is reported, and one clear line for everything else."""

import copy
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from imbalance_bench.datasets.coco_format import (
    are_bin_edges,
    check,
    check_same_categories,
    image_path,
    is_federated,
    missing_images,
    without_images,
)
from imbalance_bench.errors import InputError

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "lvis_v0.5_val100" / "lvis_val_100.json"
HOSTILE = [None, True, "x", -1, 1.5, [], [[]], {}, {"a": [1]}, math.nan, 10**30]


def content() -> dict[str, Any]:
    """Three categories of non-contiguous ids, two images, masks of every kind, federated."""
    box = {"bbox": [1.0, 2.0, 3.0, 4.5], "area": 13.5, "iscrowd": 0}
    return {
        "info": {"bin_edges": [2, 3]},
        "categories": [{"id": 90, "name": "c"}, {"id": 7, "name": "a"}, {"id": 8, "name": "b"}],
        "images": [
            {"id": 30, "height": 10, "width": 20, "file_name": "x.jpg", "neg_category_ids": [8],
             "not_exhaustive_category_ids": [7]},
            {"id": 4, "height": 8, "width": 8, "coco_url": "http://images/train2017/y.jpg"},
        ],
        "annotations": [
            {"id": 1, "image_id": 30, "category_id": 90, "segmentation": [[1, 2, 4, 2, 4, 6.5]], **box},
            {"id": 5, "image_id": 4, "category_id": 7, "segmentation": {"size": [8, 8], "counts": [60, 4]}, **box},
            {"id": 9, "image_id": 4, "category_id": 7, "segmentation": {"size": [8, 8], "counts": "P2"}, **box},
            {"id": 6, "image_id": 4, "category_id": 8, "bbox": [0, 0, 8, 8]},
        ],
    }  # fmt: skip


def test_a_sound_file() -> None:
    findings = check(content(), "f.json")
    assert (findings.images, findings.annotations, findings.degenerate, findings.outside) == (2, 4, (), ())


@pytest.mark.parametrize(
    ("bbox", "kind"),
    [([1, 1, 0, 3], "degenerate"), ([1, 1, 3, -2], "degenerate"), ([-1.5, 0, 3, 3], "outside"),
     ([0, 0, 9.5, 8], "outside"), ([0, 5, 2, 4.2], "outside"), ([-1, -0.5, 10, 9.4], None)],
)  # fmt: skip
def test_odd_boxes_are_named(bbox: list[float], kind: str | None) -> None:
    odd = content()
    odd["annotations"][3]["bbox"] = bbox
    findings = check(odd, "f.json")
    assert findings.degenerate == ((6,) if kind == "degenerate" else ())
    assert findings.outside == ((6,) if kind == "outside" else ())


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("images", 1, "id"), 30, r"images\[1\].* 'id' is 30, which an entry before has too"),
        (("annotations", 1, "id"), 1, r"annotations\[1\].* 'id' is 1, which"),
        (("categories", 1, "id"), 90, r"categories\[1\].* 'id' is 90, which"),
        (("categories", 1, "name"), 3, r"'name' is int, expected str"),
        (("images", 0, "height"), 0, "not positive"),
        (("images", 0, "file_name"), "", "'file_name' is empty"),
        (("images", 0, "neg_category_ids"), [3], "'neg_category_ids' has an entry"),
        (("annotations", 0, "image_id"), 31, "'image_id' is 31, which the file does not list"),
        (("annotations", 0, "category_id"), 1, "'category_id' is 1, which the file does not list"),
        (("annotations", 0, "bbox"), [0, 0, math.nan, 1], "four finite numbers"),
        (("annotations", 0, "bbox"), [0, 0, math.inf, 1], "four finite numbers"),
        (("annotations", 0, "bbox"), [0, 0, 1], "four finite numbers"),
        (("annotations", 1, "segmentation", "size"), [8, 9], r"size \[8, 9\], expected its image's \[8, 8\]"),
        (("annotations", 1, "segmentation", "counts"), [60, 5], "counts of 65 pixels, expected 64"),
        (("annotations", 1, "segmentation", "counts"), [65, -1], "neither text nor a list of lengths"),
        (("annotations", 0, "segmentation"), [[1, 2, 3, 4]], "at least three points"),
        (("annotations",), [], "'annotations' is empty"),
        (("images",), [], "'images' is empty"),
        (("categories",), [], "'categories' is empty"),
        (("info", "bin_edges"), [3, 2], "'info.bin_edges'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(path: tuple[Any, ...], value: Any, message: str) -> None:
    broken = content()
    target = broken
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = value
    with pytest.raises(InputError, match=message) as caught:
        check(broken, "f.json")
    assert str(caught.value).startswith("f.json") and "\n" not in str(caught.value)


def every_field(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of everything inside a JSON value."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [step for key, inner in pairs for step in [(*path, key), *every_field(inner, (*path, key))]]


@pytest.mark.parametrize("path", every_field(content()), ids=lambda path: ".".join(map(str, path)))
def test_hostile_values_pass_or_are_one_line(path: tuple[Any, ...]) -> None:
    from imbalance_bench.categories import CategoryTable

    refused = 0
    for value in HOSTILE:
        broken: Any = copy.deepcopy(content())
        target = broken
        for step in path[:-1]:
            target = target[step]
        target[path[-1]] = value
        try:
            check(broken, "f.json")
        except InputError as error:
            refused += 1
            assert re.match(r"f\.json: .*field '", str(error)) and "\n" not in str(error)
        else:  # what passes can be worked with
            assert CategoryTable.from_annotations(broken).num_classes == 3
            assert len(missing_images(broken, Path("absent"))) == 2
            is_federated(broken)
        del target[path[-1]]
    assert refused or path[0] == "info"


@pytest.mark.parametrize("records", ["categories", "images", "annotations"])
def test_a_missing_field_is_named(records: str) -> None:
    optional = {"segmentation", "area", "iscrowd", "neg_category_ids", "not_exhaustive_category_ids"}
    for field in content()[records][0].keys() - optional:
        broken = content()
        del broken[records][0][field]
        with pytest.raises(InputError, match=f"{records}.*'{field}'"):
            check(broken, "f.json")


def test_crowd_regions_alone_are_nothing_annotated() -> None:
    crowd = content()
    for annotation in crowd["annotations"]:
        annotation["iscrowd"] = 1
    with pytest.raises(InputError, match="crowd regions only"):
        check(crowd, "f.json")


def test_paths_of_images() -> None:
    url = "http://images.cocodataset.org/val2017/000000266409.jpg"
    old = "COCO_val2014_000000266409.jpg"
    assert image_path({"coco_url": url}, "f") == "val2017/000000266409.jpg"  # LVIS v1
    assert image_path({"file_name": old, "coco_url": url, "neg_category_ids": []}, "f") == "000000266409.jpg"  # v0.5
    assert image_path({"file_name": old, "coco_url": url}, "f") == old  # COCO 2014
    assert image_path({"file_name": "a/b.png", "neg_category_ids": []}, "f") == "a/b.png"
    with pytest.raises(InputError, match="'file_name' or 'coco_url'"):
        image_path({}, "f")


@pytest.mark.skipif(not SHARED.exists(), reason="real LVIS v0.5 annotations are not here")
def test_real_lvis() -> None:
    real = json.loads(SHARED.read_text())
    findings = check(real, str(SHARED))
    assert (findings.images, findings.annotations) == (100, 977) and not findings.outside and is_federated(real)
    assert all(re.fullmatch(r"\d{12}\.jpg", image_path(image, "f")) for image in real["images"])


def test_missing_images(tmp_path: Path) -> None:
    annotations = content()
    assert missing_images(annotations, tmp_path) == {30: "x.jpg", 4: "train2017/y.jpg"}
    (tmp_path / "x.jpg").touch()
    (tmp_path / "train2017").mkdir()
    assert missing_images(annotations, tmp_path) == {4: "train2017/y.jpg"}
    (tmp_path / "train2017" / "y.jpg").touch()
    assert missing_images(annotations, tmp_path) == {}
    assert missing_images({"images": [{"id": 1, "file_name": "a\0b/c.jpg"}]}, tmp_path) == {1: "a\0b/c.jpg"}
    less = without_images(annotations, {4})
    assert [image["id"] for image in less["images"]] == [30] and [a["id"] for a in less["annotations"]] == [1]
    assert len(annotations["annotations"]) == 4, "the given content is not changed"


def test_train_and_val_categories() -> None:
    other = content()
    other["categories"].reverse()
    check_same_categories(content(), other, "val.json")
    other["categories"][0]["name"] = "z"
    with pytest.raises(InputError, match=r"val\.json: .*id 8 is 'z', expected 'b'"):
        check_same_categories(content(), other, "val.json")
    del other["categories"][0]
    with pytest.raises(InputError, match="id 8 is absent, expected 'b'"):
        check_same_categories(content(), other, "val.json")
    with pytest.raises(InputError, match="id 8 is 'b', expected absent"):
        check_same_categories(other, content(), "val.json")


def test_bin_edges() -> None:
    assert are_bin_edges([1, 5, 9])
    assert not any(map(are_bin_edges, ([0, 1], [5, 5], [2, 1], [1.5], [True, 2], ["a"])))
