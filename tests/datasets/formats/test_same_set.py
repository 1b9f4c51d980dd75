"""The same data set in every format, and the command that prepares it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from little import LITTLE, NAMES, boxes_of, coco, write, write_coco, write_voc, write_yolo

from imbalance_bench.categories import read_json
from imbalance_bench.datasets import registry
from imbalance_bench.datasets.formats import FORMATS
from imbalance_bench.datasets.formats.conversion import coco_content
from imbalance_bench.runtime.progress import Reporter

WRITERS = {"yolo": write_yolo, "voc": write_voc, "roboflow": write_coco}


@pytest.mark.parametrize("name", WRITERS)
def test_the_same_boxes_in_every_format(name: str, tmp_path: Path) -> None:
    splits = FORMATS[name](WRITERS[name](tmp_path), Reporter())
    for key, images in LITTLE.items():
        split = splits[key]
        content = split.content or read_json(split.annotations)
        assert split.notes == ()
        assert sorted(category["name"] for category in content["categories"]) == sorted(NAMES)
        found, expected = boxes_of(content), boxes_of(coco(images))
        assert [(stem, label) for stem, label, _ in found] == [(stem, label) for stem, label, _ in expected]
        np.testing.assert_allclose([box for *_, box in found], [box for *_, box in expected], atol=1e-3)
        sizes = {Path(i["file_name"]).stem: (i["width"], i["height"]) for i in content["images"]}
        assert sizes == {stem: (width, height) for stem, (width, height, _) in images.items()}
        for number, annotation in enumerate(content["annotations"], start=1):
            w, h = annotation["bbox"][2:]
            assert annotation["id"] == number and annotation.get("area", w * h) == pytest.approx(w * h, abs=1e-2)


def test_every_format_is_tried_here() -> None:
    assert set(WRITERS) == set(FORMATS)


def test_content_is_rounded_to_a_thousandth() -> None:
    content = coco_content({1: "a"}, [], [(1, 1, 1 / 3, 2.0, 10 / 3, 3.00049, True)])
    assert content["annotations"] == [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0.333, 2, 3.333, 3], "area": 10.002, "iscrowd": 1}
    ]


@pytest.mark.parametrize("name", WRITERS)
def test_the_command(name: str, tmp_path: Path, run: Any) -> None:
    root = WRITERS[name](tmp_path / "given")
    status, out, err = run(
        "datasets", "prepare", name, "--name", "my-set", "--root", root, "--data-dir", tmp_path / "data", "--bin-edges",
        "2,3",
    )  # fmt: skip
    assert (status, err) == (0, "")
    assert "my-set: 3 classes, exhaustively annotated" in out and "[2,3)" in out
    dataset = registry.get("my-set", tmp_path / "data")
    counts = dict(zip(dataset.categories().names, dataset.categories().instance_counts.tolist(), strict=True))
    assert counts == {"kite": 3, "ladle": 1, "chair": 2}
    record = json.loads((tmp_path / "data/my-set/record.json").read_text())
    assert record["description"].startswith(f"your own, from {name}; 3 classes, 6 train instances, 3 + 2 images")
    if name != "roboflow":
        folder = tmp_path / "data/my-set/annotations"
        assert (dataset.train_annotations, dataset.val_annotations) == (folder / "train.json", folder / "val.json")
    dataset.check()
    assert "my-set" in run("datasets", "list", "--data-dir", tmp_path / "data")[1]


def test_images_that_are_missing_or_broken(tmp_path: Path, run: Any) -> None:
    root = write_voc(tmp_path / "voc")
    (root / "JPEGImages/a.png").unlink()
    (root / "JPEGImages/d.png").write_bytes(b"")
    write_yolo(tmp_path / "yolo")
    (tmp_path / "yolo/images/train/a.png").write_bytes(b"broken")
    for name, given, message in (
        ("voc", root, "1 of 3 images of voc (train) are missing: JPEGImages/a.png"),
        ("yolo", tmp_path / "yolo", "1 of 3 images of data.yaml (train) cannot be read: images/train/a.png"),
    ):
        arguments = ("datasets", "prepare", name, "--name", "odd", "--root", given, "--data-dir", tmp_path / "data")
        status, _, err = run(*arguments)
        assert status == 2 and message in err and err.count("\n") == 1
        assert not (tmp_path / "data").exists(), "nothing half-written stays"
        status, out, _ = run(*arguments, "--skip-missing")
        assert status == 0 and f"train: {message}" in out
        content = read_json(tmp_path / "data/odd/annotations/train.json")
        assert boxes_of(content) == [box for box in boxes_of(coco(LITTLE["train"])) if box[0] != "a"]
        assert sorted(path.name for path in (tmp_path / "data/odd/annotations").iterdir()) == ["train.json", "val.json"]
        for path in sorted((tmp_path / "data").rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        (tmp_path / "data").rmdir()


def test_a_failure_leaves_what_was_there(tmp_path: Path, run: Any) -> None:
    data = write_yolo(tmp_path / "yolo")
    arguments = ("datasets", "prepare", "yolo", "--name", "mine", "--root", data, "--data-dir", tmp_path / "data")
    assert run(*arguments)[0] == 0
    files = {path: path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file()}
    write(tmp_path / "yolo/labels/val/d.txt", "0 .1 .1\n")
    status, _, err = run(*arguments)
    assert status == 2 and "d.txt: line 1 has 3 numbers" in err
    assert {path: path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file()} == files


def test_options_of_the_command(tmp_path: Path, run: Any) -> None:
    data = ("--data-dir", tmp_path / "data")
    for arguments, message in (
        (("yolo", "--root", tmp_path), "yolo needs option '--name' too"),
        (("voc", "--name", "mine"), "voc needs option '--root' too"),
        (("voc", "--name", "yolo", "--root", tmp_path), "'yolo', which is the name of another data set"),
        (("yolo", "--name", "a", "--root", tmp_path, "--train-images", tmp_path), "'--train-images' has no use with"),
        (("yolo", "--name", "a", "--root", tmp_path, "--stuff-maps", tmp_path), "'--stuff-maps' has no use with"),
        (("objects365", "--name", "a", "--root", tmp_path), "option '--name' has no use with 'objects365'"),
        (("v3det", "--root", tmp_path), "v3det_2023_v1_train.json: no such file, v3det needs it"),
        (("yolo", "--name", "a", "--root", tmp_path), "data.yaml: no such file"),
    ):
        status, _, err = run("datasets", "prepare", *arguments, *data)
        assert status == 2 and message in err and err.count("\n") == 1, arguments
    assert not (tmp_path / "data").exists()
