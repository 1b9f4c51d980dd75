"""The embedded data set: the same bytes everywhere, exact counts, tight boxes, written completely or not at all."""

import hashlib
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from imbalance_bench.categories import CategoryTable
from imbalance_bench.datasets import emoji_lt, registry
from imbalance_bench.datasets.emoji_profile import PROFILES
from imbalance_bench.runtime.errors import InputError

MINI = PROFILES["emoji-lt-mini"]


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return emoji_lt.draw(MINI, tmp_path_factory.mktemp("data"), workers=2)


def read(folder: Path, split: str) -> dict:
    return json.loads((folder / "annotations" / f"{split}.json").read_text())


def test_the_same_seed_gives_the_same_bytes(mini: Path, tmp_path: Path) -> None:
    small = replace(MINI, val_images=8)
    one = emoji_lt.draw(replace(small, name="one"), tmp_path, workers=1)
    two = emoji_lt.draw(replace(small, name="two"), tmp_path, workers=3)
    assert sorted(p.relative_to(one) for p in one.rglob("*.jpg")) == sorted(
        p.relative_to(two) for p in two.rglob("*.jpg")
    )
    for path in one.rglob("*.jpg"):
        assert path.read_bytes() == (two / path.relative_to(one)).read_bytes()
    assert read(one, "train")["annotations"] == read(two, "train")["annotations"] == read(mini, "train")["annotations"]
    other = emoji_lt.draw(replace(small, name="other"), tmp_path, seed=1)
    assert read(other, "train")["annotations"] != read(one, "train")["annotations"]


def test_pinned_bytes(mini: Path) -> None:
    """With the pinned versions; a change here changes every measured result."""
    digest = hashlib.sha256()
    for path in sorted(mini.rglob("*.jpg")):
        digest.update(path.read_bytes())
    annotations = json.dumps(read(mini, "train")["annotations"]).encode()
    assert hashlib.sha256(annotations).hexdigest()[:16] == "508f775ff5d52006"
    assert digest.hexdigest()[:16] == "58d7f0152a067148"


def test_counts_are_the_plan(mini: Path) -> None:
    train = read(mini, "train")
    planned = MINI.counts(0)
    labels = [annotation["category_id"] - 1 for annotation in train["annotations"]]
    assert np.array_equal(np.bincount(labels, minlength=12), planned)
    table = CategoryTable.from_annotations(mini / "annotations" / "train.json")
    assert table.bin_edges == MINI.bin_edges
    assert np.array_equal(table.instance_counts, planned)
    for category, images in zip(train["categories"], table.image_counts, strict=True):
        assert category["instance_count"] == planned[category["id"] - 1]
        assert category["image_count"] == images
        assert category["frequency"] == ("r" if images <= 10 else "c" if images <= 100 else "f")
    validation = [annotation["category_id"] for annotation in read(mini, "val")["annotations"]]
    assert np.bincount(validation)[1:].tolist() == [24] * 12


@pytest.mark.parametrize("split", ["train", "val"])
def test_boxes_masks_and_negatives(mini: Path, split: str) -> None:
    content = read(mini, split)
    assert [image["id"] for image in content["images"]] == list(range(1, len(content["images"]) + 1))
    everything = {category["id"] for category in content["categories"]}
    for image in content["images"]:
        with Image.open(mini / split / image["file_name"]) as picture:
            assert picture.size == (image["width"], image["height"]) == (128, 128)
        objects = [a for a in content["annotations"] if a["image_id"] == image["id"]]
        present = {a["category_id"] for a in objects}
        assert set(image["neg_category_ids"]) == everything - present
        assert image["not_exhaustive_category_ids"] == []
        covered = np.zeros((128, 128), dtype=int)
        for annotation in objects:
            mask = coco_mask.decode(annotation["segmentation"])
            covered += mask
            x, y, w, h = annotation["bbox"]
            assert mask.sum() == annotation["area"] > 0
            assert mask[y : y + h, x : x + w].sum() == annotation["area"], "the box holds the mask"
            assert mask[y].any() and mask[y + h - 1].any() and mask[:, x].any() and mask[:, x + w - 1].any()
        assert covered.max() <= 1, "visible parts do not overlap"


