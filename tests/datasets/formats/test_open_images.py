"""Open Images: boxes, groups and verified labels from CSV files; what is malformed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from little import image, write

from imbalance_bench.datasets import prepared, registry
from imbalance_bench.datasets.formats import open_images
from imbalance_bench.datasets.layouts import LAYOUTS
from imbalance_bench.datasets.split import Split
from imbalance_bench.evaluation.ground_truth import GroundTruth
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.progress import Reporter

HEADER = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside"
KITE, LADLE, CHAIR = "/m/02zt3", "/m/0h8n27j", "/m/01mzpv"
CLASSES = f'LabelName,DisplayName\n{KITE},Kite\n{LADLE},"Ladle, soup"\n{CHAIR},Chair\n'


def row(image: str, label: str, corners: str, group: int = 0) -> str:
    return f"{image},xclick,{label},1,{corners},0,0,{group},0,0"


TRAIN = [row("0b", KITE, "0.25,0.75,0,0.5"), row("0b", LADLE, "0,1,0,1", 1), row("0a", CHAIR, "0.1,0.2,0.3,0.4", -1),
         row("12345678901234567890", KITE, "0,0.5,0,0.5")]  # fmt: skip
VAL = [row("1a", KITE, "0,0.5,0,0.5"), row("1a", KITE, "0.5,1,0,1", 1), row("1b", LADLE, "0,1,0.5,1"),
       row("1b", CHAIR, "0,1,0,1", 1)]  # fmt: skip
LABELS = [f"1a,verification,{LADLE},0", f"1a,verification,{KITE},1", f"1b,verification,{KITE},0",
          f"1b,verification,{LADLE},0", f"1c,verification,{CHAIR},0", f"1c,verification,{CHAIR},0"]  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "open-images"
    write(root / "annotations/oidv7-class-descriptions-boxable.csv", CLASSES)
    write(root / "annotations/oidv6-train-annotations-bbox.csv", "\n".join([HEADER, *TRAIN]))
    write(root / "annotations/validation-annotations-bbox.csv", "\n".join([HEADER, *VAL]))
    labels = "\n".join(["ImageID,Source,LabelName,Confidence", *LABELS])
    write(root / "annotations/validation-annotations-human-imagelabels-boxable.csv", labels)
    for path in ("train/train_0/0a.jpg", "train/train_b/0b.jpg", "train/12345678901234567890.jpg",
                 "validation/1a.jpg", "validation/1b.jpg", "validation/1c.jpg"):  # fmt: skip
        image(root / path, 100, 40)
    return root


def read(root: Path) -> dict[str, Split]:
    return open_images.convert(LAYOUTS["open-images"].splits(root), Reporter())


def test_boxes(root: Path) -> None:
    train = read(root)["train"]
    content = train.content or {}
    assert content["categories"] == [
        {"id": 1, "name": "Kite"}, {"id": 2, "name": "Ladle, soup"}, {"id": 3, "name": "Chair"}
    ]  # fmt: skip
    assert [i["file_name"] for i in content["images"]] == [
        "train_0/0a.jpg", "train_b/0b.jpg", "12345678901234567890.jpg"
    ]  # fmt: skip
    found = [(a["image_id"], a["category_id"], a["bbox"], a["iscrowd"]) for a in content["annotations"]]
    assert found == [(2, 1, [25, 0, 50, 20], 0), (2, 2, [0, 0, 100, 40], 1), (1, 3, [10, 12, 10, 4], 0),
                     (3, 1, [0, 0, 50, 20], 0)]  # fmt: skip
    assert "neg_category_ids" not in content["images"][0]
    assert train.notes == (
        "no *-annotations-human-imagelabels-boxable.csv beside oidv6-train-annotations-bbox.csv: every class is taken "
        "as annotated in every image",
        "1 boxes are around groups of objects: crowd regions: 0b",
    )


def test_verified_labels_make_evaluation_federated(root: Path) -> None:
    val = read(root)["val"]
    content = val.content or {}
    lists = [(i["file_name"], i["neg_category_ids"], i["not_exhaustive_category_ids"]) for i in content["images"]]
    assert lists == [("1a.jpg", [2], [1]), ("1b.jpg", [1], [3]), ("1c.jpg", [3], [])]
    assert [(a["image_id"], a["category_id"], a["iscrowd"]) for a in content["annotations"]] == [(1, 1, 0), (2, 2, 0)]
    assert val.notes == (
        "1 classes are verified as absent from an image that has a box of them, and are taken as there: 1b.jpg",
        "2 boxes are around groups of objects, and are left out; their classes are not exhaustive there: 1a, 1b",
    )


def test_as_a_data_set(root: Path, tmp_path: Path) -> None:
    record = prepared.prepare_layout("open-images", root, tmp_path / "data" / "open-images")
    dataset = registry.get("open-images", tmp_path / "data")
    assert dataset.lvis_style and "CC BY" in dataset.attribution
    assert dataset.train_annotations == tmp_path / "data/open-images/annotations/train.json"
    assert record["train"]["given"]["path"].endswith("oidv6-train-annotations-bbox.csv")
    assert dataset.categories().instance_counts.tolist() == [2, 0, 1], "a group is no instance"
    truth = GroundTruth.read(dataset.val_annotations, dataset.categories())
    assert truth.judged is not None and truth.open is not None
    assert truth.judged.astype(int).tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert np.argwhere(truth.open).tolist() == [[0, 0], [1, 2]]
    assert len(truth.labels) == 2
    dataset.check()


def test_a_group_of_an_exhaustive_set_stays_a_crowd_region(root: Path) -> None:
    (root / "annotations/validation-annotations-human-imagelabels-boxable.csv").unlink()
    content = read(root)["val"].content or {}
    assert [a["iscrowd"] for a in content["annotations"]] == [0, 1, 0, 1]


def test_names_of_all_versions(root: Path) -> None:
    folder = root / "annotations"
    expected = read(root)["train"].content
    (folder / "oidv6-train-annotations-bbox.csv").rename(folder / "train-annotations-bbox.csv")
    (folder / "oidv7-class-descriptions-boxable.csv").unlink()
    write(folder / "class-descriptions-boxable.csv", CLASSES.partition("\n")[2])
    assert read(root)["train"].content == expected
    (folder / "class-descriptions-boxable.csv").unlink()
    with pytest.raises(InputError, match=r"annotations: no \*class-descriptions-boxable\.csv"):
        read(root)
    (folder / "train-annotations-bbox.csv").unlink()
    with pytest.raises(InputError, match=r"\*train-annotations-bbox\.csv: no such file, .*storage\.googleapis\.com"):
        prepared.prepare_layout("open-images", root, root / "data")


def test_missing_images(root: Path, tmp_path: Path) -> None:
    (root / "train/train_0/0a.jpg").unlink()
    (root / "validation/1c.jpg").write_bytes(b"not an image")
    image(root / "train/train_c/0b.jpg", 5, 5)
    folder = tmp_path / "data" / "open-images"
    with pytest.raises(InputError, match=r"1 of 3 images of oidv6-.*\(train\) are missing: 0a\.jpg.*--skip-missing"):
        prepared.prepare_layout("open-images", root, folder)
    assert not folder.exists(), "nothing is written"
    record = prepared.prepare_layout("open-images", root, folder, skip_missing=True)
    assert record["train"]["skipped_images"] == [1] and record["val"]["skipped_images"] == [3]
    assert "1 images have another one of their name, which is taken: train_c/0b.jpg" in record["train"]["notes"]
    content: dict[str, Any] = json.loads((folder / record["train"]["annotations"]).read_text())
    assert sorted(path.name for path in (folder / "annotations").iterdir()) == ["train.json", "val.json"]
    assert [image["file_name"] for image in content["images"]] == ["train_b/0b.jpg", "12345678901234567890.jpg"]


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("oidv6-train-annotations-bbox.csv", "", "not readable as CSV with columns ImageID, LabelName, XMin"),
        ("oidv6-train-annotations-bbox.csv", HEADER.replace("IsGroupOf", "Group"), r"not readable .*IsGroupOf"),
        ("oidv6-train-annotations-bbox.csv", f"{HEADER}\n{TRAIN[0]}\n{row('0a', KITE, '0,x,0,1')}",
         "line 3: field 'XMax' is 'x', expected a number"),
        ("oidv6-train-annotations-bbox.csv", f"{HEADER}\n{row('0a', KITE, '0,1,nan,1')}",
         "line 2: field 'YMin' is 'nan', expected a number"),
        ("oidv6-train-annotations-bbox.csv", f"{HEADER}\n{row('0a', KITE, '0,1,0,inf')}", "field 'YMax' is 'inf'"),
        ("oidv6-train-annotations-bbox.csv", f"{HEADER}\n{row('0a', KITE, '0,1,0,1')}\n{row('0a', KITE, '3,90,0,1')}\n"
         f"{row('0a', KITE, '3,90,0,1')}", r"line 3: a corner is beyond the image, .* \(and in 1 more lines\)"),
        ("oidv6-train-annotations-bbox.csv", f"{HEADER}\n{row('0a', '/m/0', '0,1,0,1')}",
         "line 2: field 'LabelName' is not in the file of class descriptions"),
        ("oidv6-train-annotations-bbox.csv", f"{HEADER}\n{row('../0a', KITE, '0,1,0,1')}",
         "line 2: field 'ImageID' is '../0a', expected a name"),
        ("validation-annotations-human-imagelabels-boxable.csv", f"ImageID,LabelName,Confidence\n1a,{KITE},no",
         "line 2: field 'Confidence' is 'no'"),
        ("oidv7-class-descriptions-boxable.csv", CLASSES + f"{KITE},Kite", "line 5 is .*expected a label that is new"),
        ("oidv7-class-descriptions-boxable.csv", CLASSES + "/m/0", "line 5 is .*and its name"),
        ("oidv7-class-descriptions-boxable.csv", "", "holds no class"),
    ],
)  # fmt: skip
def test_malformed_files(root: Path, file: str, text: str, message: str) -> None:
    (root / "annotations" / file).write_text(text)
    with pytest.raises(InputError, match=rf"{file}: .*{message}"):
        read(root)


def test_labels_of_other_classes_are_left_out(root: Path) -> None:
    path = root / "annotations/validation-annotations-human-imagelabels-boxable.csv"
    path.write_text(path.read_text() + "\n1a,verification,/m/0,0\n")
    val = read(root)["val"]
    assert val.notes[0].startswith(f"1 labels of {path.name} are not in the file of class descriptions, and are left")
    assert (val.content or {})["images"][0]["neg_category_ids"] == [2]


def test_files_read_in_parts(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = read(root)
    monkeypatch.setattr(open_images, "ROWS", 2)
    assert read(root) == whole
    path = root / "annotations/oidv6-train-annotations-bbox.csv"
    path.write_text(path.read_text().replace("0,0.5,0,0.5", "0,0.5,0,?"))
    with pytest.raises(InputError, match="line 5: field 'YMax'"):
        read(root)
