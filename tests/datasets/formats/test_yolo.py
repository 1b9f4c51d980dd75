"""YOLO: paths as ultralytics finds them, rows of every kind, and what is malformed."""

import math
import os
import random
import re
from pathlib import Path

import pytest
from little import boxes_of, image, write, write_yolo
from PIL import Image

from imbalance_bench.datasets import coco_format
from imbalance_bench.datasets.formats import yolo
from imbalance_bench.datasets.formats.conversion import files_below
from imbalance_bench.datasets.formats.yolo_yaml import LARGEST
from imbalance_bench.datasets.split import Split
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.progress import Reporter

NAMES = "names: [kite, ladle, chair]\n"
FIELDS = f"train: images/train\nval: images/val\n{NAMES}"


def read(path: Path) -> dict[str, Split]:
    return yolo.read(path, Reporter())


def rows(root: Path, text: str, split: str = "train") -> Split:
    """The split whose only labels are these of the image a.png, which has 64 x 48 pixels."""
    data = write_yolo(root)
    for path in (root / "labels" / split).iterdir():
        path.write_text(text if path.stem == "a" else "")
    return read(data)["train"]


def boxes(split: Split) -> list[list[float]]:
    assert split.content is not None
    return [annotation["bbox"] for annotation in split.content["annotations"]]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_yolo(tmp_path / "set")


@pytest.mark.parametrize(
    ("place", "fields"),
    [
        ("data.yaml", FIELDS),
        ("data.yaml", f"path: .\n{FIELDS}nc: 3\n"),
        ("../data.yaml", f"path: set\n{FIELDS}"),
        ("../elsewhere/data.yaml", f"path: ../set\n{FIELDS}"),
        # Roboflow's paths, which are of the folder beside that of the file, and its name of validation.
        ("data.yaml", f"train: ../images/train\nval: ../images/val\n{NAMES}nc: 3\n"),
        ("data.yaml", f"train: ../images/train\nvalid: ../images/val\n{NAMES}"),
        ("data.yaml", f"train: [images/train]\nval:\n- ./images/val\n{NAMES}"),
        ("data.yaml", f"train: train.txt\nval: lists/val.txt\n{NAMES}"),
        ("data.yml", "train: images/train\nval: images/val\nnames:\n  2: chair\n  0: kite\n  1: ladle\n"),
    ],
)
def test_paths(data: Path, place: str, fields: str) -> None:
    expected = {key: boxes_of(split.content) for key, split in read(data).items()}
    root = data.parent
    write(root / "train.txt", "./images/train/b.png\n\nimages/train/a.png\n" + str(root / "images/train/c.png"))
    write(root / "lists" / "val.txt", "./../images/val/d.png\nimages/val/e.png\n")  # relative to it, and to the set
    data.unlink()
    path = write(root / place, fields)
    found = read(path)
    assert {key: boxes_of(split.content) for key, split in found.items()} == expected
    for split in found.values():
        assert split.content is not None and split.notes == ()
        assert all((split.images / image["file_name"]).is_file() for image in split.content["images"])
    if path.parent == root:
        assert boxes_of(read(root)["val"].content) == expected["val"], "the folder of the only YAML file will do"


def test_a_folder_of_another_machine_gives_way_to_that_of_the_file(data: Path) -> None:
    data.write_text(f"path: /content/datasets/set\n{FIELDS}")
    train = read(data)["train"]
    assert len(boxes(train)) == 6
    assert train.notes == (
        "field 'path' of data.yaml is /content/datasets/set, which is not there: its own folder is taken",
    )


def test_labels_beside_the_images(tmp_path: Path) -> None:
    for split in ("train", "val"):
        image(tmp_path / split / "a.jpg", 20, 10)
        write(tmp_path / split / "a.txt", "1 .5 .5 .5 .5")
    write(tmp_path / "train" / "classes.txt", "kite\nladle\nchair\n")
    train = read(write(tmp_path / "data.yaml", f"train: train\nval: val\n{NAMES}"))["train"]
    assert boxes(train) == [[5, 2.5, 10, 5]] and train.notes == ()


