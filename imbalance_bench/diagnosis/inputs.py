"""Inputs of a diagnosis: a detector, its checkpoint and annotations, checked against each other.

Categories get new ids, 1..C in the order of the checkpoint's labels, and only existing images are listed. Later steps
read only the files that are written here. The training images are split: the tried classifiers are fitted to
``fitting``, and hyper-parameters are chosen on ``held_out``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sized
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from imbalance_bench.categories import CategoryTable, read_json
from imbalance_bench.checkpoints.label_order import class_names, label_order, labels_by_id
from imbalance_bench.datasets import coco_format, images
from imbalance_bench.datasets.held_out import hold_out
from imbalance_bench.datasets.registry import DataSet
from imbalance_bench.detectors import frameworks
from imbalance_bench.detectors.port import UserDetector
from imbalance_bench.runtime.equality import ByValue
from imbalance_bench.runtime.errors import InputError, first
from imbalance_bench.runtime.files import json_text
from imbalance_bench.runtime.progress import Advance, Reporter

KEPT = 10
"""Number of images of each class that are kept if only some of the images are used."""
LONGEST = 200
"""Characters of a description of images that are shown."""


@dataclass(frozen=True)
class Given:
    """The inputs that the user gives.

    Attributes:
        detector: what describes the detector: of mmdet its configuration, else what ``frameworks.open_detector`` takes.
        checkpoint: weights of the detector.
        train_annotations: annotations of the training images, COCO or LVIS format.
        val_annotations: annotations of the validation images, in the same format.
        images: folder that file names of training images are relative to.
        val_images: folder that file names of validation images are relative to.
        max_images: at most so many images of each split; None: all.
        bin_edges: edges by train instances; None: from the file, LVIS's, or, if a bin is empty, chosen from the counts.
        skip_missing: skip images that are missing, cannot be read, or do not have the annotated size.
        seed: seed of all random choices.
        verify_images: decode every image; otherwise all headers are read and only a sample is decoded.
        label_order: source of the order of labels: the checkpoint's class ``names``, or the annotations' ``file``.
        framework: of ``frameworks.FRAMEWORKS``.
    """

    detector: str
    checkpoint: Path
    train_annotations: Path
    val_annotations: Path
    images: Path
    val_images: Path
    max_images: int | None = None
    bin_edges: tuple[int, ...] | None = None
    skip_missing: bool = False
    seed: int = 0
    verify_images: bool = False
    label_order: str = "names"
    framework: str = "mmdet"


@dataclass(frozen=True, eq=False)
class Inputs(ByValue):
    """The checked inputs of a diagnosis.

    Attributes:
        detector: the user's detector.
        tuning: data set to fit classifiers to a part of the training images, and measure them on the held-out part.
        final: data set to fit classifiers also to the held-out part, and measure them on the validation images.
        category_ids: (C,) the user's category ids, in label order.
        notes: remarks and decisions, one per line.
    """

    detector: UserDetector
    tuning: DataSet
    final: DataSet
    category_ids: np.ndarray
    notes: tuple[str, ...]


def check(given: Given, folder: Path, reporter: Reporter | None = None) -> tuple[Inputs, dict[Path, str]]:
    """Check all inputs of a diagnosis.

    Args:
        given: the inputs that the user gives.
        folder: folder for the files that are made from the inputs.
        reporter: shows progress.

    Returns:
        The checked inputs, and the content of files in ``folder`` that they refer to; the caller writes these files.

    Raises:
        InputError: an input is missing, wrong, or does not fit the others.
    """
    detector = frameworks.open_detector(given.framework, given.detector, given.checkpoint)
    meta = detector.check_weights(given.checkpoint)
    splits, notes = {}, []
    for name, path, place in (
        ("training", given.train_annotations, given.images),
        ("validation", given.val_annotations, given.val_images),
    ):
        with (reporter or Reporter()).task(f"checking {name} annotations and images", 1) as advance:
            splits[name], said = _read(path, place, name, given, detector.reader, advance)
        notes += [f"{name}: {note}" for note in said]
    train, val = splits["training"], splits["validation"]
    coco_format.check_same_categories(train, val, str(given.val_annotations))
    notes += detector.notes
    ids, said = _category_ids(train, meta, detector, given)
    notes += said
    train, val, full = (_renumbered(split, ids) for split in (train, val, read_json(given.train_annotations)))
    table = CategoryTable.from_annotations(full, given.bin_edges)
    table, said = coco_format.with_fitting_bins(table, train, given.bin_edges)
    notes += said
    rng = np.random.default_rng(given.seed)
    train, val = _some(train, given.max_images, rng, KEPT), _some(val, given.max_images, rng, 0)
    fitting, held_out = hold_out(train, rng)
    notes.append(
        f"{len(train['images']):,} training images, {len(held_out['images']):,} of them held out while settings are "
        f"chosen; {len(val['images']):,} validation images"
    )
    if max(len(full["images"]) - len(train["images"]), 0):
        notes.append(f"bins and counts are those of all {len(full['images']):,} training images of the file")
    silent = sorted(set(range(1, table.num_classes + 1)) - {a["category_id"] for a in coco_format.objects(val)})
    if silent:
        names = [table.names[number - 1] for number in silent]
        notes.append(f"{_classes(silent)} no validation instance, so no AP: {first(names, 5)}")
    absent = [name for name, count in zip(table.names, table.instance_counts, strict=True) if not count]
    if absent:
        notes.append(f"{_classes(absent)} no training instance: {first(absent, 5)}")

    files = {"fitting": fitting, "held_out": held_out, "val": val, "categories": _counts_only(table)}
    written = {folder / f"{name}.json": json_text(part, compact=True) for name, part in files.items()}
    common: dict[str, Any] = {
        "train_images": given.images.absolute(),
        "lvis_style": coco_format.is_federated(val),
        "attribution": _description(val),
        "counted": folder / "categories.json",
    }
    tuning = DataSet(
        name="tuning", description="held-out training images", train_annotations=folder / "fitting.json",
        val_annotations=folder / "held_out.json", val_images=given.images.absolute(), **common,
    )  # fmt: skip
    final = DataSet(
        name="final", description="validation images", train_annotations=folder / "held_out.json",
        val_annotations=folder / "val.json", val_images=given.val_images.absolute(), **common,
    )  # fmt: skip
    return Inputs(detector, tuning, final, ids, tuple(notes)), written


def _read(
    path: Path, folder: Path, what: str, given: Given, reader: images.Reader, advance: Advance
) -> tuple[dict[str, Any], list[str]]:
    """Read and check an annotation file; return it without the skipped images, and remarks on it."""
    content = read_json(path)
    findings = coco_format.check(content, str(path))
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder, expected the {what} images")
    advance(0, total=len(content["images"]))
    found = images.checked(
        content, folder, str(path), skip=given.skip_missing, verify=given.verify_images, reader=reader, advance=advance
    )
    # Masks are not used here.
    return found.content, [*replace(findings, odd_masks=()).notes(), *found.notes]


def _category_ids(
    train: Mapping[str, Any], meta: Mapping[Any, Any], detector: UserDetector, given: Given
) -> tuple[np.ndarray, list[str]]:
    """Return the (C,) category ids in the order of the checkpoint's labels (``label_order``), and remarks."""
    listed = [(category["id"], category["name"]) for category in train["categories"]]
    classes, rows = class_names(meta), detector.num_classes
    fits = classes is not None and len(classes) == rows
    numbered = detector.first_label is not None and not fits and given.label_order == "names"
    if numbered and (found := labels_by_id([category_id for category_id, _ in listed], rows, detector.first_label)):
        return np.array(found.ids), list(found.notes)
    classes_or_none = classes if fits else None
    order = label_order(listed, classes_or_none, given.checkpoint, by=given.label_order, ascending=numbered)
    if len(order.ids) != rows:
        raise InputError(
            f"{given.checkpoint}: its classifier has {rows} classes, but field 'categories' of "
            f"{given.train_annotations} has {len(listed)}"
        )
    if None in order.ids and classes is not None:
        lacking = [name for name, category_id in zip(classes, order.ids, strict=True) if category_id is None]
        raise InputError(
            f"{given.train_annotations}: field 'categories' lacks {len(lacking)} classes that {given.checkpoint} was "
            f"trained on: {first(lacking, 5)}"
        )
    return np.array(order.ids), list(order.notes)


