"""Pascal VOC: split lists and folders, corners, difficult objects, and what is malformed."""

import shutil
from pathlib import Path

import pytest
from little import LITTLE, boxes_of, image, write, write_voc, xml

from imbalance_bench.datasets import coco_format
from imbalance_bench.datasets.formats import voc
from imbalance_bench.datasets.split import Split
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.progress import Reporter


def read(root: Path) -> dict[str, Split]:
    return voc.read(root, Reporter())


def boxes(split: Split) -> list[list[float]]:
    assert split.content is not None
    return [annotation["bbox"] for annotation in split.content["annotations"]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_voc(tmp_path / "set")


def annotated(root: Path, objects: str, size: str = "<size><width>64</width><height>48</height></size>") -> Split:
    """The training split with these objects in the image a.png, which has 64 x 48 pixels."""
    text = f"<annotation><filename>a.png</filename>{size}{objects}</annotation>"
    write(root / "Annotations" / "a.xml", text)
    return read(root)["train"]


def thing(corners: str = "11 21 20 30", name: str = "<name>kite</name>", more: str = "") -> str:
    box = "".join(f"<{c}>{v}</{c}>" for c, v in zip(("xmin", "ymin", "xmax", "ymax"), corners.split(), strict=True))
    return f"<object>{name}<bndbox>{box}</bndbox>{more}</object>"


def test_the_years_of_a_devkit_are_joined(root: Path, tmp_path: Path) -> None:
    expected = {key: boxes_of(split.content) for key, split in read(root).items()}
    kit = tmp_path / "VOCdevkit"
    for year, stems in (("VOC2007", "ad"), ("VOC2012", "bce")):
        for stem in stems:
            for folder, ending in (("Annotations", "xml"), ("JPEGImages", "png")):
                (kit / year / folder).mkdir(parents=True, exist_ok=True)
                shutil.copy(root / folder / f"{stem}.{ending}", kit / year / folder)
        for split, images in LITTLE.items():
            write(kit / year / "ImageSets/Main" / f"{split}.txt", "\n".join(stem for stem in images if stem in stems))
    found = read(kit)
    assert {key: boxes_of(split.content) for key, split in found.items()} == expected
    assert [i["file_name"] for i in (found["train"].content or {})["images"]] == [
        "VOC2007/JPEGImages/a.png", "VOC2012/JPEGImages/b.png", "VOC2012/JPEGImages/c.png"
    ]  # fmt: skip


@pytest.mark.parametrize("folders", [("", ""), ("annotations", "images"), ("Annotations/x", "x")])
def test_a_folder_a_split(root: Path, tmp_path: Path, folders: tuple[str, str]) -> None:
    expected = {key: boxes_of(split.content) for key, split in read(root).items()}
    for split, images in LITTLE.items():
        place = tmp_path / "folders" / {"val": "valid"}.get(split, split)
        for stem in images:
            for folder, (origin, ending) in zip(folders, (("Annotations", "xml"), ("JPEGImages", "png")), strict=True):
                (place / folder).mkdir(parents=True, exist_ok=True)
                shutil.copy(root / origin / f"{stem}.{ending}", place / folder)
    found = read(tmp_path / "folders")
    assert {key: boxes_of(split.content) for key, split in found.items()} == expected
    for split in found.values():
        assert all((split.images / image["file_name"]).is_file() for image in (split.content or {})["images"])


def test_corners_count_from_one_and_are_inside(root: Path) -> None:
    split = annotated(root, thing("1 1 64 48") + thing("5 6 5 6") + thing("45.5 2 50.25 4") + thing("9 9 8 20"))
    assert boxes(split)[:4] == [[0, 0, 64, 48], [4, 5, 1, 1], [44.5, 1, 5.75, 3], [8, 8, 0, 12]]
    assert split.notes == ()
    split = annotated(root, thing("0 0 64 48") + thing("-9 3 5 70"))
    assert boxes(split)[:2] == [[0, 0, 64, 48], [-10, 2, 15, 68]]
    assert split.notes == (
        "1 boxes have a corner at 0, where VOC counts from 1: at the edge of the image: JPEGImages/a.png",
    )
    findings = coco_format.check(split.content or {}, "set")
    assert findings.outside == (2,), "what is beyond the image is a finding, as in COCO's format"


def test_difficult_objects_are_crowd_regions(root: Path) -> None:
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></part>"
    objects = [thing(more=f"<difficult>{value}</difficult>{part}") for value in ("1", "0", " 1\n", "Unspecified")]
    split = annotated(root, "".join(objects))
    content = split.content or {}
    assert [a["iscrowd"] for a in content["annotations"]][:4] == [1, 0, 1, 0]
    assert len(content["annotations"]) == 4 + 4 and [c["name"] for c in content["categories"]] == [
        "chair", "kite", "ladle"
    ], "the parts of an object are none"  # fmt: skip
    assert split.notes == ("2 objects are difficult: crowd regions, neither trained on nor counted: JPEGImages/a.png, "
                           "JPEGImages/a.png",)  # fmt: skip


def test_categories_are_those_of_both_splits(root: Path) -> None:
    write(root / "Annotations/d.xml", xml("d", 40, 40, [("zebra", 1, 1, 5, 5), ("ant", 1, 1, 5, 5)]))
    for split in read(root).values():
        categories = (split.content or {})["categories"]
        assert [(c["id"], c["name"]) for c in categories] == list(
            enumerate(["ant", "chair", "kite", "ladle", "zebra"], 1)
        )


@pytest.mark.parametrize("size", ["", "<size/>", "<size><width>0</width><height>48</height></size>",
                                  "<size><width>64</width><height>tall</height></size>"])  # fmt: skip
def test_a_size_that_is_not_stated_is_the_files(root: Path, size: str) -> None:
    split = annotated(root, thing(), size)
    assert ((split.content or {})["images"][0]["width"], (split.content or {})["images"][0]["height"]) == (64, 48)
    assert split.notes == (
        "1 annotation files state no size of the image, and that of its file is taken: JPEGImages/a.png",
    )


def test_what_is_odd_is_counted(root: Path) -> None:
    write(root / "ImageSets/Main/train.txt", "a  1\nb -1\n\nb\nnone\n../../etc/passwd\nc")
    assert set(read(root)["train"].notes) == {
        "1 images stand twice in train.txt, and are taken once: b",
        "2 images in train.txt have no annotation file, and are left out: none, ../../etc/passwd",
    }
    for split, images in LITTLE.items():
        for stem in images:
            (root / split / "more").mkdir(parents=True, exist_ok=True)
            shutil.copy(root / f"Annotations/{stem}.xml", root / split)
            shutil.copy(root / f"JPEGImages/{stem}.png", root / split)
    shutil.rmtree(root / "ImageSets")
    image(root / "train" / "new.png", 5, 5)
    image(root / "train" / "a.jpg", 64, 48)
    image(root / "train" / "b.jpg", 50, 80)
    shutil.copy(root / "train/c.xml", root / "train/more/c.xml")
    write(root / "train" / "b.xml", xml("b", 50, 80, [("kite", 1, 1, 5, 5)]).replace("b.png", "C:\\pictures\\b.bmp"))
    train = read(root)["train"]
    assert set(train.notes) == {
        "1 images have no annotation file, and are left out: train/new.png",
        "1 annotation files have several images of their name, and the first is taken: train/b.xml",
        "1 annotation files are of an image that has another one, and are left out: train/more/c.xml",
    }
    names = [i["file_name"] for i in (train.content or {})["images"]]
    assert names == ["train/a.png", "train/b.jpg", "train/c.png"], "a.xml states a.png"


def test_missing_images_are_named_where_they_should_be(root: Path) -> None:
    (root / "JPEGImages/a.png").unlink()
    write(root / "Annotations/b.xml", xml("b", 50, 80, []).replace("b.png", "../../b.png"))
    (root / "JPEGImages/b.png").unlink()
    content = read(root)["train"].content or {}
    assert [image["file_name"] for image in content["images"][:2]] == ["JPEGImages/a.png", "JPEGImages/b.png"]
    assert coco_format.missing_images(content, root) == {1: "JPEGImages/a.png", 2: "JPEGImages/b.png"}


LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "ha">'
    + "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    + "]><annotation><filename>&i;</filename></annotation>"
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, "has a DOCTYPE, expected none"),
        (LAUGHS.encode("utf-16"), "has a DOCTYPE|not readable as XML"),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>', "has a DOCTYPE, expected none"),
        ('<?xml version="1.0" encoding="nonsense"?><annotation/>', "unknown encoding"),
        ("", "not readable as XML"),
        ("<annotation>", "not readable as XML"),
        ("<annotation>&lol;</annotation>", "not readable as XML .undefined entity"),
        ("<html><body/></html>", "is <html>, expected <annotation>"),
        (f"<annotation>{thing(name='')}</annotation>", "object 1 has no name, expected that of a class"),
        (f"<annotation>{thing()}{thing(name='<name> </name>')}</annotation>", "object 2 has no name"),
        ("<annotation><object><name>a</name></object></annotation>",
         "object 1 .a.: field 'bndbox/xmin' is '', expected a number"),
        (f"<annotation>{thing('1 2 nan 4')}</annotation>", "field 'bndbox/xmax' is 'nan', expected a number"),
        (f"<annotation>{thing('1 2 3 1e999')}</annotation>", "field 'bndbox/ymax' is '1e999', expected a number"),
        (f"<annotation>{thing('1 left 3 4')}</annotation>", "object 1 .kite.: field 'bndbox/ymin' is 'left'"),
    ],
)  # fmt: skip
def test_malformed_xml(root: Path, text: str | bytes, message: str) -> None:
    path = root / "Annotations" / "b.xml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=rf"Annotations/b\.xml: .*({message})"):
        read(root)


