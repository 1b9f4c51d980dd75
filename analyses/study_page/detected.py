"""What the detections of a study's runs tell beside its tables: intervals over images, kinds of errors, pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from imbalance_bench.datasets.registry import DataSet
from imbalance_bench.evaluation import error_analysis, error_views
from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.evaluation.ground_truth import GroundTruth
from imbalance_bench.experiments.run_folder import RunFolder
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.progress import Reporter

from .. import outputs, over_images
from .evidence import Evidence


@dataclass(frozen=True)
class Detected:
    """The detections of one seed, and the ground truth for them.

    Attributes:
        seed: folder of the seed.
        runs: run folders that have their detections, by name.
        dataset: the data set.
        truth: its validation annotations.
    """

    seed: Path
    runs: dict[str, RunFolder]
    dataset: DataSet
    truth: GroundTruth

    def of(self, run: str) -> Detections:
        """Read the detections of a run."""
        return Detections.load(self.runs[run].detections)


def find(evidence: Evidence, data_dir: Path) -> Detected:
    """Find the seed with most detections, and the annotations that its runs were measured on.

    Raises:
        InputError: there are no detections, or no such annotations.
    """
    by_seed: dict[Path, dict[str, RunFolder]] = {}
    for seed, folder in zip(evidence.runs["seed"], evidence.runs["folder"], strict=True):
        run = RunFolder(evidence.root / f"seed{seed}" / folder)
        if folder in evidence.methods.index and run.detections.is_file():
            by_seed.setdefault(run.path.parent, {})[folder] = RunFolder(run.path)
    if not by_seed:
        raise InputError("the run folders have no detections ('export' leaves them behind)")
    seed = max(by_seed, key=lambda path: len(by_seed[path]))
    for run in by_seed[seed].values():
        run.verified(run.detections)
    dataset, truth = over_images.annotations_of(next(iter(by_seed[seed].values())), data_dir)
    return Detected(seed, by_seed[seed], dataset, truth)


def gains_over_images(detected: Detected, control: str, reporter: Reporter) -> pd.DataFrame:
    """Compute gains over the control with 95 % intervals over images, the same drawn images for both.

    Returns:
        As ``evidence.over_seeds``.
    """
    base = over_images.drawn(detected.of(control), detected.truth)
    rows = {}
    with reporter.task("intervals over images", len(detected.runs)) as advance:
        for run in detected.runs:
            found = over_images.gains(over_images.drawn(detected.of(run), detected.truth), base)
            if run == control:
                found[["low", "high"]] = math.nan
            rows[run] = {f"{name}_{end}": found.loc[name, end] for end in found for name in found.index}
            advance()
    return pd.DataFrame.from_dict(rows, orient="index")


def errors(detected: Detected, runs: list[str], reporter: Reporter) -> dict[str, dict[str, pd.DataFrame]]:
    """Return the tables of ``error_views.by_bin`` of some runs, with the number of ``boxes`` in each bin."""
    found = {}
    with reporter.task("kinds of errors", len(runs)) as advance:
        for run in runs:
            frame = error_views.per_category(error_analysis.analyse(detected.of(run), detected.truth))
            found[run] = error_views.by_bin(frame, detected.truth.categories)
            advance()
    return found


def picture(detected: Detected, runs: list[str], images: int = 2) -> Figure:
    """Draw validation images with most tail objects: ground truth and the detections of some runs.

    Raises:
        InputError: an image cannot be read.
    """
    try:
        return outputs.contact_sheet(detected.seed, detected.dataset, runs, images)
    except OSError as error:
        raise InputError(f"{error.filename or detected.dataset.val_images}: not readable as an image") from error
