"""Data sets on disk: official layouts and the user's own, checked, recorded, and found by name."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from imbalance_bench.categories import CategoryTable
from imbalance_bench.datasets import prepared, registry
from imbalance_bench.datasets.coco_format import image_path
from imbalance_bench.datasets.layouts import LAYOUTS
from imbalance_bench.datasets.prepared import prepare_layout, prepare_splits, read_table
from imbalance_bench.datasets.registry import DataSet
from imbalance_bench.datasets.split import Split
from imbalance_bench.detectors.mmdet.annotation_dataset import build_dataset, image_labels
from imbalance_bench.evaluation.ground_truth import GroundTruth
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.files import sha256

IDS = (70, 2, 11, 5)


def annotations(images: int, seed: int, federated: bool = False, first_id: int = 100) -> dict[str, Any]:
    """Four categories; id 5 has no instance."""
    rng = np.random.default_rng(seed)
    names = [{"id": first_id + 7 * i, "height": 40, "width": 60, "file_name": f"{i:04d}.jpg"} for i in range(images)]
    if federated:
        for image in names:
            image |= {"neg_category_ids": [5], "not_exhaustive_category_ids": []}
    boxes = [(image["id"], IDS[int(rng.choice(3, p=[0.7, 0.2, 0.1]))]) for image in names for _ in range(4)]
    return {
        "categories": [{"id": i, "name": f"class {i}"} for i in IDS],
        "images": names,
        "annotations": [
            {"id": 3 * n + 1, "image_id": image, "category_id": category, "bbox": [1, 2, 10, 20.5]}
            for n, (image, category) in enumerate(boxes)
        ],
    }


def write(content: dict[str, Any], split: Split) -> None:
    """An annotation file and its images, black ones."""
    split.annotations.parent.mkdir(parents=True, exist_ok=True)
    split.annotations.write_text(json.dumps(content))
    split.images.mkdir(parents=True, exist_ok=True)
    for image in content["images"]:
        name = image.get("file_name") or "/".join(image["coco_url"].split("/")[-2:])
        (split.images / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (image["width"], image["height"])).save(split.images / name)


def lay_out(name: str, root: Path) -> dict[str, Split]:
    """A small data set in the layout of a public one."""
    splits = LAYOUTS[name].splits(root)
    for number, (key, split) in enumerate(splits.items()):
        content = annotations(30 - 10 * number, number, federated=name.startswith("lvis"))
        for image in content["images"] if name == "lvis-v1" else ():
            # As LVIS v1's: the validation split has images of train2017 too.
            image["coco_url"] = f"http://images.cocodataset.org/train2017/{key}{image.pop('file_name')}"
        write(content, split)
    return splits


@pytest.fixture
def own(tmp_path: Path) -> dict[str, Split]:
    """A sound pair of one's own."""
    splits = {key: Split(tmp_path / f"{key}.json", tmp_path / key) for key in ("train", "val")}
    for number, split in enumerate(splits.values()):
        write(annotations(12 - 4 * number, number), split)
    return splits


def prepare_own(own: dict[str, Split], data: Path, **options: Any) -> DataSet:
    prepare_splits("my-set", own, data / "my-set", what="my own", attribution="me", **options)
    return registry.get("my-set", data)


def change(split: Split, **fields: Any) -> None:
    split.annotations.write_text(json.dumps(json.loads(split.annotations.read_text()) | fields))


@pytest.mark.parametrize("name", ["lvis-v0.5", "lvis-v1", "coco"])
def test_official_layouts(name: str, tmp_path: Path) -> None:
    splits = lay_out(name, tmp_path / "root")
    record = prepare_layout(name, tmp_path / "root", tmp_path / "data" / name)
    dataset = registry.prepare(name, tmp_path / "data")
    assert dataset.lvis_style == name.startswith("lvis")
    assert dataset.train_annotations == splits["train"].annotations, "used where they lie"
    assert record["train"]["sha256"] == sha256(splits["train"].annotations)
    assert (record["train"]["images"], record["val"]["images"]) == (30, 20)
    assert record["val"]["given"]["path"] == str(splits["val"].annotations)
    assert "CC BY 4.0" in dataset.attribution
    categories = dataset.categories()
    assert categories.ids.tolist() == [2, 5, 11, 70] and categories.bin_edges == (10, 100, 1000)
    data = build_dataset(dataset.val_annotations, dataset.val_images, categories.ids, [], training=False)
    assert all(Path(record["img_path"]).is_file() for record in data.data_list)


