"""What COCO- and LVIS-format annotation files must hold, and what is found wrong in one."""

from __future__ import annotations

import itertools
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from imbalance_bench.categories import field_of, read_json
from imbalance_bench.errors import InputError

TOLERANCE = 1.0
"""Pixels that a box may reach beyond its image: annotation tools round."""


@dataclass(frozen=True)
class Findings:
    """A checked annotation file in numbers, and what is odd in it but does no harm.

    Attributes:
        images: how many it lists.
        annotations: how many boxes, crowd regions included.
        degenerate: ids of annotations without width or height; training drops them.
        outside: ids of annotations whose box reaches beyond its image by more than a pixel; they are used as they are.
    """

    images: int
    annotations: int
    degenerate: tuple[int, ...]
    outside: tuple[int, ...]


def image_path(image: Mapping[str, Any], source: str) -> str:
    """Path of an image below the image folder.

    It is ``file_name``; for LVIS v1, which has none, the last two parts of ``coco_url``; for LVIS v0.5, whose file
    names are those of COCO 2014, the last part of ``coco_url``, which is COCO 2017's.

    Raises:
        InputError: it has neither, or one that is no text.
    """
    url = image.get("coco_url")
    if "file_name" not in image and url is None:
        raise InputError(f"{source}: field 'images' has an image without 'file_name' or 'coco_url'")
    if "file_name" not in image:
        return "/".join(field_of(image, "coco_url", str, source).split("/")[-2:])
    name: str = field_of(image, "file_name", str, source)
    # Only LVIS lists negatives; COCO 2014's own files do have such names on disk.
    if name.startswith("COCO_") and "neg_category_ids" in image:
        return name.rpartition("_")[2]
    return name


def is_federated(annotations: str | os.PathLike[str] | Mapping[str, Any]) -> bool:
    """Whether annotations say which categories their images were searched for (LVIS does, COCO does not)."""
    content = annotations if isinstance(annotations, Mapping) else read_json(annotations)
    images = content.get("images")
    return isinstance(images, list) and any(isinstance(i, Mapping) and "neg_category_ids" in i for i in images)


def check(content: Mapping[str, Any], source: str) -> Findings:
    """Check every field that this suite reads.

    Args:
        content: of an annotation file.
        source: its path, for messages.

    Raises:
        InputError: a missing field, one of a wrong type, a repeated id, an unknown image or category, a box that is
            not finite, a mask whose size is not its image's, or nothing annotated at all.
    """
    category_ids: set[int] = set()
    for number, category in _records(content, "categories", source):
        where = f"{source}: categories[{number}]"
        category_ids.add(_new_id(category, category_ids, where))
        field_of(category, "name", str, where)
    sizes: dict[int, tuple[int, int]] = {}
    for number, image in _records(content, "images", source):
        where = f"{source}: images[{number}]"
        image_id = _new_id(image, sizes, where)
        sizes[image_id] = _integer(image, "height", where), _integer(image, "width", where)
        if min(sizes[image_id]) <= 0:
            raise InputError(f"{where}: field 'height' or 'width' is not positive")
        if not image_path(image, where):
            raise InputError(f"{where}: field 'file_name' is empty, expected a path below the image folder")
        for field in ("neg_category_ids", "not_exhaustive_category_ids"):
            # A set of category ids as a list may also hold unhashable values.
            if field in image and any(
                not isinstance(c, int) or c not in category_ids for c in field_of(image, field, list, where)
            ):
                raise InputError(f"{where}: field '{field}' has an entry that is not the id of a category")
    known: set[int] = set()
    degenerate, outside = [], []
    for number, annotation in _records(content, "annotations", source):
        where = f"{source}: annotations[{number}]"
        annotation_id = _new_id(annotation, known, where)
        known.add(annotation_id)
        for field, ids in (("image_id", sizes), ("category_id", category_ids)):
            if _integer(annotation, field, where) not in ids:
                raise InputError(f"{where}: field '{field}' is {annotation[field]}, which the file does not list")
        height, width = sizes[annotation["image_id"]]
        x, y, w, h = _box(annotation, where)
        if w <= 0 or h <= 0:
            degenerate.append(annotation_id)
        elif min(x, y) < -TOLERANCE or x + w > width + TOLERANCE or y + h > height + TOLERANCE:
            outside.append(annotation_id)
        if "area" in annotation and not _is_number(annotation["area"]):
            raise InputError(f"{where}: field 'area' is {annotation['area']!r:.40}, expected a finite number")
        if annotation.get("iscrowd", 0) not in (0, 1):
            raise InputError(f"{where}: field 'iscrowd' is {annotation['iscrowd']!r:.40}, expected 0 or 1")
        _check_mask(annotation.get("segmentation"), height, width, where)
    if not objects(content):
        raise InputError(f"{source}: field 'annotations' has crowd regions only, expected at least one object")
    info = content.get("info")
    edges = info.get("bin_edges") if isinstance(info, Mapping) else None
    if edges is not None and not (isinstance(edges, list) and edges and are_bin_edges(edges)):
        raise InputError(
            f"{source}: field 'info.bin_edges' is {edges!r:.40}, expected whole numbers that ascend from 1"
        )
    return Findings(len(sizes), len(known), tuple(degenerate), tuple(outside))


