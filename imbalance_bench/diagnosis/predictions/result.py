"""The result of a diagnosis from files: tables and a summary, saved as CSV and JSON, which can be read again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from imbalance_bench.diagnosis import saved
from imbalance_bench.runtime.equality import ByValue

TABLES: dict[str, str | None] = {
    "per_class": "label", "bins": "bin", "contrast": "measure", "confusions": None, "kinds": "bin", "boxes": "bin",
    "costs": "bin", "scores": "bin", "histogram": None, "examples": None, "thresholds": "label",
    "operating_points": None, "calibration": None, "calibration_by_class": "label", "pooled": None,
}  # fmt: skip
"""Tables, and the column that is the index of each."""
SUMMARY = "diagnosis.json"
FIXES = ("thresholds", "operating_points", "calibration", "calibration_by_class", "pooled")
"""Tables of ``score_fixes.ScoreFixes``, with plain columns in the place of indexes of two levels."""
WORDS = ("name", "frequency", "taken_by", "group", "strategy", "scores", "rests_on", "file_name", "credit")
"""Columns of text."""


@dataclass(frozen=True, eq=False)
class PredictionDiagnosis(ByValue):
    """What is wrong with the rare classes of a detector, as far as its detections tell. All values are fractions.

    Rows of tables by bin are ``all`` (every class with a training box), ``1``, ``2``, .. by train boxes, and ``tail``
    and ``head``, the lower bins and the others. Intervals (``.._low``, ``.._high``) are of 95 % over validation images.

    Attributes:
        folder: folder with all files of the diagnosis.
        summary: inputs, where train counts come from (``counted``), names of bins, the rules of the evaluation and
            remarks (``notes``), the verdict in words, what was found (``finding``), what to do next (``advice``), what
            files cannot tell (``unknown``), provenance, the call, and ``seconds``.
        per_class: index ``label``; the class with its train counts and bin; ``val_instances``, ``val_images``,
            ``detections``; ``ap``, ``ap50`` with bounds, ``ap75``, ``recall``, ``ap_fixed`` and perhaps ``ap_mask``;
            shares of its boxes by the best detection on each: ``right`` (of the class), ``another``, ``undetected``;
            ``taken_by``, the classes of the other detections; ``score_median`` of right detections; ``few``, whether
            it has fewer than ten validation boxes.
        bins: means over the classes of a bin with a validation box; ``classes``, ``classes_with_boxes``,
            ``few_classes``, ``train_instances``, ``val_instances``; shares of its boxes as of ``per_class``.
        contrast: index ``measure``; ``tail``, ``head``, their ``difference`` with ``low`` and ``high``.
        confusions: result of ``tables.confusions_of``.
        kinds: ``error_views.by_bin``, best detections by kind of error.
        boxes: the same, boxes by the best detection on each.
        costs: the same, AP50 and what each kind of error costs.
        scores: scores of right detections (quantiles), and shares of boxes found at some scores.
        histogram: detections by interval of their score: ``group``, ``low``, ``high``, ``proposals`` (their number),
            ``confidence``, ``accuracy``.
        examples: result of ``gallery.choose``.
        thresholds: these and the next four: tables of ``score_fixes.ScoreFixes``; without rows where nothing could be
            fitted. ``thresholds.yaml`` and ``thresholds.py`` in the folder hold the thresholds by class name.
        operating_points: F1, precision and recall with thresholds of several kinds.
        calibration: calibration errors by bin, of the scores as they are, and calibrated.
        calibration_by_class: the same by class.
        pooled: AP_pool by bin, of the scores as they are, and calibrated.

    Example:
        >>> PredictionDiagnosis.read("diagnosis")  # the result of an earlier call
        Traceback (most recent call last):
        imbalance_bench.runtime.errors.InputError: diagnosis/diagnosis.json: no such file, expected a JSON file
    """

    folder: Path
    summary: dict[str, Any]
    per_class: pd.DataFrame
    bins: pd.DataFrame
    contrast: pd.DataFrame
    confusions: pd.DataFrame
    kinds: pd.DataFrame
    boxes: pd.DataFrame
    costs: pd.DataFrame
    scores: pd.DataFrame
    histogram: pd.DataFrame
    examples: pd.DataFrame
    thresholds: pd.DataFrame
    operating_points: pd.DataFrame
    calibration: pd.DataFrame
    calibration_by_class: pd.DataFrame
    pooled: pd.DataFrame

    @property
    def shown_bins(self) -> pd.DataFrame:
        """The rows of ``bins`` with classes; without tail or head where one bin is all of it."""
        bins = self.bins[self.bins["classes"] > 0]
        tail = set(map(str, self.summary["tail_bins"]))
        single = [key for key in bins.index if key.isdigit() and key != "0"]
        sides = {"tail": tail & set(single), "head": set(single) - tail}
        return bins.drop(index=[side for side, own in sides.items() if len(own) < 2], errors="ignore")

    def write_page(self) -> Path:
        """Write ``report.html`` into the folder, and return its path."""
        from imbalance_bench.diagnosis.predictions import page

        return page.write(self)

    def save(self) -> None:
        """Write one CSV file per table, then the summary."""
        saved.save(self.folder, SUMMARY, self.summary, {name: getattr(self, name) for name in TABLES})

    @classmethod
    def read(cls, folder: str | Path) -> PredictionDiagnosis:
        """Read a diagnosis that was saved in a folder.

        Raises:
            InputError: the folder holds no such diagnosis, or an unfinished one.
        """
        summary, tables = saved.read(Path(folder), SUMMARY, TABLES, WORDS)
        return cls(Path(folder), summary, **tables)