@pytest.mark.parametrize("name", ["lvis-v0.5", "lvis-v1", "coco"])
def test_stuff_maps_are_those_of_coco(name: str, tmp_path: Path) -> None:
    train = lay_out(name, tmp_path / "root")["train"]
    images = json.loads(train.annotations.read_text())["images"]
    maps = []
    for image in images:
        path = Path(image_path(image, "train"))
        maps.append(tmp_path / "root" / "stuffthingmaps" / "train2017" / path.with_suffix(".png").name)
        maps[-1].parent.mkdir(parents=True, exist_ok=True)
        maps[-1].touch()
    prepare_layout(name, tmp_path / "root", tmp_path / "data" / name)
    dataset = registry.get(name, tmp_path / "data")
    assert dataset.stuff_maps is not None
    data = build_dataset(
        dataset.train_annotations, dataset.train_images, dataset.categories().ids, [], training=True,
        stuff_maps=dataset.stuff_maps,
    )  # fmt: skip
    assert {Path(record["seg_map_path"]) for record in data.data_list} <= set(maps)
    maps[3].unlink()
    with pytest.raises(InputError, match=r"stuffthingmaps.*1 of 30 stuff maps are missing"):
        prepare_layout(name, tmp_path / "root", tmp_path / "data" / name)


def test_the_category_table(own: dict[str, Split], tmp_path: Path) -> None:
    dataset = prepare_own(own, tmp_path / "data", bin_edges=(5, 20))
    table = read_table(tmp_path / "data" / "my-set")
    counted = CategoryTable.from_annotations(own["train"].annotations, (5, 20))
    assert table.loc[:, counted.frame().columns].equals(counted.frame().astype(table.dtypes[counted.frame().columns]))
    assert table["val_instance_count"].sum() == 32
    assert table.loc[1, ["id", "instance_count", "val_instance_count"]].tolist() == [5, 0, 0], "a class without any"
    assert dataset.categories().bin_edges == (5, 20) and dataset.categories().bins.tolist() == table["bin"].tolist()
    assert "my-set" in registry.names(tmp_path / "data")
    assert registry.describe("my-set", tmp_path / "data")[0] == "prepared"


def test_the_embedded_set_as_ones_own(mini: DataSet, tmp_path: Path) -> None:
    splits = {
        "train": Split(mini.train_annotations, mini.train_images), "val": Split(mini.val_annotations, mini.val_images)
    }  # fmt: skip
    same = prepare_own(splits, tmp_path)
    for field in ("train_annotations", "train_images", "val_annotations", "val_images"):
        assert getattr(same, field) == getattr(mini, field)
    assert same.lvis_style, "its file lists negatives"
    assert same.categories().frame().equals(mini.categories().frame())
    assert same.bin_edges == (5, 20, 80), "those of the file"


@pytest.mark.parametrize(("images", "factor", "views"), [(499, 3.3, 2), (1666, 1, 2), (20_000, 1, 1)])
def test_epochs_and_views_by_the_number_of_images(
    own: dict[str, Split], tmp_path: Path, images: int, factor: float, views: int
) -> None:
    prepare_own(own, tmp_path / "data")
    path = tmp_path / "data" / "my-set" / "record.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "train": {**record["train"], "images": images}}))
    found = registry.get("my-set", tmp_path / "data")
    assert (found.epoch_factor, found.views) == (factor, views)


def test_missing_images(own: dict[str, Split], tmp_path: Path) -> None:
    for number in (2, 3, 5, 7):
        (own["train"].images / f"{number:04d}.jpg").unlink()
    with pytest.raises(
        InputError, match=r"4 of 12 images of train.json are missing: 0002.jpg, 0003.jpg, 0005.jpg, \.\.\."
    ) as e:
        prepare_own(own, tmp_path / "data")
    assert "--skip-missing" in str(e.value) and not (tmp_path / "data").exists(), "nothing is written"
    dataset = prepare_own(own, tmp_path / "data", skip_missing=True)
    record = json.loads((tmp_path / "data" / "my-set" / "record.json").read_text())
    assert record["train"]["skipped_images"] == [114, 121, 135, 149] and record["val"]["skipped_images"] == []
    content = json.loads(dataset.train_annotations.read_text())
    assert len(content["images"]) == record["train"]["images"] == 8
    assert not {a["image_id"] for a in content["annotations"]} & {114, 121, 135, 149}
    assert dataset.categories().instance_counts.sum() == 32
    assert dataset.val_annotations == own["val"].annotations
    assert record["train"]["sha256"] == sha256(dataset.train_annotations)
    assert len(json.loads(own["train"].annotations.read_text())["images"]) == 12, "the given file is not touched"
    for image in own["val"].images.iterdir():
        image.unlink()
    with pytest.raises(InputError, match=r"no annotated image of val\.json"):
        prepare_own(own, tmp_path / "data", skip_missing=True)
    assert registry.get("my-set", tmp_path / "data") == dataset, "a failed check leaves what was there"


