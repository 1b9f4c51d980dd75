"""Annotation files: valid ones, reported findings, and one clear line for everything else."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from imbalance_bench.bins import are_bin_edges
from imbalance_bench.datasets.coco_format import (
    check,
    check_same_categories,
    first,
    guess_missing,
    image_path,
    is_federated,
    missing_images,
    stuff_map_path,
    without_images,
)
from imbalance_bench.runtime.errors import InputError

LVIS = Path(__file__).resolve().parents[1] / "data" / "lvis_v0.5_val100" / "lvis_val_100.json"


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


POLYGON = [1, 2, 4, 2, 4, 6.5]


@pytest.mark.parametrize(
    ("mask", "problem"),
    [
        ({"size": [8, 9], "counts": [60, 4]}, r"size \[8, 9\], expected its image's \[8, 8\]"),
        ({"size": [8, 8], "counts": [60, 5]}, "counts of 65 pixels, expected 64"),
        ({"size": [8, 8], "counts": [65, -1]}, "neither text nor a list of lengths"),
        ({}, "size None"), ("P2", "is str, expected polygons"), (POLYGON, "at least three points"),
        ([[1, 2, 3, 4]], "at least three points"), ([[]], "at least three points"),
        ([POLYGON[:5]], "at least three points"), ([POLYGON, [1, math.inf, *POLYGON[2:]]], "at least three points"),
    ],
)  # fmt: skip
def test_odd_masks_are_refused_where_masks_are_used_alone(mask: Any, problem: str) -> None:
    odd = content()
    odd["annotations"][3]["segmentation"] = [POLYGON]
    assert check(odd, "f.json", masks=True).notes() == []
    odd["annotations"][1]["segmentation"] = mask
    findings = check(odd, "f.json")
    assert findings.odd_masks == (5,)
    (note,) = findings.notes()
    assert note.startswith("1 masks are neither polygons") and note.endswith("only boxes can be used: annotations 5")
    with pytest.raises(InputError, match=rf"f\.json: annotations\[1\]: field 'segmentation' .*{problem}"):
        check(odd, "f.json", masks=True)


@pytest.mark.parametrize("mask", [None, [], "absent"])
def test_no_mask_is_odd_only_where_masks_are_used(mask: Any) -> None:
    odd = content()
    odd["annotations"][3] |= {} if mask == "absent" else {"segmentation": mask}
    assert check(odd, "f.json").odd_masks == ()
    with pytest.raises(InputError, match=r"annotations\[3\]: field 'segmentation' is missing or empty"):
        check(odd, "f.json", masks=True)


def test_a_file_whose_boxes_have_no_area() -> None:
    odd = content()
    for annotation in odd["annotations"]:
        annotation["bbox"] = [4, 4, 2, -3]
    with pytest.raises(InputError, match=r"'annotations' has 4 boxes of which none has an area \(width and height ab"):
        check(odd, "f.json")
    odd["annotations"][2]["bbox"] = [4, 4, 2, 3]
    (note,) = check(odd, "f.json").notes()
    assert note == (
        "3 boxes have no width or height, or negative ones, and are not trained on: annotations 1, 5, 6"
    )  # fmt: skip
    odd["annotations"][2]["iscrowd"] = 1
    with pytest.raises(InputError, match="3 boxes of which none has an area"):
        check(odd, "f.json")


def test_normalised_boxes_are_said() -> None:
    odd = content()
    for annotation in odd["annotations"]:
        annotation["bbox"] = [0.25, 0.5, 0.125, 0.5]
    (note,) = check(odd, "f.json").notes()
    assert note.startswith("all 4 boxes lie within 1 x 1 pixel")
    odd["annotations"][0]["bbox"] = [0.25, 0.5, 0.125, 0.75]
    assert check(odd, "f.json").notes() == []


@pytest.mark.parametrize(
    ("categories", "notes"),
    [
        ([(90, "c"), (7, "a"), (8, "b")], []),
        ([(90, "c"), (7, "a"), (8, "b"), (0, "zero")], ["a category has the id 0: zero"]),
        ([(90, "a"), (7, "a"), (8, "b")], ["2 categories have the name a: ids 90, 7"]),
        ([(90, "a b"), (7, "a b "), (8, "a  b")],
         ["3 categories differ by white space alone in the name a b: ids 90, 7, 8"]),
        ([(90, ""), (7, " "), (8, "b")], ["2 categories have an empty name: ids 90, 7"]),
        ([(90, "a\nb"), (7, "a"), (8, "b\u2028c")],
         ["2 categories have a name of several lines or with control characters: ids 90, 8"]),
        ([(90, "x\ny"), (7, "x\ny"), (8, "c")],
         ["2 categories have the name x y: ids 90, 7",
          "2 categories have a name of several lines or with control characters: ids 90, 7"]),
    ],
)  # fmt: skip
def test_odd_categories_are_said(categories: list[tuple[int, str]], notes: list[str]) -> None:
    odd = content()
    odd["categories"] = [{"id": i, "name": name} for i, name in categories]
    assert check(odd, "f.json").notes() == notes


def test_the_placeholder_of_roboflow_is_said() -> None:
    odd = content()
    odd["categories"] = [c | {"supercategory": "fruit"} for c in odd["categories"]]
    odd["categories"].append({"id": 0, "name": "fruit", "supercategory": "none"})
    zero, note = check(odd, "f.json").notes()
    assert zero == "a category has the id 0: fruit"
    assert note.startswith(
        "1 category is Roboflow's placeholder: fruit, the others' supercategory, has the id 0 and no"
    )
    odd["annotations"][0]["category_id"] = 0  # it has an instance
    assert len(check(odd, "f.json").notes()) == 1
    odd["annotations"][0]["category_id"] = 90
    odd["categories"][0] |= {"supercategory": ["fruit"]}  # hostile, and not looked at
    assert len(check(odd, "f.json").notes()) == 2


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


def test_real_lvis() -> None:
    real = json.loads(LVIS.read_text())
    findings = check(real, str(LVIS))
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


def test_absolute_paths_are_taken_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").touch()
    elsewhere = {"images": [{"id": 1, "file_name": str(tmp_path / "x.jpg")}, {"id": 2, "file_name": "/nowhere/y.jpg"}]}
    assert missing_images(elsewhere, tmp_path / "images") == {2: "/nowhere/y.jpg"}
    assert stuff_map_path(elsewhere["images"][1], "f") == "y.png"
    assert stuff_map_path({"file_name": "a/y.jpg"}, "f") == "a/y.png"


@pytest.mark.parametrize(
    ("asked", "there"),
    [
        ("0001.JPG", "0001.jpg"), ("0001", "0001.jpg"), ("0001.jpg ", "0001.jpg"), ("train/0001.jpg", "0001.jpg"),
        (".\\0001.jpg", "0001.jpg"), ("C:\\data\\0001.jpg", "0001.jpg"), ("/data/0001.png", "0001.jpg"),
        ("sub/b.png", "sub/b.jpg"), ("0002.jpg", None), ("a\0b/c.jpg", None),
    ],
)  # fmt: skip
def test_what_may_be_meant_by_a_missing_path(tmp_path: Path, asked: str, there: str | None) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("0001.jpg", "sub/b.jpg"):
        (tmp_path / name).touch()
    assert guess_missing(asked, tmp_path) == ("" if there is None else f" ({tmp_path / there} is there)")


def test_a_name_in_another_unicode_form(tmp_path: Path) -> None:
    (tmp_path / "e\u0301.jpg").touch()
    assert "another Unicode form" in guess_missing("\u00e9.jpg", tmp_path)


def test_train_and_val_categories() -> None:
    other = content()
    other["categories"].reverse()
    assert check_same_categories(content(), other, "val.json") == []
    other["categories"][0]["name"] = "z"
    with pytest.raises(InputError, match=r"val\.json: .*id 8 is 'z', expected 'b'"):
        check_same_categories(content(), other, "val.json")
    del other["categories"][0]
    assert check_same_categories(content(), other, "val.json") == ["b"], "validation may lack some"
    with pytest.raises(InputError, match="id 8 is 'b', expected absent"):
        check_same_categories(other, content(), "val.json")


def test_messages_stay_on_one_line() -> None:
    assert first(["a\nb", "\u00fc", 3, 4]) == "a\\nb, \u00fc, 3, ..." and first([1, 2]) == "1, 2"


def test_bin_edges() -> None:
    assert are_bin_edges([1, 5, 9])
    assert not any(map(are_bin_edges, ([0, 1], [5, 5], [2, 1], [1.5], [True, 2], ["a"], [10**30])))
