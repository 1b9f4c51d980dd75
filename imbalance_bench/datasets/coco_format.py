"""Checks of COCO- and LVIS-format annotation files: required fields, and findings that are reported."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from imbalance_bench.bins import are_bin_edges, fitting_edges
from imbalance_bench.categories import CategoryTable, field_of, is_object, read_json
from imbalance_bench.datasets.placeholder import described, placeholder_of
from imbalance_bench.runtime import json_values
from imbalance_bench.runtime.errors import InputError, first

TOLERANCE = 1.0
"""Pixels that a box may reach beyond its image: annotation tools round."""


@dataclass(frozen=True)
class Findings:
    """The counts of a checked annotation file, and what is unusual in it but harmless.

    Attributes:
        images: number of images in the file.
        annotations: number of boxes, crowd regions included.
        degenerate: ids of annotations without width or height; training drops them.
        outside: ids of annotations whose box reaches beyond its image by more than a pixel; they are used unchanged.
        odd_masks: ids of annotations with an unreadable mask; this is harmless if only boxes are used.
        normalised: whether all boxes lie within one pixel.
        categories: what is unusual about ids and names of categories, one line each.
    """

    images: int
    annotations: int
    degenerate: tuple[int, ...]
    outside: tuple[int, ...]
    odd_masks: tuple[int, ...] = ()
    normalised: bool = False
    categories: tuple[str, ...] = ()

    def notes(self) -> list[str]:
        """Describe each unusual finding in one line: what, how often, and the first places."""
        found = {
            "boxes have no width or height, or negative ones, and are not trained on": self.degenerate,
            "boxes reach beyond their image": self.outside,
            "masks are neither polygons of at least three points nor a run-length encoding of their image's size, and "
            "only boxes can be used": self.odd_masks,
        }
        lines = [f"{len(ids):,} {what}: annotations {first(ids)}" for what, ids in found.items() if ids]
        if self.normalised:
            many = f"all {self.annotations:,} boxes lie within 1 x 1 pixel"
            lines.append(f"{many}: they seem to be normalised, and pixels are expected")
        return [*self.categories, *lines]


def image_path(image: Mapping[str, Any], source: str) -> str:
    """Return the path of an image, relative to the image folder or absolute.

    The path is ``file_name``. LVIS v1 has no ``file_name``: the last two parts of ``coco_url`` are used. LVIS v0.5 has
    the file names of COCO 2014: the last part of ``coco_url`` is used, which is the name in COCO 2017.

    Raises:
        InputError: the image has neither field, or the field is not a string.
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


def stuff_map_path(image: Mapping[str, Any], source: str) -> str:
    """Return the path of an image's stuff map below the folder of stuff maps: the image's path with ``.png``.

    For an absolute image path it is the name alone."""
    path = Path(image_path(image, source)).with_suffix(".png")
    return path.name if path.is_absolute() else str(path)


def is_federated(annotations: str | os.PathLike[str] | Mapping[str, Any]) -> bool:
    """Return whether annotations list the categories that each image was searched for (as LVIS does, not COCO)."""
    content = annotations if isinstance(annotations, Mapping) else read_json(annotations)
    images = content.get("images")
    return isinstance(images, list) and any(isinstance(i, Mapping) and "neg_category_ids" in i for i in images)