def test_other_malformed_files_are_counted(root: Path) -> None:
    for stem in "abc":
        write(root / "Annotations" / f"{stem}.xml", "<")
    with pytest.raises(InputError, match=r"a\.xml: not readable .*\(2 more places are wrong: .*b\.xml: .*c\.xml"):
        read(root)


def test_no_splits(root: Path, tmp_path: Path) -> None:
    (root / "ImageSets/Main/val.txt").unlink()
    with pytest.raises(InputError, match=r"set: no validation split .*set some of the training images aside"):
        read(root)
    write(root / "ImageSets/Main/test.txt", "d\ne")
    (root / "ImageSets/Main/train.txt").rename(root / "ImageSets/Main/trainval.txt")
    assert read(root)["val"].notes == ("the validation split is 'test', as there is no 'val'",)
    write(root / "ImageSets/Main/trainval.txt", "\n")
    with pytest.raises(InputError, match=r"trainval\.txt: no annotation file, expected an XML file for each image"):
        read(root)
    shutil.rmtree(root / "ImageSets")
    with pytest.raises(InputError, match=r"neither ImageSets/Main/train\.txt, .*nor a folder 'train' is there"):
        read(root)
    with pytest.raises(InputError, match="no such folder, expected one in VOC's layout"):
        read(tmp_path / "nowhere")
    write_voc(root)
    shutil.rmtree(root / "Annotations")
    with pytest.raises(InputError, match="Annotations: not readable as a folder"):
        read(root)
