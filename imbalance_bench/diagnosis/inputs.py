"""Inputs of a diagnosis: a detector, its checkpoint and annotations, checked against each other.

Categories get new ids, 1..C in the order of the checkpoint's labels, and only existing images are listed. Later steps
read only the files that are written here. The training images are split: the tried classifiers are fitted to
``fitting``, and hyper-parameters are chosen on ``held_out``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from imbalance_bench.categories import LVIS_BIN_EDGES, CategoryTable, read_json
from imbalance_bench.checkpoints import own as checkpoints
from imbalance_bench.checkpoints.label_order import class_names, label_order
from imbalance_bench.datasets import coco_format, images
from imbalance_bench.datasets.held_out import hold_out
from imbalance_bench.datasets.images import Reader
from imbalance_bench.datasets.registry import DataSet
from imbalance_bench.detectors.mmdet.from_config import ForeignDetector
from imbalance_bench.runtime.equality import ByValue
from imbalance_bench.runtime.errors import InputError, first
from imbalance_bench.runtime.files import json_text
from imbalance_bench.runtime.progress import Advance, Reporter

KEPT = 10
"""Number of images of each class that are kept if only some of the images are used."""


@dataclass(frozen=True)
class Given:
    """The inputs that the user gives.

    Attributes:
        config: mmdet configuration of the detector.
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
    """

    config: Path
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


@dataclass(frozen=True, eq=False)
class Inputs(ByValue):
    """The checked inputs of a diagnosis.

    Attributes:
        detector: the detector of the configuration.
        tuning: data set to fit classifiers to a part of the training images, and measure them on the held-out part.
        final: data set to fit classifiers also to the held-out part, and measure them on the validation images.
        category_ids: (C,) the user's category ids, in label order.
        notes: remarks and decisions, one per line.
    """

    detector: ForeignDetector
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
    detector = ForeignDetector.from_config(given.config)
    content = checkpoints.load(given.checkpoint)
    rows = _classifier_rows(content, given.checkpoint, detector)
    splits, notes = {}, []
    for name, path, place in (
        ("training", given.train_annotations, given.images),
        ("validation", given.val_annotations, given.val_images),
    ):
        with (reporter or Reporter()).task(f"checking {name} annotations and images", 1) as advance:
            splits[name], said = _read(path, place, name, given, _reader(detector), advance)
        notes += [f"{name}: {note}" for note in said]
    train, val = splits["training"], splits["validation"]
    coco_format.check_same_categories(train, val, str(given.val_annotations))
    ids, said = _category_ids(train, content["meta"], rows, given)
    notes += said
    train, val = (_renumbered(split, ids) for split in (train, val))
    full = read_json(given.train_annotations)
    table = CategoryTable.from_annotations(_renumbered(full, ids), given.bin_edges)
    edges, said = _bin_edges(table, train, given.bin_edges)
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
        notes.append(f"{len(silent)} classes have no validation instance, so no AP: {first(names, 5)}")
    absent = [name for name, count in zip(table.names, table.instance_counts, strict=True) if not count]
    if absent:
        notes.append(f"{len(absent)} classes have no training instance: {first(absent, 5)}")

    files = {"fitting": fitting, "held_out": held_out, "val": val, "categories": _counts_only(table, edges)}
    written = {folder / f"{name}.json": json_text(part, compact=True) for name, part in files.items()}
    common: dict[str, Any] = {
        "train_images": given.images.absolute(),
        "lvis_style": coco_format.is_federated(val),
        "attribution": "",
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


def _classifier_rows(content: Mapping[str, Any], path: Path, detector: ForeignDetector) -> int:
    """Return C of the checkpoint's classifiers, checked against the configuration.

    Raises:
        InputError: the checkpoint has no classifier, or one of another shape than configured.
    """
    found = {name: tensor for name, tensor in content["state_dict"].items() if checkpoints.is_classifier(name)}
    weights = [tensor for name, tensor in found.items() if name.endswith("weight")]
    if len(weights) != detector.num_stages:
        raise InputError(
            f"{path}: field 'state_dict' has {len(weights)} box classifiers ('...fc_cls.weight'), expected "
            f"{detector.num_stages} as configured"
        )
    expected = detector.stock_classifier(detector.num_classes, detector.tap_dims["fc"])
    for weight in weights:
        if weight.shape != expected.weight.shape:
            raise InputError(
                f"{path}: its classifier has shape {tuple(weight.shape)}, expected {tuple(expected.weight.shape)}: "
                f"field 'num_classes' of {detector.config} is {detector.num_classes}"
            )
    return detector.num_classes


def _reader(detector: ForeignDetector) -> Reader:
    """Return the image reader with the settings of the configuration."""
    loading = detector.transforms[0] if detector.transforms else {}
    return Reader(str(loading.get("imdecode_backend", "cv2")), str(loading.get("color_type", "color")))


def _read(
    path: Path, folder: Path, what: str, given: Given, reader: Reader, advance: Advance
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
    train: Mapping[str, Any], meta: Mapping[Any, Any], rows: int, given: Given
) -> tuple[np.ndarray, list[str]]:
    """Return the (C,) category ids in the order of the checkpoint's labels (``label_order``), and remarks."""
    listed = [(category["id"], category["name"]) for category in train["categories"]]
    classes = class_names(meta)
    fits = classes is not None and len(classes) == rows
    order = label_order(listed, classes if fits else None, given.checkpoint, by=given.label_order)
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
    """Renumber category ids to 1..C in the order of ``ids``; other categories and their annotations are left out."""
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
    categories.sort(key=lambda category: category["id"])
    return {**content, "images": images, "annotations": annotations, "categories": categories}


def choose_bin_edges(counts: np.ndarray, bins: int = 4) -> tuple[int, ...]:
    """Choose edges that split classes into about equal parts by train instances, rounded to one digit if possible.

    Args:
        counts: (C,) train instances.
        bins: largest number of bins; there are fewer if classes have the same counts.
    """
    edges: list[int] = []
    for quantile in np.quantile(counts, np.arange(1, bins) / bins):
        exact = max(1, int(np.ceil(quantile)))
        digit = 10 ** int(np.log10(exact))
        for edge in (round(exact / digit) * digit, exact):
            low = edges[-1] if edges else -1
            if edge > low and ((counts >= max(low, 0)) & (counts < edge)).any() and (counts >= edge).any():
                edges.append(edge)
                break
    return tuple(edges) or (max(1, int(counts.max()) + 1),)


def _bin_edges(
    table: CategoryTable, train: Mapping[str, Any], asked: tuple[int, ...] | None
) -> tuple[tuple[int, ...], list[str]]:
    info = train.get("info")
    stated = isinstance(info, Mapping) and info.get("bin_edges")
    present = set(table.bins.tolist())
    if asked or stated or present == set(range(1, table.num_bins + 1)):
        return table.bin_edges, []
    edges = choose_bin_edges(table.instance_counts)
    return edges, [
        f"with the paper's bins (edges {', '.join(map(str, LVIS_BIN_EDGES))}) {table.num_bins - len(present)} of "
        f"{table.num_bins} would be empty; chosen from the counts: {', '.join(map(str, edges))}"
    ]


def _counts_only(table: CategoryTable, edges: tuple[int, ...]) -> dict[str, Any]:
    """Return the categories as an annotation file without annotations, with the counts of the whole training file."""
    frame = table.frame()
    columns = ["id", "name", "image_count", "instance_count", "frequency"]
    return {
        "info": {"bin_edges": list(edges), "num_images": table.num_images},
        "images": [],
        "annotations": [],
        "categories": json.loads(frame[columns].to_json(orient="records")),
    }


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
