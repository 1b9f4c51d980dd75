"""Make a diagnosis of a detector from its result files: read, measure, conclude, save."""

from __future__ import annotations

import inspect
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from imbalance_bench.diagnosis.predictions import next_steps
from imbalance_bench.diagnosis.predictions.conclusions import find, verdict
from imbalance_bench.diagnosis.predictions.counts import titles
from imbalance_bench.diagnosis.predictions.inputs import Given, Inputs, read
from imbalance_bench.diagnosis.predictions.measure import Measured, measure
from imbalance_bench.diagnosis.predictions.result import FIXES, TABLES, PredictionDiagnosis
from imbalance_bench.evaluation import protocol
from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.evaluation.fixed_ap import PER_CLASS
from imbalance_bench.evaluation.score_fixes import ScoreFixes
from imbalance_bench.runtime.files import write_text
from imbalance_bench.runtime.progress import Reporter
from imbalance_bench.runtime.provenance import reading

THRESHOLDS = "thresholds.yaml"


def diagnose_predictions(
    predictions: str | Path | Detections,
    annotations: str | Path,
    train_annotations: str | Path | None = None,
    images: str | Path | None = None,
    *,
    out: str | Path = "diagnosis",
    bin_edges: tuple[int, ...] | None = None,
    calibration_predictions: str | Path | None = None,
    calibration_annotations: str | Path | None = None,
    seed: int = 0,
    called: str | None = None,
    reporter: Reporter | None = None,
) -> PredictionDiagnosis:
    """Find out what is wrong with the rare classes of a detector, from its detections alone.

    Args:
        predictions: file of detections in the validation images (``result_files.read`` lists the formats), or
            ``Detections``, whose labels count the classes of the training annotations by ascending id.
        annotations: validation annotations: COCO or LVIS format, YOLO's ``data.yaml``, or a folder of YOLO, VOC or
            Roboflow.
        train_annotations: training annotations in one of these forms, or a CSV file of counts; None: the training
            split of ``annotations``, counts that they state, or their own boxes.
        images: folder of the validation images, for a few pictures.
        out: folder for all results.
        bin_edges: edges of bins by train boxes; None: stated ones, each class its own if there are few, or such that
            fit.
        calibration_predictions: detections in held-out training images, which thresholds and calibration are fitted
            to; None: both are cross-fitted over the validation images.
        calibration_annotations: annotations of these images.
        seed: seed of the draws of images and of the folds.
        called: the command line to show on the page; None: this call.
        reporter: shows progress.

    Returns:
        The diagnosis, which is also saved in ``out``.

    Raises:
        InputError: an input is missing, wrong, or does not fit the others.
    """
    asked = {name: value for name, value in locals().items() if name not in ("called", "reporter")}
    reporter, start = reporter or Reporter(), time.monotonic()
    given = Given(
        predictions if isinstance(predictions, Detections) else Path(predictions), Path(annotations),
        _path(train_annotations), _path(images), bin_edges, _path(calibration_predictions),
        _path(calibration_annotations), seed,
    )  # fmt: skip
    inputs = read(given, reporter)
    found = measure(inputs, seed, reporter)
    summary = _conclude(given, inputs, found)
    summary |= {"called": called or _call(asked), "seconds": round(time.monotonic() - start, 1)}
    tables = {name: getattr(found, name) for name in TABLES if name not in FIXES} | _fix_tables(found.fixes)
    diagnosis = PredictionDiagnosis(Path(out), summary, **tables)
    diagnosis.save()
    if isinstance(found.fixes, ScoreFixes):
        write_text(diagnosis.folder / THRESHOLDS, found.fixes.to_yaml())
    return diagnosis


def _path(given: str | Path | None) -> Path | None:
    return None if given is None else Path(given)


def _call(asked: Mapping[str, Any]) -> str:
    """Return the call as text, with the arguments that are not the default."""
    parameters = inspect.signature(diagnose_predictions).parameters
    given = {n: str(v) if isinstance(v, Path) else v for n, v in asked.items() if v != parameters[n].default}
    shown = {n: "detections" if isinstance(v, Detections) else repr(v) for n, v in given.items()}
    return f"imbalance_bench.diagnose({', '.join(f'{name}={text}' for name, text in shown.items())})"