def _renumbered(content: Mapping[str, Any], ids: np.ndarray) -> dict[str, Any]:
    """Renumber category ids to 1..C in the order of ``ids``; other categories and their annotations are left out.

    An id that no category has gets one, without annotations.
    """
    number = {int(category_id): position for position, category_id in enumerate(ids, start=1)}
    images = []
    for image in content["images"]:
        lists = {
            field: [number[c] for c in image[field] if c in number]
            for field in ("neg_category_ids", "not_exhaustive_category_ids")
            if field in image
        }
        images.append({**image, **lists})
    annotations = [
        {**{k: v for k, v in a.items() if k != "segmentation"}, "category_id": number[a["category_id"]]}
        for a in content["annotations"]
        if a["category_id"] in number
    ]
    categories = [{**c, "id": number[c["id"]]} for c in content["categories"] if c["id"] in number]
    for category_id in number.keys() - {c["id"] for c in content["categories"]}:
        categories.append({"id": number[category_id], "name": f"no category {category_id}"})
    categories.sort(key=lambda category: category["id"])
    return {**content, "images": images, "annotations": annotations, "categories": categories}


def _counts_only(table: CategoryTable) -> dict[str, Any]:
    """Return the categories as an annotation file without annotations, with the counts of the whole training file."""
    frame = table.frame()
    columns = ["id", "name", "image_count", "instance_count", "frequency"]
    return {
        "info": {"bin_edges": list(table.bin_edges), "num_images": table.num_images},
        "images": [],
        "annotations": [],
        "categories": json.loads(frame[columns].to_json(orient="records")),
    }


def _classes(found: Sized) -> str:
    return "1 class has" if len(found) == 1 else f"{len(found)} classes have"


def _description(content: Mapping[str, Any]) -> str:
    """Return what an annotation file says of its images (COCO's ``info.description``), empty if nothing."""
    info = content.get("info")
    text = info.get("description") if isinstance(info, Mapping) else None
    return " ".join(text.split())[:LONGEST].rstrip(".") if isinstance(text, str) else ""


def _some(content: dict[str, Any], most: int | None, rng: np.random.Generator, kept: int) -> dict[str, Any]:
    """Choose at most ``most`` images at random, with up to ``kept`` images of each class, rarest classes first."""
    images = [image["id"] for image in content["images"]]
    if most is None or len(images) <= most:
        return content
    order = rng.permutation(images).tolist()
    of_class: dict[int, set[int]] = {}
    for annotation in coco_format.objects(content):
        of_class.setdefault(annotation["category_id"], set()).add(annotation["image_id"])
    chosen: dict[int, None] = {}
    for holders in sorted(of_class.values(), key=len) if kept else ():
        have = sum(image in holders for image in chosen)
        for image in order:
            if have >= kept or len(chosen) >= most:
                break
            if image in holders and image not in chosen:
                chosen[image] = None
                have += 1
    for image in order:
        if len(chosen) >= most:
            break
        chosen[image] = None
    return coco_format.without_images(content, set(images) - chosen.keys())