def objects(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The annotations that are not crowd regions."""
    return [annotation for annotation in content["annotations"] if not annotation.get("iscrowd")]


def are_bin_edges(edges: Sequence[Any]) -> bool:
    """Whether these can be the lower bounds of bins 2, 3, ...: whole numbers that ascend, the first at least 1."""
    whole = all(isinstance(edge, int) and not isinstance(edge, bool) for edge in edges)
    return whole and all(low < high for low, high in itertools.pairwise([0, *edges]))


def check_same_categories(train: Mapping[str, Any], val: Mapping[str, Any], source: str) -> None:
    """Validation must have the ids and names of training, in any order.

    Args:
        train: content, or the categories alone.
        val: the same.
        source: path of ``val``, for the message.

    Raises:
        InputError: they differ; the message holds the first difference.
    """
    ours, theirs = (
        {field_of(c, "id", int, source): c.get("name") for c in field_of(content, "categories", list, source)}
        for content in (train, val)
    )
    for category_id in sorted(ours.keys() | theirs.keys()):
        if category_id not in ours or category_id not in theirs or ours[category_id] != theirs[category_id]:
            names = (repr(names[category_id]) if category_id in names else "absent" for names in (theirs, ours))
            raise InputError(
                "{}: field 'categories': id {} is {}, expected {} as in the training annotations".format(
                    source, category_id, *names
                )
            )


def missing_images(content: Mapping[str, Any], folder: Path) -> dict[int, str]:
    """Path of each image that is not below ``folder``, by image id."""
    paths = {image["id"]: image_path(image, "images") for image in content["images"]}
    absent = absent_files(paths.values(), folder)
    return {image_id: str(PurePosixPath(path)) for image_id, path in paths.items() if path in absent}


def absent_files(paths: Iterable[str], folder: Path) -> set[str]:
    """Those of some paths below a folder that are not there.

    Folders are listed once: asking for each of COCO's 118,287 files takes minutes on a network's disk.
    """
    present: dict[str, Collection[str]] = {}
    absent = set()
    for path in paths:
        parent, name = os.path.split(path)
        if parent not in present:
            try:
                present[parent] = set(os.listdir(folder / parent))
            except (OSError, ValueError):  # absent, no folder, or a name that no file can have
                present[parent] = ()
        if name not in present[parent]:
            absent.add(path)
    return absent


def without_images(content: Mapping[str, Any], image_ids: Collection[int]) -> dict[str, Any]:
    """The content without some images and what is annotated in them."""
    return {
        **content,
        "images": [image for image in content["images"] if image["id"] not in image_ids],
        "annotations": [a for a in content["annotations"] if a["image_id"] not in image_ids],
    }


def _records(content: Mapping[str, Any], field: str, source: str) -> enumerate[Any]:
    records = field_of(content, field, list, source)
    if not records:
        raise InputError(f"{source}: field '{field}' is empty, expected at least one entry")
    return enumerate(records)


def _new_id(record: Any, known: Collection[int], where: str) -> int:
    value = _integer(record, "id", where)
    if value in known:
        raise InputError(f"{where}: field 'id' is {value}, which an entry before has too")
    return value


def _integer(record: Any, field: str, where: str) -> int:
    value: int = field_of(record, field, int, where)
    if abs(value) >= 2**63:
        raise InputError(f"{where}: field '{field}' does not fit 64 bits")
    return value


def _is_number(value: Any) -> bool:
    """A finite number of a size that pixels can have (NaN compares false)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12


def _box(annotation: Mapping[str, Any], where: str) -> list[float]:
    box: list[float] = field_of(annotation, "bbox", list, where)
    if len(box) != 4 or not all(map(_is_number, box)):
        raise InputError(f"{where}: field 'bbox' is {box!r:.60}, expected four finite numbers (x, y, width, height)")
    return box


def _check_mask(mask: Any, height: int, width: int, where: str) -> None:
    """None, polygons, or a run-length encoding of the image's size; a compressed one is not unpacked.

    Raises:
        InputError: anything else.
    """
    if mask is None:
        return
    where = f"{where}: field 'segmentation'"
    if isinstance(mask, Mapping):
        counts = mask.get("counts")
        if mask.get("size") != [height, width]:
            raise InputError(f"{where} has size {mask.get('size')!r:.40}, expected its image's [{height}, {width}]")
        if isinstance(counts, str):
            return
        if not isinstance(counts, list) or not all(_is_number(c) and c >= 0 for c in counts):
            raise InputError(f"{where} has counts that are neither text nor a list of lengths")
        if sum(counts) != height * width:
            raise InputError(f"{where} has counts of {sum(counts)} pixels, expected {height * width} as its image has")
    elif not isinstance(mask, list):
        raise InputError(f"{where} is {type(mask).__name__}, expected polygons or a run-length encoding")
    elif not all(isinstance(p, list) and len(p) >= 6 and len(p) % 2 == 0 and all(map(_is_number, p)) for p in mask):
        raise InputError(f"{where} has a polygon that is not a list of x, y, x, y, ... of at least three points")