def _fix_tables(fixes: ScoreFixes | str) -> dict[str, pd.DataFrame]:
    """Return the tables of fits with plain columns; tables without rows where nothing was fitted."""
    if isinstance(fixes, str):
        index = {name: pd.Index([], name="label") if TABLES[name] else None for name in FIXES}
        keys = {"thresholds": ["name"], "calibration_by_class": ["name"], "operating_points": ["strategy", "group"]}
        return {name: pd.DataFrame(columns=keys.get(name, ["scores", "group"]), index=index[name]) for name in FIXES}
    tables: dict[str, pd.DataFrame] = {name: getattr(fixes, name) for name in FIXES}
    return {
        name: table if TABLES[name] else table.reset_index().rename(columns={"bin": "group"})
        for name, table in tables.items()
    }


def _conclude(given: Given, inputs: Inputs, found: Measured) -> dict[str, Any]:
    """Return the summary of a diagnosis."""
    truth, categories = inputs.truth, inputs.truth.categories
    lowest = float(inputs.found.scores.min())
    finding = find(found.contrast, categories)
    fitted = found.fixes if isinstance(found.fixes, ScoreFixes) else None
    points = fitted.operating_points.reset_index() if fitted else pd.DataFrame()
    train = None if given.train_annotations is None else str(given.train_annotations)
    command = next_steps.with_checkpoint(train, str(given.annotations))
    advice = next_steps.advise(finding, found.contrast, found.costs, points, lowest, command)
    return {
        "predictions": "detections" if isinstance(given.predictions, Detections) else str(given.predictions),
        "given": _given(given),
        "classes": categories.num_classes,
        "images": len(truth.image_ids),
        "detections": len(inputs.found),
        "counted": inputs.counted,
        "unit": inputs.unit,
        "bins": titles(categories),
        "tail_bins": categories.tail_bins,
        "bins_line": categories.bins_line,
        "notes": [*inputs.notes, *protocol.describe(truth, inputs.found), *_limits(inputs)],
        "protocol": _protocol(inputs, found.resamples),
        "verdict": verdict(finding, found, categories, inputs.unit, lowest),
        "finding": finding,
        "advice": asdict(advice),
        "unknown": next_steps.unknown(command, inputs.held_out is not None),
        "fits": list(fitted.notes) if fitted else [f"nothing was fitted: {found.fixes}"],
        "thresholds": {"one": fitted.one_threshold, "python": fitted.to_python()} if fitted else None,
        "provenance": reading(),
    }


def _given(given: Given) -> dict[str, Any]:
    shown = {name: getattr(given, name) for name in given.__dataclass_fields__ if name != "predictions"}
    return {name: str(value) if isinstance(value, Path) else value for name, value in shown.items()}


def _protocol(inputs: Inputs, resamples: int) -> dict[str, str]:
    """Describe each measure in words."""
    best = "of an image" if inputs.truth.lvis_style else "of an image and class"
    return {
        "AP": "average precision of a class, mean over IoU .5 to .95 and 101 levels of recall; the best 300 detections "
        f"{best} count",
        "AP50": "the same at IoU .5 alone",
        "Fixed AP": f"AP where the best {PER_CLASS:,} detections of each class over all images count, without a limit "
        "an image: classes do not compete for places (arXiv 2102.01066)",
        "pooled AP": "AP of all classes of a group in one ranking, so a score must mean the same in each (arXiv "
        "2102.01066)",
        "bins": "means over the classes of a bin that have a validation box",
        "intervals": f"95 % over images: what other validation images could give, by {resamples} draws of them; AP on "
        "few images is biased upwards, and an interval that corrects for it may lie below the value",
    }


def _limits(inputs: Inputs) -> Sequence[str]:
    """Say whether the file seems to be cut at a number of detections an image."""
    _, counts = np.unique(inputs.found.image_ids, return_counts=True)
    most, full = int(counts.max()), float((counts == counts.max()).mean())
    if full < 0.05 or len(counts) < 5:
        return []
    return [
        f"{full:.0%} of the images have exactly {most:,} detections, and none has more: the file seems to be cut "
        "there, so Fixed AP is at least what is shown"
    ]