def test_what_is_missing_names_the_site(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"lvis_v1_train\.json: no such file.*lvisdataset\.org"):
        prepare_layout("lvis-v1", tmp_path, tmp_path / "data" / "lvis-v1")
    splits = lay_out("coco", tmp_path)
    for path in splits["val"].images.iterdir():
        path.unlink()
    with pytest.raises(InputError, match=r"20 of 20 images.*cocodataset\.org"):
        prepare_layout("coco", tmp_path, tmp_path / "data" / "coco")
    splits["val"].images.rmdir()
    with pytest.raises(InputError, match=r"val2017: no such folder.*cocodataset\.org"):
        prepare_layout("coco", tmp_path, tmp_path / "data" / "coco")


def test_odd_boxes_are_recorded(own: dict[str, Split], tmp_path: Path) -> None:
    content = annotations(12, 0)
    content["annotations"][0]["bbox"] = [1, 1, 0, 5]
    content["annotations"][1]["bbox"] = [55, 1, 10, 5]
    own["train"].annotations.write_text(json.dumps(content))
    dataset = prepare_own(own, tmp_path / "data")
    given = json.loads((tmp_path / "data" / "my-set" / "record.json").read_text())["train"]["given"]
    assert (given["degenerate"], given["outside"]) == ([1], [4])
    data = build_dataset(dataset.train_annotations, dataset.train_images, dataset.categories().ids, [], training=True)
    assert sum(len(record["instances"]) for record in data.data_list) == 47


def test_images_are_looked_at(own: dict[str, Split], tmp_path: Path) -> None:
    Image.new("RGB", (30, 20)).save(own["val"].images / "0003.jpg")
    whole = (own["val"].images / "0001.jpg").read_bytes()
    (own["val"].images / "0001.jpg").write_bytes(whole[:-20])
    with pytest.raises(InputError) as caught:
        prepare_own(own, tmp_path / "data")
    assert "1 of 8 images of val.json cannot be read: 0001.jpg (truncated)" in str(caught.value)
    assert "not of the annotated size: 0003.jpg is 30 x 20, annotated 60 x 40" in str(caught.value)
    assert not (tmp_path / "data").exists(), "nothing is written"
    dataset = prepare_own(own, tmp_path / "data", skip_missing=True, verify_images=True)
    record = json.loads((tmp_path / "data" / "my-set" / "record.json").read_text())
    assert record["val"]["skipped_images"] == [107, 121] and record["val"]["images"] == 6
    assert len(json.loads(dataset.val_annotations.read_text())["images"]) == 6
    assert [note.partition(":")[0] for note in record["val"]["notes"]] == [
        "1 of 8 images of val.json cannot be read", "1 of 8 images of val.json are not of the annotated size"
    ]  # fmt: skip
    dataset.check()
    Image.new("RGB", (30, 20)).save(own["train"].images / "0000.jpg")
    with pytest.raises(InputError, match=r"1 of 12 images of train\.json are not of .*'datasets prepare' can leave"):
        dataset.check()


def test_absolute_paths(own: dict[str, Split], tmp_path: Path) -> None:
    for split in own.values():
        content = json.loads(split.annotations.read_text())
        for image in content["images"]:
            image["file_name"] = str(split.images / image["file_name"])
        split.annotations.write_text(json.dumps(content))
    elsewhere = {key: Split(split.annotations, tmp_path) for key, split in own.items()}
    dataset = prepare_own(elsewhere, tmp_path / "data")
    dataset.check()
    for path, images in (
        (dataset.train_annotations, dataset.train_images), (dataset.val_annotations, dataset.val_images)
    ):  # fmt: skip
        data = build_dataset(path, images, dataset.categories().ids, [], training=False)
        assert all(Path(record["img_path"]).is_file() for record in data.data_list)