def test_federated_annotations(tmp_path: Path) -> None:
    profile = replace(PROFILES["emoji-lt-full"], name="cut", classes=40, image_size=96, max_count=20, val_images=6)
    content = read(emoji_lt.draw(profile, tmp_path), "val")
    assert all(len(image["neg_category_ids"]) == 9 for image in content["images"])
    train = read(tmp_path / "cut", "train")
    for image in train["images"]:
        present = {a["category_id"] for a in train["annotations"] if a["image_id"] == image["id"]}
        assert not present & set(image["neg_category_ids"])
        assert set(image["not_exhaustive_category_ids"]) <= present
    assert any(image["not_exhaustive_category_ids"] for image in train["images"])


def test_an_interrupted_drawing_is_absent(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        emoji_lt.draw(MINI, tmp_path, progress=stop)
    assert not registry.get(MINI.name, tmp_path).is_prepared()
    assert not (tmp_path / MINI.name).exists()


def test_record(mini: Path) -> None:
    record = json.loads((mini / "record.json").read_text())
    assert "CC BY 4.0" in record["attribution"] and "CC BY-SA 4.0" in record["attribution"]
    assert record["seed"] == 0
    name = "train/000001.jpg"
    assert record["sha256"][name] == hashlib.sha256((mini / name).read_bytes()).hexdigest()
    with pytest.raises(FileExistsError):
        emoji_lt.draw(MINI, mini.parent)


def test_data_card(mini: Path) -> None:
    """Its files have their checksums, and each field is where it says in the annotations."""
    card = json.loads((mini / "croissant.json").read_text())
    record = json.loads((mini / "record.json").read_text())
    assert card["conformsTo"] == "http://mlcommons.org/croissant/1.0" and card["creditText"] == record["attribution"]
    assert len(card["license"]) == 2 and card["version"] == "3.0.0"
    files = {part["@id"]: part for part in card["distribution"]}
    for part in files.values():
        if part["@type"] == "cr:FileObject":
            assert part["sha256"] == hashlib.sha256((mini / part["contentUrl"]).read_bytes()).hexdigest()
        else:
            assert list(mini.glob(part["includes"]))
    for records in card["recordSet"]:
        for field in records["field"]:
            content = json.loads((mini / files[field["source"]["fileObject"]["@id"]]["contentUrl"]).read_text())
            name, key = re.fullmatch(r"\$\.(\w+)\[\*\]\.(\w+)", field["source"]["extract"]["jsonPath"]).groups()
            kinds = {"sc:Integer": int, "sc:Text": str, "cr:BoundingBox": list}
            assert content[name] and all(isinstance(entry[key], kinds[field["dataType"]]) for entry in content[name])


def test_a_set_of_an_earlier_version_is_refused(mini: Path, tmp_path: Path) -> None:
    shutil.copytree(mini / "annotations", tmp_path / MINI.name / "annotations")
    (tmp_path / MINI.name / "record.json").write_text(json.dumps({"version": 2}))
    with pytest.raises(InputError, match=r"record.json: field 'version' is 2, expected 3; delete .*emoji-lt-mini"):
        registry.prepare(MINI.name, tmp_path)


def test_registry(mini: Path) -> None:
    dataset = registry.prepare("emoji-lt-mini", mini.parent)
    assert dataset.is_prepared()
    assert dataset.categories().num_classes == 12
    assert {*PROFILES} < {*registry.names(mini.parent)}
    assert registry.get("emoji-lt-full", mini.parent).lvis_style
    assert not registry.get("emoji-balanced-small", mini.parent).is_prepared()
    with pytest.raises(InputError, match="did you mean 'emoji-lt-small'"):
        registry.get("emoji-lt-smal", mini.parent)