def test_classes_are_text_in_the_order_of_the_file(data: Path) -> None:
    data.write_text(FIELDS.replace("kite, ladle, chair", "no, 010, '1:30'"))
    content = read(data)["train"].content
    assert content is not None
    assert content["categories"] == [{"id": 0, "name": "no"}, {"id": 1, "name": "010"}, {"id": 2, "name": "1:30"}]
    data.write_text("train: images/train\nval: images/val\nnc: 3")
    assert (read(data)["val"].content or {})["categories"][2] == {"id": 2, "name": "class_2"}


def test_the_test_split_stands_in_for_validation(data: Path) -> None:
    data.write_text(FIELDS.replace("val:", "test:"))
    assert read(data)["val"].notes == ("the validation split is 'test', as there is no 'val'",)
    data.write_text(f"train: images/train\n{NAMES}")
    with pytest.raises(InputError, match=r"data\.yaml: no validation split .* set some of the training images aside"):
        read(data)


def test_rows(tmp_path: Path) -> None:
    polygon = "2 0.25 0.25 0.5 0.25 0.5 0.75"
    turned = "0 0.5 0.25 0.75 0.5 0.5 0.75 0.25 0.5"
    split = rows(tmp_path, f"1.0 0.5 0.5 0.25 0.5\r\n\n{polygon}\n{turned}\n1 1.000001 0.5 -0.000001 0.1")
    assert boxes(split) == [[24, 12, 16, 24], [16, 12, 16, 24], [16, 12, 32, 24], [64, 21.6, 0, 4.8]]
    assert [a["category_id"] for a in (split.content or {})["annotations"]] == [1, 2, 0, 1]
    assert split.notes == ("2 rows are polygons, and the boxes around them are taken: labels/train/a.txt line 3, "
                           "labels/train/a.txt line 4",)  # fmt: skip


def test_keypoints_are_not_taken_for_polygons(data: Path) -> None:
    data.write_text(f"{FIELDS}kpt_shape: [2, 2]\n")
    for path in (data.parent / "labels").rglob("*.txt"):
        path.write_text("0 .5 .5 .5 .5 .1 .2 1.5 -1")
    train = read(data)["train"]
    assert boxes(train)[0] == [16, 12, 32, 24]
    assert train.notes[0].startswith("3 rows have keypoints, which are not used: labels/train/a.txt line 1")


def test_what_is_odd_is_counted(data: Path) -> None:
    root = data.parent
    image(root / "images/train/none.png", 10, 10)
    image(root / "images/train/a.jpg", 64, 48)
    image(root / "images/train/.hidden.png", 10, 10)
    write(root / "labels/train/gone.txt", "0 .5 .5 .5 .5")
    write(root / "labels/train/c.txt", "2 .5 .5 .5 .5\n2 .50 .5 .5 .5\n2 .5 .5 .5 3\n2 -.5 .5 .5 .5\n")
    write(root / "val.txt", "images/val/d.png\n./images/val/d.png\nimages/val/e.png")
    data.write_text(FIELDS.replace("val: images/val", "val: val.txt"))
    found = read(data)
    assert set(found["train"].notes) == {
        "1 images have no label file, and are taken to hold no object: images/train/none.png",
        "1 images share their label file with another image: images/train/a.png",
        "1 label files have no image: labels/train/gone.txt",
        "1 rows stand twice in their file, and are taken once: labels/train/c.txt line 2",
        "2 rows reach beyond their image by more than 1 % of it, and are left out: labels/train/c.txt line 3, "
        "labels/train/c.txt line 4",
    }
    names = [image["file_name"] for image in (found["train"].content or {})["images"]]
    assert names == [f"images/train/{name}" for name in ("a.jpg", "a.png", "b.png", "c.png", "none.png")]
    assert len(boxes(found["train"])) == 2 + 2 + 3 + 1
    assert found["val"].notes == ("1 images are named more than once in 'val', and are taken once: images/val/d.png",)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("0 .5 .5 .5", r"has 4 numbers, expected a class, then x, y, width and height, or a polygon's"),
        ("0 .5 .5 .5 .5 .9", "has 6 numbers"),
        ("0 .5 .5 .5 .5 .9 .9 .9", "has 8 numbers"),
        ("7", "has class 7, expected 0 to 2, as there are 3 names"),
        ("3 .5 .5 .5 .5", "has class 3, expected 0 to 2"),
        ("-1 .5 .5 .5 .5", "has class -1"),
        ("0.5 .5 .5 .5 .5", "has class 0.5"),
        ("0 nan .5 .5 .5", "is '0 nan .5 .5 .5', expected finite numbers"),
        ("0 .5 .5 inf .5", "expected finite numbers"),
        ("nan .5 .5 .5 .5", "expected finite numbers"),
        ("kite .5 .5 .5 .5", "is 'kite .5 .5 .5 .5', expected numbers"),
        ("version https://git-lfs.github.com/spec/v1", "expected numbers"),
    ],
)
def test_malformed_rows(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"labels/train/a\.txt: line 2 .*{message}"):
        rows(tmp_path, f"0 .5 .5 .5 .5\n{row}\n")