def check(content: Mapping[str, Any], source: str, masks: bool = False) -> Findings:
    """Check every field of an annotation file that this suite reads.

    Args:
        content: content of an annotation file.
        source: path of the file, for messages.
        masks: whether masks are used; then each annotation needs a valid one.

    Raises:
        InputError: a missing field, one of a wrong type, a repeated id, an unknown image or category, a box that is
            not finite, a mask that is needed but invalid or absent, or no object with an area at all.
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
        sizes[image_id] = field_of(image, "height", int, where), field_of(image, "width", int, where)
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
    degenerate, outside, odd_masks = [], [], []
    reach = 0.0
    for number, annotation in _records(content, "annotations", source):
        where = f"{source}: annotations[{number}]"
        annotation_id = _new_id(annotation, known, where)
        known.add(annotation_id)
        for field, ids in (("image_id", sizes), ("category_id", category_ids)):
            if field_of(annotation, field, int, where) not in ids:
                raise InputError(f"{where}: field '{field}' is {annotation[field]}, which the file does not list")
        height, width = sizes[annotation["image_id"]]
        x, y, w, h = _box(annotation, where)
        reach = max(reach, x + w, y + h, -x, -y)
        if w <= 0 or h <= 0:
            degenerate.append(annotation_id)
        elif reaches_beyond((x, y, w, h), height, width):
            outside.append(annotation_id)
        if "area" in annotation and json_values.coordinate(annotation["area"]) is None:
            raise InputError(f"{where}: field 'area' is {annotation['area']!r:.40}, expected a finite number")
        if annotation.get("iscrowd", 0) not in (0, 1):
            raise InputError(f"{where}: field 'iscrowd' is {annotation['iscrowd']!r:.40}, expected 0 or 1")
        mask = annotation.get("segmentation")
        if odd := mask_problem(mask, height, width):
            odd_masks.append(annotation_id)
        if masks and (odd or not mask):
            raise InputError(f"{where}: field 'segmentation' {odd or 'is missing or empty, and masks are used'}")
    if not objects(content):
        crowds = sum(bool(annotation.get("iscrowd")) for annotation in content["annotations"])
        boxes = f"{len(known) - crowds:,} boxes of which none has an area (width and height above 0)"
        raise InputError(
            f"{source}: field 'annotations' has {'crowd regions only' if crowds == len(known) else boxes}, expected at "
            "least one object"
        )
    info = content.get("info")
    edges = info.get("bin_edges") if isinstance(info, Mapping) else None
    if edges is not None and not (isinstance(edges, list) and edges and are_bin_edges(edges)):
        raise InputError(
            f"{source}: field 'info.bin_edges' is {edges!r:.40}, expected whole numbers that ascend from 1"
        )
    return Findings(
        images=len(sizes),
        annotations=len(known),
        degenerate=tuple(degenerate),
        outside=tuple(outside),
        odd_masks=tuple(odd_masks),
        normalised=reach <= 1,
        categories=tuple(_odd_categories(content)),
    )


def with_fitting_bins(
    table: CategoryTable, content: Mapping[str, Any], asked: Sequence[int] | None
) -> tuple[CategoryTable, list[str]]:
    """Give a category table bins that fit its counts, unless the edges are asked for or the file states them.

    Args:
        table: categories of the training annotations.
        content: the training annotations, whose ``info.bin_edges`` states edges.
        asked: edges that were asked for.

    Returns:
        The table, and a remark if edges were chosen.
    """
    info = content.get("info")
    if asked or (isinstance(info, Mapping) and info.get("bin_edges")):
        return table, []
    edges, note = fitting_edges(table.instance_counts)
    return replace(table, bin_edges=edges), [note] if note else []


def objects(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the annotations that are trained on and counted: boxes with an area that are not crowd regions."""
    return [annotation for annotation in content["annotations"] if is_object(annotation)]


def reaches_beyond(box: Sequence[float], height: int, width: int) -> bool:
    """Return whether a box (x, y, width, height) reaches beyond its image by more than a pixel."""
    x, y, w, h = box
    return min(x, y) < -TOLERANCE or x + w > width + TOLERANCE or y + h > height + TOLERANCE


def _odd_categories(content: Mapping[str, Any]) -> list[str]:
    """Describe what is unusual but harmless about ids and names of categories, one line each."""
    named = {category["id"]: category["name"] for category in content["categories"]}
    lines = [f"a category has the id 0: {first([named[0]])}"] if 0 in named else []
    same: dict[str, list[int]] = {}
    for category_id, name in named.items():
        same.setdefault(" ".join(name.split()), []).append(category_id)
    for name, ids in same.items():
        if len(ids) > 1 and name:
            alike = "have the name" if len({named[i] for i in ids}) == 1 else "differ by white space alone in the name"
            lines.append(f"{len(ids)} categories {alike} {first([name])}: ids {first(ids)}")
    odd = {
        "have an empty name": [i for i, name in named.items() if not name.strip()],
        "have a name of several lines or with control characters": [
            i for i, name in named.items() if name.strip() and not name.isprintable()
        ],
    }
    lines += [f"{len(ids)} categories {what}: ids {first(ids)}" for what, ids in odd.items() if ids]
    if name := placeholder_of(content):
        lines.append(f"1 category is {described(name)}; it stays a class, unless both files leave it out")
    return lines


