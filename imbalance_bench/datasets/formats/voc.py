"""Pascal VOC: an XML file for each image, with its boxes.

Either ``ImageSets/Main/train.txt`` and ``val.txt`` list the images of the splits, with ``Annotations`` and
``JPEGImages`` beside ``ImageSets`` (below the root, or below its folders ``VOC2007``, ``VOC2012``, ..., which are
joined); or there is a folder for each split, ``train`` and ``val``, with XML files and images anywhere in it, as
Roboflow and labelImg write them. An XML file belongs to the image of its name. An image without one may never have been
looked at, and is left out.

**Corners.** VOC counts pixels from 1, and the last one is part of the box: around a whole image of 500 pixels xmin is 1
and xmax 500. So x = xmin - 1 and w = xmax - xmin + 1. A 0, which only tools that count from 0 write, is taken for the
edge of the image, and counted.

**Difficult objects** become ``iscrowd``. VOC's evaluation counts them neither as found nor as missed, and mmdet neither
trains on them nor takes them for background, which is what ``iscrowd`` says. (COCO's rules match a detection to such a
box by the share of it that is inside, VOC's by IoU.)

**Categories** are the names in both splits in alphabetical order, which is VOC's own; ids count from 1.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from imbalance_bench.datasets.formats.conversion import (
    IMAGES,
    SPLITS,
    VALIDATION,
    Oddities,
    as_text,
    below,
    coco_content,
    files_below,
    read_bytes,
    refuse,
    sizes,
    stem,
    validation_name,
)
from imbalance_bench.datasets.formats.voc_xml import Annotation, parse
from imbalance_bench.datasets.split import Split
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.progress import Reporter
from imbalance_bench.runtime.waiting import in_threads

TRAINING = ("train", "trainval")
MAIN = Path("ImageSets", "Main")


def read(root: Path, reporter: Reporter, splits: Sequence[str] = SPLITS) -> dict[str, Split]:
    """Read splits of a folder. A folder of XML files alone is whichever split is asked for.

    Raises:
        InputError: a split is missing, or an XML file is malformed.
    """
    root = Path(os.path.abspath(root))
    if not root.is_dir():
        raise InputError(f"{root}: no such folder, expected one in VOC's layout")
    years = [folder for folder in (root, *sorted(root.iterdir())) if (folder / MAIN).is_dir()]

    def places(name: str) -> list[Path]:
        """Return the lists, or else the folder, of the split ``name``."""
        lists = [folder / MAIN / f"{name}.txt" for folder in years]
        return (
            [path for path in lists if path.is_file()] if years else [path for path in (root / name,) if path.is_dir()]
        )

    names: dict[str, str] = {}
    notes: tuple[str, ...] = ()
    if len(splits) == 1 and not years and not any(map(places, (*TRAINING, *VALIDATION))):
        names = {splits[0]: "."}
    else:
        if "train" in splits:
            train = next((name for name in TRAINING if places(name)), None)
            if train is None:
                raise InputError(
                    f"{root}: neither {MAIN}/train.txt, with the name of an image on each line, nor a folder 'train' "
                    "is there, and so for 'val'"
                )
            names["train"] = train
        if "val" in splits:
            names["val"], notes = validation_name([name for name in VALIDATION if places(name)], str(root))
    odd = {key: Oddities() for key in names}
    found = {
        key: [pair for place in places(name) for pair in _pairs(place, root, odd[key], reporter)]
        for key, name in names.items()
    }
    classes = sorted(
        {thing.name for pairs in found.values() for _, annotation in pairs for thing in annotation.objects}
    )
    contents = {key: _content(pairs, classes, root, odd[key]) for key, pairs in found.items()}
    remarks = {"train": (), "val": notes}
    return {key: Split(root, root, contents[key], (*remarks[key], *odd[key].notes())) for key in names}


def _pairs(place: Path, root: Path, odd: Oddities, reporter: Reporter) -> list[tuple[str, Annotation]]:
    """Read the XML files of a split's folder, or of its list; return each with the path of its image.

    Raises:
        InputError: there are none, or one is malformed.
    """
    if place.is_dir():
        xmls, images, home = files_below(place, (".xml",)), files_below(place, IMAGES), None
        names = {stem(path) for path in xmls}
        for path in images:
            if stem(path) not in names:
                odd.add("images have no annotation file, and are left out", below(path, str(root)))
    else:
        year = place.parents[2]
        xmls = _listed(place, files_below(year / "Annotations", (".xml",)), odd)
        home = str(year / "JPEGImages")
        images = files_below(Path(home), IMAGES)
    if not xmls:
        raise InputError(f"{place}: no annotation file, expected an XML file for each image")
    with reporter.task(f"reading {below(str(place), str(root))}", len(xmls)) as advance:
        parsed = in_threads(parse, xmls, advance)
    refuse([result for result in parsed if isinstance(result, str)])
    annotations = [result for result in parsed if isinstance(result, Annotation)]
    of_name: defaultdict[str, list[str]] = defaultdict(list)
    for path in images:
        of_name[stem(path)].append(path)
    pairs: dict[str, Annotation] = {}
    for xml, annotation in zip(xmls, annotations, strict=True):
        there = _images(xml, annotation, of_name)
        if len(there) > 1:
            odd.add("annotation files have several images of their name, and the first is taken", below(xml, str(root)))
        missing = os.path.join(home or os.path.dirname(xml), annotation.file_name or f"{stem(xml)}.jpg")
        image = there[0] if there else missing
        if image in pairs:
            odd.add("annotation files are of an image that has another one, and are left out", below(xml, str(root)))
        pairs.setdefault(image, annotation)
    return list(pairs.items())


def _listed(path: Path, xmls: Sequence[str], odd: Oddities) -> list[str]:
    """Return the XML files of the images in a list, each once."""
    folder = str(path.parents[2] / "Annotations")
    of_name = {os.path.splitext(below(xml, folder))[0]: xml for xml in xmls}
    listed: dict[str, None] = {}
    for line in as_text(read_bytes(str(path)) or b"", str(path)).splitlines():
        # In the lists of a class a number follows, which says whether the image holds it.
        name = re.sub(r"\s+-?[01]$", "", line.strip())
        if not name:
            continue
        if name not in of_name:
            odd.add(f"images in {path.name} have no annotation file, and are left out", name)
        elif of_name[name] in listed:
            odd.add(f"images stand twice in {path.name}, and are taken once", name)
        else:
            listed[of_name[name]] = None
    return list(listed)


def _images(xml: str, annotation: Annotation, of_name: Mapping[str, list[str]]) -> list[str]:
    """Return the paths of the images of an XML file's name, or else of the name that it states.

    Of several only those in its folder, if there are any, and of these the one whose whole name it states.
    """
    there = of_name.get(stem(xml)) or of_name.get(stem(annotation.file_name), [])
    there = [path for path in there if os.path.dirname(path) == os.path.dirname(xml)] or there
    return [path for path in there if os.path.basename(path) == annotation.file_name] or there


def _content(
    pairs: Sequence[tuple[str, Annotation]], names: Sequence[str], root: Path, odd: Oddities
) -> dict[str, Any]:
    """Return COCO-format content, and add to what is odd."""
    without = [path for path, annotation in pairs if annotation.size is None]
    measured = dict(zip(without, sizes(without), strict=True))
    ids = {name: number for number, name in enumerate(names, start=1)}
    images, boxes = [], []
    for number, (path, annotation) in enumerate(pairs, start=1):
        name = below(path, str(root))
        width, height = annotation.size or measured[path]
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        if annotation.size is None:
            odd.add("annotation files state no size of the image, and that of its file is taken", name)
        for thing in annotation.objects:
            if thing.difficult:
                odd.add("objects are difficult: crowd regions, neither trained on nor counted", name)
            if thing.from_zero:
                odd.add("boxes have a corner at 0, where VOC counts from 1: at the edge of the image", name)
            boxes.append((number, ids[thing.name], *thing.box, thing.difficult))
    return coco_content(dict(enumerate(names, start=1)), images, boxes)