def test_other_malformed_rows_are_counted(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.txt: line 1 has class 8.*\(2 more places are wrong: .*line 3 .*line 4 "):
        rows(tmp_path, "8 .5 .5 .5 .5\n\n9 .5 .5 .5 .5\n1 2\n")


def test_pixels_are_not_fractions(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"'train': all 2 rows of labels reach beyond their images, expected fractions"
    ):
        rows(tmp_path, "0 30 20 10 12\n1 40 30 8 8\n")


def test_labels_that_are_not_there_or_not_text(data: Path) -> None:
    labels = data.parent / "labels"
    (labels / "train" / "b.txt").write_bytes(b"0 .5 .5 \xff .5")
    with pytest.raises(InputError, match=r"b\.txt: not readable as text, expected UTF-8"):
        read(data)
    (labels / "train" / "b.txt").write_bytes(b"\xef\xbb\xbf0 .5 .5 .5 .5")
    assert len(boxes(read(data)["train"])) == 2 + 1 + 1
    labels.rename(data.parent / "annotations")
    with pytest.raises(InputError, match=r"labels/train/a\.txt: no such file, and none of 3 images of 'train'"):
        read(data)
    (data.parent / "images" / "val" / "d.png").unlink()
    (data.parent / "images" / "val" / "e.png").unlink()
    data.write_text(FIELDS.replace("train: images/train", "train: images/val"))
    with pytest.raises(InputError, match=r"field 'train': .*images/val holds no images"):
        read(data)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: [a", "not readable as YAML"),
        ("[" * 600, "not readable as YAML"),
        ("train: !!python/object/apply:os.system ['touch pwned']\n", "not readable as YAML .*constructor"),
        ("a: &a [*a]\ntrain: *a\n" + NAMES, "field 'train' is a list of 1, expected a path"),
        ("3", "is text '3', expected fields"),
        ("", "is null, expected fields"),
        ("\x00", "not readable as YAML"),
        ("# " + "x" * LARGEST, r"has 1,048,578 bytes, expected a data\.yaml of at most"),
        (FIELDS.replace("images/train", "{a: b}"), "field 'train' is an object, expected a path"),
        (FIELDS.replace("images/train", "[images/train, [images]]"), "field 'train' is a list of 2"),
        (FIELDS.replace("images/train", '"a\\0b"'), "field 'train' is text"),
        (FIELDS.replace("images/train", "nowhere"), "field 'train': .*/set/nowhere: no such folder"),
        (FIELDS.replace("images/train", "../../nowhere"), "field 'train': .*/nowhere or .*/nowhere: no such folder"),
        (FIELDS.replace("images/train", "data.yaml"), r"field 'train': .* no \.txt file of paths"),
        (FIELDS.replace("train:", "trian:"), "field 'train' is missing"),
        (f"path: [a]\n{FIELDS}", "field 'path' is .*expected a folder"),
        (f"nc: 4\n{FIELDS}", "field 'nc' is 4, but 'names' has 3"),
        (f"nc: many\n{FIELDS}", "field 'nc' is text 'many', expected the number"),
        (FIELDS.replace("[kite, ladle, chair]", ""), "field 'names' is text '', expected the names"),
        (FIELDS.replace("[kite, ladle, chair]", "kite"), "field 'names' is text 'kite', expected the names"),
        (FIELDS.replace("[kite, ladle, chair]", "[kite, [a], chair]"), "field 'names', class 1: is .*expected text"),
        (FIELDS.replace("[kite, ladle, chair]", "{0: a, 2: b}"), "field 'names' has no class 1, expected classes from"),
        # Aliases that stand for 10**9 names.
        ("a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
            f"{b}: &{b} [{','.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
        ) + "train: t\nval: v\nnames: *i\n", "field 'names', class 0: is a list of 10, expected text"),
    ],
)  # fmt: skip
def test_malformed_yaml(data: Path, text: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(data.parent)
    data.write_text(text)
    with pytest.raises(InputError, match=rf"data\.yaml: {message}"):
        read(data)
    assert not (data.parent / "pwned").exists()


def test_no_yaml(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.yaml: no such file, expected YOLO's data\.yaml"):
        read(tmp_path)
    (tmp_path / "data.yaml").mkdir()
    with pytest.raises(InputError, match=r"data\.yaml: .*(no such file|not readable)"):
        read(tmp_path)


def test_links_in_a_circle_end(data: Path) -> None:
    folder = data.parent / "images" / "train"
    expected = boxes_of(read(data)["train"].content)
    os.symlink(folder, folder / "again")
    os.symlink(folder / "self.png", folder / "self.png")
    (data.parent / "elsewhere").mkdir()
    image(data.parent / "elsewhere" / "z.png", 5, 5)
    os.symlink(data.parent / "elsewhere", folder / "linked")
    found = [os.path.relpath(path, folder) for path in files_below(folder, {".png"})]
    assert found == ["a.png", "b.png", "c.png", "linked/z.png", "self.png"], "links to other folders are followed"
    train = read(data)["train"]
    assert boxes_of(train.content) == expected
    assert [i["width"] for i in (train.content or {})["images"]] == [64, 50, 32, 5, 1], "a link to itself is no image"


def test_sizes_are_those_of_turned_images(tmp_path: Path) -> None:
    data = write_yolo(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "images/train/a.png").unlink()
    Image.new("RGB", (48, 64)).save(tmp_path / "images/train/a.jpg", exif=exif)
    train = read(data)["train"]
    image = (train.content or {})["images"][0]
    assert (image["width"], image["height"]) == (64, 48)
    assert boxes(train)[0] == [0, 0, 64, 48]


def test_names_that_stand_twice_are_said_by_the_check(data: Path) -> None:
    data.write_text(FIELDS.replace("ladle", "kite"))
    notes = coco_format.check(read(data)["train"].content or {}, "data.yaml").notes()
    assert "2 categories have the name kite: ids 0, 1" in notes


def test_random_rows_are_boxes_or_one_clear_line(tmp_path: Path) -> None:
    rng = random.Random(0)
    words = ["0", "1", "2", "2.0", ".5", "0.25", "1.005", "-0.005", "1e-9", "3", "-1", "nan", "inf", "1e400", "x", "é",
             "\x00", "0x1", "--1"]  # fmt: skip
    lines = [" ".join(rng.choices(words[: rng.choice((9, 9, 19))], k=rng.randrange(12))) for _ in range(4000)]
    data = write_yolo(tmp_path)
    label = tmp_path / "labels/train/a.txt"
    label.write_text("\n".join(lines))
    with pytest.raises(InputError) as caught:
        read(data)
    wrong = int(re.search(r"\((.*) more places", str(caught.value))[1].replace(",", "")) + 1  # type: ignore[index]
    sound = [line for line in lines if re.fullmatch(r"(0|1|2|2\.0)( (\.5|0\.25|[-0-9.e]+)){4}|"
                                                    r"(0|1|2|2\.0)(( [-0-9.e]+){2}){3,}", line)
             and "1e400" not in line and "--1" not in line]  # fmt: skip
    assert wrong == sum(bool(line) for line in lines) - len(sound) and len(sound) > 300
    label.write_text("\n".join(sound))
    for box in boxes(read(data)["train"]):
        assert all(math.isfinite(value) for value in box) and -97 < box[0] < 97 and -97 < box[1] < 97
