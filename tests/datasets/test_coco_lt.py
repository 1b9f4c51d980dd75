"""COCO-LT: its targets, and the defining properties of its draw."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from imbalance_bench.bins import bin_index
from imbalance_bench.categories import CategoryTable
from imbalance_bench.datasets.coco_lt import aligned_targets, read_targets, sample_long_tail
from imbalance_bench.datasets.registry import DataSet
from imbalance_bench.runtime.errors import InputError

DATA = Path(__file__).resolve().parents[1] / "data"
ALIGNED = DATA / "coco_lt_bags_targets.csv"
SIMCAL = DATA / "coco_lt_simcal_counts.csv"


def balanced(classes: int = 20, images: int = 600, seed: int = 0) -> dict[str, Any]:
    """About 200 instances a class, several to an image, non-contiguous ids, some crowd regions and flat boxes."""
    rng = np.random.default_rng(seed)
    number = rng.poisson(7, images)
    image = np.repeat(np.arange(images), number)
    annotations = [
        {"id": 3 * n + 2, "image_id": 10 * int(i) + 1, "category_id": 5 * int(c) + 3,
         "bbox": [0, 0, 2, int(n % 50 > 0)], "iscrowd": int(n % 40 == 7)}
        for n, (i, c) in enumerate(zip(image, rng.integers(0, classes, len(image)), strict=True))
    ]  # fmt: skip
    return {
        "categories": [{"id": 5 * c + 3, "name": f"c{c}"} for c in range(classes)],
        "images": [{"id": 10 * i + 1, "file_name": f"{i}.jpg", "height": 4, "width": 4} for i in range(images)],
        "annotations": annotations,
    }


def counts(content: dict[str, Any]) -> np.ndarray:
    return CategoryTable.from_annotations(content).instance_counts


def available(content: dict[str, Any]) -> np.ndarray:
    return counts(content | {"annotations": [a for a in content["annotations"] if a["bbox"][3] > 0]})


TARGETS = np.array([1, 900, 2, 150, 3, 90, 4, 70, 5, 40, 6, 30, 8, 20, 10, 15, 11, 12, 0, 60])


@pytest.mark.parametrize("seed", [0, 1])
def test_counts_are_the_targets_or_all_there_is(seed: int) -> None:
    content = balanced()
    drawn = sample_long_tail(content, TARGETS, seed)
    assert available(content)[1] < 900, "one target is beyond what there is"
    assert counts(drawn).tolist() == np.minimum(TARGETS, available(content)).tolist()


def one_by_one(content: dict[str, Any], targets: np.ndarray, seed: int) -> tuple[set[int], set[int]]:
    """The draw as a loop over categories, images and instances: ids of images and of used instances."""
    generator = np.random.default_rng(seed)
    images = sorted(image["id"] for image in content["images"])
    objects = [a for a in content["annotations"] if a["bbox"][3] > 0 and not a["iscrowd"]]  # by id
    ids = sorted(category["id"] for category in content["categories"])
    image_key = dict(zip(images, generator.permutation(len(images)).tolist(), strict=True))
    object_key = dict(zip((a["id"] for a in objects), generator.permutation(len(objects)).tolist(), strict=True))
    remaining = dict(zip(ids, targets.tolist(), strict=True))
    drawn: set[int] = set()
    used: set[int] = set()
    for category in sorted(ids, key=lambda i: (targets[ids.index(i)], i)):
        for image in sorted(images, key=image_key.__getitem__):
            inside = sorted((a for a in objects if a["image_id"] == image), key=lambda a: object_key[a["id"]])
            if remaining[category] == 0:
                break
            if image in drawn or category not in {a["category_id"] for a in inside}:
                continue
            drawn.add(image)
            for annotation in inside:
                if remaining[annotation["category_id"]] > 0:
                    remaining[annotation["category_id"]] -= 1
                    used.add(annotation["id"])
    return drawn, used


@pytest.mark.parametrize("seed", [0, 5])
def test_it_is_the_loop_over_images(seed: int) -> None:
    content = balanced(classes=6, images=60)
    targets = np.array([40, 3, 10**6, 12, 0, 1])
    drawn = sample_long_tail(content, targets, seed)
    images, used = one_by_one(content, targets, seed)
    assert {image["id"] for image in drawn["images"]} == images
    assert {a["id"] for a in drawn["annotations"] if not a["iscrowd"]} == used


def test_images_are_whole_and_none_is_idle() -> None:
    content = balanced()
    drawn = sample_long_tail(content, TARGETS, 0)
    sampled = {image["id"] for image in drawn["images"]}
    used = {a["image_id"] for a in drawn["annotations"] if not a["iscrowd"]}
    assert used == sampled and len(sampled) < len(content["images"])
    before = {a["id"]: a for a in content["annotations"] if a["image_id"] in sampled and a["bbox"][3] > 0}
    after = {a["id"]: a for a in drawn["annotations"]}
    assert before.keys() == after.keys(), "what is ignored is marked, not dropped"
    assert all({**after[key], "iscrowd": 0} == {**before[key], "iscrowd": 0} for key in before)
    assert all(after[key]["iscrowd"] for key in before if before[key]["iscrowd"]), "crowd regions stay what they are"
    assert drawn["categories"] == content["categories"]


def test_as_many_instances_of_a_sampled_image_as_possible() -> None:
    drawn = sample_long_tail(balanced(), TARGETS, 0)
    short = counts(drawn) < TARGETS
    ignored = CategoryTable.from_annotations(
        drawn | {"annotations": [a | {"iscrowd": 1 - a["iscrowd"]} for a in drawn["annotations"]]}
    ).instance_counts
    crowd = sum(a["iscrowd"] for a in balanced()["annotations"] if a["category_id"] == 8)
    assert short.nonzero()[0].tolist() == [1]
    assert ignored[1] <= crowd, "of a category that is short nothing is ignored but crowd regions"


def test_the_same_seed_whatever_the_order() -> None:
    content = balanced()
    drawn = sample_long_tail(content, TARGETS, 3)
    rng = np.random.default_rng(9)
    shuffled = {key: [content[key][i] for i in rng.permutation(len(content[key]))] for key in ("images", "annotations")}
    again = sample_long_tail({**shuffled, "categories": content["categories"][::-1]}, TARGETS, 3)
    assert again["images"] == drawn["images"] and again["annotations"] == drawn["annotations"]
    assert sample_long_tail(content, TARGETS, 4)["images"] != drawn["images"]


def test_every_image_is_as_likely() -> None:
    content = balanced(classes=1, images=40)
    hits = np.zeros(40)
    for seed in range(400):
        for image in sample_long_tail(content, np.array([30]), seed)["images"]:
            hits[image["id"] // 10] += 1
    held = {a["image_id"] // 10 for a in content["annotations"] if not a["iscrowd"] and a["bbox"][3]}
    assert set(hits.nonzero()[0]) == held
    assert hits[sorted(held)].std() / hits[sorted(held)].mean() < 0.25


def test_targets_follow_ranks() -> None:
    found = aligned_targets(np.array([50, 900, 50, 10]))
    assert found[1] == 26148 and found[3] == 1
    assert found[0] > found[2] > 1, "ties in label order"


def test_the_embedded_balanced_set(mini: DataSet) -> None:
    content = json.loads(mini.train_annotations.read_text())
    targets = aligned_targets(counts(content))
    drawn = sample_long_tail(content, targets, 0)
    assert counts(drawn).tolist() == np.minimum(targets, counts(content)).tolist()


def test_targets_are_those_of_the_paper() -> None:
    paper = pd.read_csv(ALIGNED)
    ours = aligned_targets(paper["coco_instances_no_crowd"].to_numpy())
    theirs = paper["target_instances_linspace"].to_numpy()
    assert np.abs(np.log(ours / theirs)).max() < 0.3
    assert abs(ours.sum() / theirs.sum() - 1) < 0.03
    assert np.bincount(bin_index(ours, (10, 100, 1000)))[1:].tolist() == [19, 29, 20, 12]
    assert (bin_index(ours, (10, 100, 1000)) == bin_index(theirs, (10, 100, 1000))).all()


def test_the_list_of_simcal_is_read() -> None:
    list_ = pd.read_csv(SIMCAL).sort_values("id")
    zeros = np.zeros(80, dtype=int)
    table = CategoryTable(list_["id"].to_numpy(), tuple(list_["name"]), zeros, zeros, ("r",) * 80)
    targets = read_targets(SIMCAL, table)
    assert targets.tolist() == list_["instance_count"].tolist()
    assert np.bincount(bin_index(targets, (20, 400, 8000)))[1:].tolist() == [4, 24, 32, 20]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "columns"),
        ("id,count\n3,5\n", "columns"),
        ("name,instance_count\nc0,5\n", "category c1 is missing"),
        ("id,instance_count\n3,5\n8,-2\n", "category 8 is '-2', expected a whole number"),
        ("id,instance_count\n3\n8,2\n", "category 3 is '', expected a whole number"),
        ("id,instance_count\n3,0\n8,0\n", "0 for every category"),
        ("name,instance_count\nc0,5\nc1," + "9" * 99, "expected a whole number"),
    ],
)
def test_targets_of_a_file(tmp_path: Path, text: str, message: str) -> None:
    table = CategoryTable.from_annotations(balanced(classes=2, images=9))
    path = tmp_path / "targets.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_targets(path, table)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    path.write_text("instance_count,name\n4,c1\n7,c0\n")
    assert read_targets(path, table).tolist() == [7, 4]
    with pytest.raises(InputError, match="not readable"):
        read_targets(tmp_path / "absent.csv", table)
