"""What a diagnosis says, measured of finished runs: tables, verdict, ranking, recommendation and its worth."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from imbalance_bench.categories import background_id
from imbalance_bench.checkpoints import own as checkpoints
from imbalance_bench.classifiers import SoftmaxClassifier
from imbalance_bench.detectors.port import CHOSEN, UserDetector
from imbalance_bench.diagnosis.conclusions import (
    ap_groups,
    by_bin,
    norm_correlation,
    of_choice,
    of_training_images,
    recall_by_bin,
    verdict,
)
from imbalance_bench.diagnosis.fixes import rank
from imbalance_bench.diagnosis.inputs import Given, Inputs
from imbalance_bench.diagnosis.recommendation import HALVES, check_rule, draw_halves, recommend
from imbalance_bench.diagnosis.result import Diagnosis
from imbalance_bench.evaluation import predictions
from imbalance_bench.evaluation.bootstrap import draw_images
from imbalance_bench.evaluation.calibration import calibration_error
from imbalance_bench.evaluation.coverage import proposal_recall
from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.evaluation.error_analysis import analyse, box_outcomes
from imbalance_bench.evaluation.grouping import bin_groups, shares
from imbalance_bench.evaluation.matching import average_precision, match
from imbalance_bench.experiments.benchmark import BASELINE, Benchmark
from imbalance_bench.experiments.run_folder import RunFolder
from imbalance_bench.experiments.setup import Setup
from imbalance_bench.runtime.provenance import provenance

RESAMPLES = 200


def measure(
    bench: Benchmark,
    tuning: Benchmark,
    inputs: Inputs,
    given: Given,
    notes: list[str],
    runs: dict[str, RunFolder],
    settings: dict[str, dict[str, Any]],
) -> Diagnosis:
    """Measure everything that a diagnosis says, of finished runs.

    Args:
        bench: measured on validation images.
        tuning: measured on held-out training images.
        inputs: checked.
        given: the inputs as they were given.
        notes: remarks.
        runs: of the unchanged detector (``baseline``), and of each fix.
        settings: of each fix, ``settings``, and ``held_out`` mAPs by setting.

    Returns:
        The diagnosis, without what its call alone knows: ``called``, ``tuned``, ``exported``, ``seconds``, ``resumed``.
    """
    setup, baseline = bench.setup, runs["baseline"]
    categories, cache = setup.categories, bench.cache(baseline)
    table = pd.read_csv(baseline.per_category).set_index("label")
    table["name"] = [*categories.names, "background"]
    table["frequency"] = [*categories.frequencies, ""]
    table["id"] = [*inputs.category_ids.tolist(), background_id(inputs.category_ids)]
    classifiers = list(checkpoints.classifiers_of(checkpoints.load(baseline.checkpoint), baseline.checkpoint).values())
    said = predictions.predict(classifiers, cache.features("val", classifiers), setup.device)
    curve = predictions.reliability(said, categories)
    losses = predictions.losses_by_class(said, categories)
    names = np.array(categories.names)
    losses["taken_by"] = [
        "; ".join(f"{names[label]} {share:.0%}" for label, share in takers) for takers in losses["taken_by"]
    ]
    losses["id"] = inputs.category_ids[losses.index]
    ap, *halves = _ap_of_draws(setup, runs)
    fixes = rank(ap, {name: run.record() for name, run in runs.items()}, settings)
    bins = by_bin(said, ap["baseline"], categories, calibration_error(curve))
    correlation = norm_correlation(table, seed=given.seed)
    errors = analyse(Detections.load(baseline.detections), setup.ground_truth)
    stands = box_outcomes(errors, bench.measurer.overlaps(cache))
    boxes = shares(stands, bin_groups(categories)).dropna().rename_axis("bin")
    said_of = verdict(bins, correlation, ap["baseline"].loc[0], stands, categories)
    if CHOSEN in setup.detector.tap_dims:
        found = proposal_recall(bench.measurer.overlaps(cache, CHOSEN), setup.ground_truth)
        table["chosen_recall"] = [*found, np.nan]
        bins = bins.join(recall_by_bin(table, categories))
        said_of.append(of_choice(table, categories))
    seen, unseen = (one.folder(BASELINE).record()["metrics"]["mAP"] for one in (tuning, bench))
    said_of.append(of_training_images(seen, unseen))
    summary = {
        "detector": given.detector,
        "checkpoint": str(given.checkpoint),
        "given": {name: str(value) if isinstance(value, Path) else value for name, value in asdict(given).items()},
        "classes": categories.num_classes,
        "bin_names": categories.bin_names,
        "runs": {name: str(run.path.relative_to(bench.work_dir.parent)) for name, run in runs.items()},
        "tail_bins": categories.tail_bins,
        "notes": notes,
        "attribution": setup.dataset.attribution,
        "head": _head(inputs.detector),
        "norms": correlation,
        "verdict": said_of,
        "recommended": recommend(fixes),
        "rule": check_rule(fixes, *halves),
        "provenance": provenance(),
    }
    destinations = predictions.destinations(said, categories)
    return Diagnosis(bench.work_dir.parent, summary, table, bins, destinations, boxes, losses, curve, fixes)


def _head(detector: UserDetector) -> str:
    """Name the kind of a detector's head: its scores, and what it scores."""
    is_softmax = isinstance(detector.stock_classifier(1, 1), SoftmaxClassifier)
    return f"{'softmax' if is_softmax else 'sigmoids'} of {detector.proposal_kind}"


def _ap_of_draws(setup: Setup, runs: dict[str, RunFolder]) -> list[dict[str, pd.DataFrame]]:
    """Compute each run's mean AP of each group on draws of the validation images, a row each.

    Returns:
        By run: on all images (row 0) and on images drawn with replacement; on halves; and on the other halves.
    """
    truth, groups = setup.ground_truth, ap_groups(setup.categories)
    count = len(truth.image_ids)
    drawn = [np.ones((1, count), np.int64), draw_images(count, RESAMPLES, setup.seed)]
    weights = [np.concatenate(drawn), *draw_halves(count, HALVES, setup.seed)]
    found: list[dict[str, pd.DataFrame]] = [{} for _ in weights]
    with setup.reporter.task("intervals", len(runs)) as advance:
        for name, folder in runs.items():
            matches = match(Detections.load(folder.detections), truth)
            for by_run, part in zip(found, weights, strict=True):
                ap = pd.DataFrame(average_precision(matches, part))
                by_run[name] = pd.DataFrame({group: ap[labels].mean(axis=1) for group, labels in groups.items()})
            advance()
    return found
