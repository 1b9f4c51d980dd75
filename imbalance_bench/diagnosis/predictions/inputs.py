"""Inputs of a diagnosis from files: annotations in whatever form, detections in whatever format, train counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imbalance_bench.categories import CategoryTable, read_json
from imbalance_bench.datasets.formats import read_split
from imbalance_bench.datasets.placeholder import described, placeholder_of, without_placeholder
from imbalance_bench.datasets.split import Split
from imbalance_bench.diagnosis.predictions import counts
from imbalance_bench.diagnosis.predictions.counts import Counted
from imbalance_bench.evaluation import result_files
from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.evaluation.ground_truth import GroundTruth
from imbalance_bench.runtime.equality import ByValue
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.progress import Reporter


@dataclass(frozen=True)
class Given:
    """The inputs that the user gives.

    Attributes:
        predictions: file of detections in the validation images, or the detections.
        annotations: validation annotations: a COCO- or LVIS-format file, YOLO's ``data.yaml``, or a folder of YOLO, VOC
            or Roboflow.
        train_annotations: training annotations in one of these forms, or a CSV file of counts; None: the training split
            of ``annotations`` if they are of a whole data set, else counts of validation.
        images: folder of the validation images; None: no pictures.
        bin_edges: edges by train boxes; None: stated ones, each class its own if there are few, or fitting ones.
        calibration_predictions: file of detections in held-out training images; None: fits are cross-fitted.
        calibration_annotations: annotations of these images.
        seed: seed of all random choices.
    """

    predictions: Path | Detections
    annotations: Path
    train_annotations: Path | None = None
    images: Path | None = None
    bin_edges: tuple[int, ...] | None = None
    calibration_predictions: Path | None = None
    calibration_annotations: Path | None = None
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Inputs(ByValue):
    """The checked inputs of a diagnosis from files.

    Attributes:
        truth: the validation annotations.
        found: detections in the validation images.
        masks: the same annotations for masks, if annotations and detections have them; else None.
        held_out: detections in held-out training images, and their annotations, if they are given.
        counted: where the counts of the classes come from, in words.
        unit: what is counted: train boxes, or validation boxes where nothing else was given.
        content: content of the validation annotations.
        notes: remarks and decisions, one per line.
    """

    truth: GroundTruth
    found: Detections
    masks: GroundTruth | None
    held_out: tuple[Detections, GroundTruth] | None
    counted: str
    unit: str
    content: Mapping[str, Any]
    notes: tuple[str, ...]


def read(given: Given, reporter: Reporter) -> Inputs:
    """Read and check all inputs.

    Raises:
        InputError: one is missing or wrong, or does not fit the others.
    """
    for path, what in ((given.annotations, "validation annotations"), (given.train_annotations, "train annotations"),
                       (given.calibration_annotations, "annotations of the calibration images")):  # fmt: skip
        if path is not None and not path.exists():
            raise InputError(f"{path}: no such file, expected the {what}")
    if (given.calibration_predictions is None) != (given.calibration_annotations is None):
        raise InputError("calibration predictions and their annotations go together, one of them is given")
    by_label = isinstance(given.predictions, Detections)  # their labels count every class of the file
    content, notes = _content(given.annotations, "val", reporter, placeholder=not by_label)
    counted = _counted(given, content, reporter)
    categories, remarks = counts.binned(counted, given.bin_edges)
    with reporter.task("checking annotations", 1):
        truth = GroundTruth.read(content, categories)
    found = _detections(given.predictions, truth, reporter)
    masks, said = _masks(content, categories, found)
    notes += [*counted.notes, *remarks, *said]
    return Inputs(
        truth, found, masks, _held_out(given, categories, reporter), counted.source, counted.unit, content, tuple(notes)
    )  # fmt: skip


def _content(path: Path, name: str, reporter: Reporter, placeholder: bool) -> tuple[dict[str, Any], list[str]]:
    """Return the content of a split's annotations, and remarks; ``placeholder``: leave Roboflow's out.

    Raises:
        InputError: they are missing or malformed.
    """
    split = read_split(path, name, reporter)
    content, notes = _read(split), list(split.notes)
    name_of_none = placeholder_of(content) if placeholder else None
    if name_of_none is not None:
        content = without_placeholder(content, name_of_none)
        notes.append(f"1 category is {described(name_of_none)}, and is left out")
    return content, notes


def _read(split: Split) -> dict[str, Any]:
    return dict(split.content) if split.content is not None else read_json(split.annotations)


def _counted(given: Given, content: Mapping[str, Any], reporter: Reporter) -> Counted:
    """Count the training boxes of each class.

    Raises:
        InputError: the training annotations or counts are malformed, or of other classes.
    """
    train = given.train_annotations
    if train is not None and train.suffix.lower() == ".csv":
        return counts.of_csv(train, content)
    if train is not None:
        return counts.of_annotations(_read(read_split(train, "train", reporter)), content, train.name)
    if given.annotations.is_dir() or given.annotations.suffix.lower() in (".yaml", ".yml"):
        try:
            content_of_train = _read(read_split(given.annotations, "train", reporter))
            return counts.of_annotations(content_of_train, content, f"the training split of {given.annotations.name}")
        except InputError as error:
            counted = counts.of_validation(content)
            return counted._replace(notes=[f"its training split is not read ({error})", *counted.notes])
    return counts.of_validation(content)


def _detections(predictions: Path | Detections, truth: GroundTruth, reporter: Reporter) -> Detections:
    """Return the detections with the classes and images of the annotations.

    Raises:
        InputError: they do not fit, or there are none.
    """
    if isinstance(predictions, Detections):
        found, name = predictions, "predictions"
    else:
        with reporter.task(f"reading {predictions.name}", 1) as advance:
            found, name = result_files.read(predictions, truth), str(predictions)
            advance()
    try:
        truth.check(found)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    if not len(found):
        raise InputError(f"{name}: holds no detections, expected those of a detector in the annotated images")
    return found


def _masks(
    content: Mapping[str, Any], categories: CategoryTable, found: Detections
) -> tuple[GroundTruth | None, list[str]]:
    """Return the annotations for masks if they and the detections have them, and a remark if only the latter have."""
    if found.masks is None:
        return None, []
    try:
        truth = GroundTruth.read(content, categories, iou_type="segm")
        truth.check(found)
    except InputError as error:
        return None, [f"masks are not compared, only boxes ({error})"]
    return truth, []


def _held_out(given: Given, categories: CategoryTable, reporter: Reporter) -> tuple[Detections, GroundTruth] | None:
    """Return detections and annotations of held-out training images, if they are given.

    Raises:
        InputError: they are malformed, or do not fit the classes.
    """
    if given.calibration_predictions is None or given.calibration_annotations is None:
        return None
    content, _ = _content(given.calibration_annotations, "train", reporter, placeholder=True)
    truth = GroundTruth.read(content, categories)
    return _detections(given.calibration_predictions, truth, reporter), truth