def check_same_categories(train: Mapping[str, Any], val: Mapping[str, Any], source: str) -> list[str]:
    """Check that the validation categories have the ids and names of training, in any order; some may be missing.

    Args:
        train: content of the training file, or its categories alone.
        val: the same for validation.
        source: path of ``val``, for the message.

    Returns:
        Names of the categories missing in validation; they have no instance there and so no AP.

    Raises:
        InputError: the categories differ; the message holds the first difference.
    """
    ours, theirs = (
        {field_of(c, "id", int, source): c.get("name") for c in field_of(content, "categories", list, source)}
        for content in (train, val)
    )
    for category_id in sorted(theirs):
        name = theirs[category_id]
        if category_id not in ours or name != ours[category_id]:
            expected = repr(ours[category_id]) if category_id in ours else "absent"
            raise InputError(
                f"{source}: field 'categories': id {category_id} is {name!r}, expected {expected} as in the training "
                "annotations"
            )
    return [str(ours[category_id]) for category_id in sorted(ours.keys() - theirs.keys())]


def missing_images(content: Mapping[str, Any], folder: Path) -> dict[int, str]:
    """Return the path of each missing image, by image id; relative paths are looked for below ``folder``."""
    paths = {image["id"]: image_path(image, "images") for image in content["images"]}
    absent = absent_files(paths.values(), folder)
    return {image_id: path for image_id, path in paths.items() if path in absent}


def guess_missing(path: str, folder: Path) -> str:
    """Name, for an error message, an existing file that may be meant by a missing path; empty if there is none.

    Its name is the same except for folder, suffix, case, white space or Unicode form.
    """

    def plain(name: str) -> str:
        name = unicodedata.normalize("NFC", name.replace("\\", "/").rpartition("/")[2])
        return os.path.splitext(name.strip().casefold())[0]

    for place in dict.fromkeys([(folder / path).parent, folder]):
        try:
            names = sorted(os.listdir(place))
        except (OSError, ValueError):
            continue
        for name in names:
            if plain(name) == plain(path):
                forms = {name, os.path.basename(path)}
                same = len(forms) > len({unicodedata.normalize("NFC", form) for form in forms})
                return f" ({first([place / name])} is there{', the name in another Unicode form' if same else ''})"
    return ""


def absent_files(paths: Iterable[str], folder: Path) -> set[str]:
    """Return the paths that do not exist below a folder.

    Each folder is listed once: a query for each of COCO's 118,287 files takes minutes on a network disk.
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


def missing_files(paths: Collection[str], folder: Path, what: str) -> str:
    """Describe how many files are missing below a folder, with the first few names; empty if none is missing."""
    absent = sorted(absent_files(paths, folder))
    return f"{len(absent):,} of {len(paths):,} {what} are missing: {first(absent)}" if absent else ""


def without_images(content: Mapping[str, Any], image_ids: Collection[int]) -> dict[str, Any]:
    """Return annotation content without the given images and their annotations."""
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
    value: int = field_of(record, "id", int, where)
    if value in known:
        raise InputError(f"{where}: field 'id' is {value}, which an entry before has too")
    return value


def _box(annotation: Mapping[str, Any], where: str) -> list[float]:
    stated: list[float] = field_of(annotation, "bbox", list, where)
    if json_values.box(stated) is None:
        raise InputError(f"{where}: field 'bbox' is {stated!r:.60}, expected four finite numbers (x, y, width, height)")
    return stated


def _coordinates(values: list[Any]) -> bool:
    return all(json_values.coordinate(value) is not None for value in values)


def mask_problem(mask: Any, height: int, width: int) -> str:
    """Explain why a mask is invalid; empty if it is valid.

    A valid mask is absent, polygons, or a run-length encoding of the image's size. Compressed encodings are not
    unpacked.
    """
    if mask is None or mask == []:
        return ""
    if isinstance(mask, Mapping):
        counts = mask.get("counts")
        if mask.get("size") != [height, width]:
            return f"has size {mask.get('size')!r:.40}, expected its image's [{height}, {width}]"
        if isinstance(counts, str):
            return ""
        if not isinstance(counts, list) or not all(json_values.coordinate(c) is not None and c >= 0 for c in counts):
            return "has counts that are neither text nor a list of lengths"
        if sum(counts) != height * width:
            return f"has counts of {sum(counts)} pixels, expected {height * width} as its image has"
    elif not isinstance(mask, list):
        return f"is {type(mask).__name__}, expected polygons or a run-length encoding"
    elif not all(isinstance(p, list) and len(p) >= 6 and len(p) % 2 == 0 and _coordinates(p) for p in mask):
        return "has a polygon that is not a list of x, y, x, y, ... of at least three points"
    return ""