def test_odd_masks_matter_where_masks_are_used(own: dict[str, Split], tmp_path: Path) -> None:
    dataset = prepare_own(own, tmp_path / "data")
    dataset.check()
    with pytest.raises(InputError, match=r"train\.json: annotations\[0\]: field 'segmentation' is missing or empty"):
        dataset.check(masks=True)
    content = annotations(12, 0)
    for annotation in content["annotations"]:
        annotation["segmentation"] = [[1, 2, 11, 2, 11, 22.5]]
    content["annotations"][3]["segmentation"] = [[1, 2, 3, 4]]
    own["train"].annotations.write_text(json.dumps(content))
    dataset = prepare_own(own, tmp_path / "data")
    record = json.loads((tmp_path / "data" / "my-set" / "record.json").read_text())
    assert record["train"]["given"]["odd_masks"] == [10] and "1 masks are neither" in record["train"]["notes"][0]
    with pytest.raises(InputError, match=r"train\.json: annotations\[3\]: .*at least three points"):
        dataset.check(masks=True)


def test_counts_are_of_what_is_trained_on(own: dict[str, Split], tmp_path: Path) -> None:
    content = annotations(12, 0)
    of_class = [a for a in content["annotations"] if a["category_id"] == 2]
    for annotation in of_class[1:]:
        annotation["bbox"] = [5, 5, 3, -2]
    own["train"].annotations.write_text(json.dumps(content))
    dataset = prepare_own(own, tmp_path / "data", bin_edges=(2,))
    categories, table = dataset.categories(), read_table(tmp_path / "data" / "my-set")
    assert categories.instance_counts[0] == table["instance_count"][0] == 1 and len(of_class) > 2
    assert categories.bins[0] == table["bin"][0] == 1
    data = build_dataset(dataset.train_annotations, dataset.train_images, categories.ids, [], training=True)
    labels = [instance["bbox_label"] for record in data.data_list for instance in record["instances"]]
    assert np.bincount(labels, minlength=4).tolist() == categories.instance_counts.tolist()


def test_validation_with_fewer_categories_in_another_order(own: dict[str, Split], tmp_path: Path) -> None:
    content = json.loads(own["val"].annotations.read_text())
    kept = [a for a in content["annotations"] if a["category_id"] != 11]
    change(own["val"], categories=[{"id": i, "name": f"class {i}"} for i in (2, 70, 5)], annotations=kept)
    dataset = prepare_own(own, tmp_path / "data")
    record = json.loads((tmp_path / "data" / "my-set" / "record.json").read_text())
    assert record["val"]["notes"] == ["1 categories of training are not in the file, and have no AP: class 11"]
    counts = [sum(a["category_id"] == i for a in kept) for i in sorted(IDS)]
    assert read_table(tmp_path / "data" / "my-set")["val_instance_count"].tolist() == counts
    truth = GroundTruth.read(dataset.val_annotations, dataset.categories(), lvis_style=False)
    assert np.bincount(truth.labels, minlength=4).tolist() == counts


def test_one_class(own: dict[str, Split], tmp_path: Path) -> None:
    for split in own.values():
        content = json.loads(split.annotations.read_text())
        one = [{**a, "category_id": 0} for a in content["annotations"]]
        change(split, categories=[{"id": 0, "name": "thing"}], annotations=one)
    dataset = prepare_own(own, tmp_path / "data")
    assert dataset.categories().num_classes == 1 and dataset.categories().instance_counts.tolist() == [48]
    assert read_table(tmp_path / "data" / "my-set")["bin"].tolist() == [2]
    assert dataset.categories().frame(background=True)["id"].tolist() == [0, -1]


