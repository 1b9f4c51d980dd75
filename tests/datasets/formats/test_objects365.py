"""Objects365 and V3Det: COCO-format files whose images lie in folders."""

import json
from pathlib import Path

import pytest
from little import LITTLE, coco, image, write

from imbalance_bench.datasets import registry
from imbalance_bench.datasets.layouts import LAYOUTS
from imbalance_bench.datasets.prepared import prepare_layout
from imbalance_bench.runtime.errors import InputError


def stated(name: str) -> str:
    """The name of an image in Objects365's files."""
    return f"images/v1/patch{ord(name[0]) % 2}/objects365_v1_{name}"


def lay_out(root: Path, parts: int) -> None:
    """Objects365 with images below the last few parts of their names."""
    for split, images in LITTLE.items():
        content = coco(images)
        for record in content["images"]:
            record["file_name"] = stated(record["file_name"])
            place = "/".join(record["file_name"].split("/")[-parts:])
            image(root / split / place, record["width"], record["height"])
        for annotation in content["annotations"]:
            annotation |= {"isfake": 0, "isreflected": 0, "iscrowd": 0, "area": 1.0}
        write(root / "annotations" / f"zhiyuan_objv2_{split}.json", json.dumps(content))


@pytest.mark.parametrize(
    ("parts", "name"),
    [(4, "images/v1/patch1/objects365_v1_a.png"), (2, "patch1/objects365_v1_a.png"), (1, "objects365_v1_a.png")],
)
def test_objects365_is_found_as_it_lies(tmp_path: Path, parts: int, name: str) -> None:
    root, folder = tmp_path / "root", tmp_path / "data" / "objects365"
    lay_out(root, parts)
    record = prepare_layout("objects365", root, folder)
    dataset = registry.get("objects365", tmp_path / "data")
    content = json.loads(dataset.train_annotations.read_text())
    assert content["images"][0]["file_name"] == name
    assert content["annotations"][0]["isfake"] == 0, "the other fields stay"
    if parts == 4:
        assert dataset.train_annotations == root / "annotations/zhiyuan_objv2_train.json", "used where it lies"
        assert record["train"]["notes"] == []
    else:
        what = f"3 images are named as they lie on disk: {name}, in the file images/v1/patch1/objects365_v1_a.png"
        assert record["train"]["notes"] == [what]
    dataset.check()


def test_objects365_without_some_images(tmp_path: Path) -> None:
    root = tmp_path / "root"
    lay_out(root, 2)
    (root / "train/patch1/objects365_v1_c.png").unlink()
    with pytest.raises(InputError, match=r"1 of 3 images .*missing: patch1/objects365_v1_c\.png.*objects365\.org"):
        prepare_layout("objects365", root, tmp_path / "data" / "objects365")
    assert not (tmp_path / "data").exists()
    prepare_layout("objects365", root, tmp_path / "data" / "objects365", skip_missing=True)
    assert registry.get("objects365", tmp_path / "data").categories().num_images == 2
    for text, message in (("[]", "expected a JSON object"), ('{"images": 3}', "field 'images' is int"),
                          ('{"images": [{"file_name": 3}]}', "field 'file_name' is int")):  # fmt: skip
        write(root / "annotations/zhiyuan_objv2_val.json", text)
        with pytest.raises(InputError, match=rf"zhiyuan_objv2_val\.json: {message}"):
            prepare_layout("objects365", root, tmp_path / "data" / "objects365")


def test_v3det_is_coco_format(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for split, images in LITTLE.items():
        content = coco(images)
        for record in content["images"]:
            record["file_name"] = f"images/a00000066/{record['file_name']}"
            image(root / record["file_name"], record["width"], record["height"])
        content["categories"] = [c | {"name_zh": "", "cat_info": "", "novel": False} for c in content["categories"]]
        write(root / "annotations" / f"v3det_2023_v1_{split}.json", json.dumps(content))
    prepare_layout("v3det", root, tmp_path / "data" / "v3det")
    dataset = registry.get("v3det", tmp_path / "data")
    assert dataset.train_annotations == LAYOUTS["v3det"].splits(root)["train"].annotations
    assert not dataset.lvis_style and dataset.categories().num_classes == 3
    dataset.check()