@pytest.mark.parametrize(
    ("split", "fields", "message"),
    [
        ("train", {"annotations": []}, r"train\.json: field 'annotations' is empty"),
        ("val", {"annotations": {}}, r"val\.json: field 'annotations' is dict, expected list"),
        ("val", {"categories": [{"id": i, "name": f"klass {i}"} for i in IDS]}, r"val\.json: .*id 2 is 'klass 2'"),
        ("val", {"categories": [{"id": i, "name": f"class {i}"} for i in (*IDS, 6)]}, "id 6 is 'class 6'"),
    ],
)  # fmt: skip
def test_wrong_annotations(
    own: dict[str, Split], tmp_path: Path, split: str, fields: dict[str, Any], message: str
) -> None:
    change(own[split], **fields)
    with pytest.raises(InputError, match=message):
        prepare_own(own, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_coco_lt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    splits = lay_out("coco", tmp_path / "root")
    given = CategoryTable.from_annotations(splits["train"].annotations)
    wanted = {2: 9, 5: 4, 11: 1, 70: 30}
    (tmp_path / "targets.csv").write_text("id,instance_count\n" + "".join(f"{k},{v}\n" for k, v in wanted.items()))
    folder = tmp_path / "data" / "coco-lt-simcal"
    record = prepare_layout(
        "coco-lt-simcal", tmp_path / "root", folder, targets=tmp_path / "targets.csv", skip_missing=True, seed=1
    )
    dataset = registry.get("coco-lt-simcal", tmp_path / "data")
    assert dataset.train_annotations == folder / "annotations" / "train.json"
    assert dataset.val_annotations == splits["val"].annotations
    assert dataset.categories().bin_edges == (20, 400, 8000) and record["seed"] == 1
    assert json.loads(dataset.train_annotations.read_text())["info"]["bin_edges"] == [20, 400, 8000]
    reached = np.minimum(list(wanted.values()), given.instance_counts).tolist()
    assert dataset.categories().instance_counts.tolist() == reached
    table = read_table(folder)
    assert table["target"].tolist() == [9, 4, 1, 30] and table["available"].tolist() == given.instance_counts.tolist()
    # What was ignored does not make an image one of its class (repeat factor sampling counts images).
    data = build_dataset(dataset.train_annotations, dataset.train_images, given.ids, [], training=True)
    holding = np.bincount(np.concatenate(image_labels(data)), minlength=4)
    assert holding.tolist() == dataset.categories().image_counts.tolist()
    assert any(instance["ignore_flag"] for record in data.data_list for instance in record["instances"])

    aligned = prepare_layout("coco-lt", tmp_path / "root", tmp_path / "data" / "coco-lt")
    assert (aligned["recipe"], aligned["bin_edges"]) == ("aligned", [10, 100, 1000])
    assert read_table(tmp_path / "data" / "coco-lt")["target"].max() == 26148
    with pytest.raises(InputError, match="coco-lt-simcal needs option '--targets'"):
        prepare_layout("coco-lt-simcal", tmp_path / "root", folder)
    with pytest.raises(InputError, match="coco takes no option '--targets'"):
        prepare_layout("coco", tmp_path / "root", folder, targets=tmp_path / "targets.csv")


def test_not_prepared_is_one_line(tmp_path: Path) -> None:
    for look in (registry.get, registry.prepare):
        with pytest.raises(InputError, match=r"'datasets prepare lvis-v1 --root DIR'.*lvisdataset\.org"):
            look("lvis-v1", tmp_path)
    assert registry.describe("lvis-v1", tmp_path)[0] == "not there"
    assert registry.describe("emoji-lt-mini", tmp_path)[0] == "not drawn yet"
    assert "cocodataset.org" in registry.describe("coco-lt-simcal", tmp_path)[1]
    with pytest.raises(InputError, match="--targets FILE"):
        registry.get("coco-lt-simcal", tmp_path)
    with pytest.raises(InputError, match="did you mean 'coco-lt'"):
        registry.get("coco-l", tmp_path)


def test_files_that_went_away(own: dict[str, Split], tmp_path: Path) -> None:
    prepare_own(own, tmp_path / "data")
    own["val"].annotations.unlink()
    with pytest.raises(InputError, match="no longer there"):
        registry.get("my-set", tmp_path / "data")
    assert registry.describe("my-set", tmp_path / "data")[0] == "damaged"


@pytest.mark.parametrize("field", ["name", "description", "attribution", "federated", "bin_edges", "train", "val"])
def test_a_damaged_record(own: dict[str, Split], tmp_path: Path, field: str) -> None:
    prepare_own(own, tmp_path / "data")
    path = tmp_path / "data" / "my-set" / "record.json"
    record = json.loads(path.read_text())
    for value in (None, 3, [], ["a"], {"annotations": 3}):
        if not (field == "bin_edges" and value == []):
            path.write_text(json.dumps({**record, field: value}))
            with pytest.raises(InputError, match=r"record\.json"):
                registry.get("my-set", tmp_path / "data")
    path.write_text("{")
    with pytest.raises(InputError, match=r"record\.json"):
        registry.get("my-set", tmp_path / "data")


def test_a_damaged_table(own: dict[str, Split], tmp_path: Path) -> None:
    prepare_own(own, tmp_path / "data")
    path = tmp_path / "data" / "my-set" / prepared.TABLE
    for text in ("", "label,id\n0,1\n", "a\x00b", path.read_text().replace("class 5,", "class 5,x")):
        path.write_text(text)
        with pytest.raises(InputError, match=r"categories\.csv"):
            read_table(path.parent)
