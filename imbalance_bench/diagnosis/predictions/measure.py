"""What a diagnosis from files measures: tables by class and by bin, each with its denominators and intervals."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pandas as pd

from imbalance_bench.categories import CategoryTable
from imbalance_bench.diagnosis.predictions import gallery, tables
from imbalance_bench.diagnosis.predictions.inputs import Inputs
from imbalance_bench.evaluation import error_analysis, error_views, score_fixes
from imbalance_bench.evaluation.average_precision import evaluate, of_matches
from imbalance_bench.evaluation.bootstrap import bounds, draw_images
from imbalance_bench.evaluation.fixed_ap import NO_LIMIT, best_of_each_class
from imbalance_bench.evaluation.grouping import bin_groups
from imbalance_bench.evaluation.matching import (
    Assignment,
    ap_at_each_iou,
    assign,
    average_precision,
    best_of_each_image,
    by_category,
    rank_order,
)
from imbalance_bench.evaluation.score_fixes import ScoreFixes
from imbalance_bench.evaluation.score_fixes.outcomes import IOUS
from imbalance_bench.runtime.equality import ByValue
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.progress import Reporter

RESAMPLES, FEWER_RESAMPLES, MANY = 200, 50, 1_000_000
"""Draws of images; fewer if so many detections count."""
FEW = 10
"""Boxes of a class below which its numbers are marked: of fewer, one box more or less found changes recall by 10 %."""


@dataclass(frozen=True, eq=False)
class Measured(ByValue):
    """The tables of a diagnosis from files; ``result.PredictionDiagnosis`` describes them."""

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
    fixes: ScoreFixes | str
    resamples: int


def groups_of(categories: CategoryTable) -> dict[str, np.ndarray]:
    """Return the labels of ``all`` trained classes, of each bin, and of ``tail`` and ``head``."""
    return {
        "all": categories.binned_labels,
        **bin_groups(categories),
        "tail": np.array(categories.tail_labels, dtype=np.int64),
        "head": np.array(categories.head_labels, dtype=np.int64),
    }


def measure(inputs: Inputs, seed: int, reporter: Reporter) -> Measured:
    """Measure detections against annotations. They are matched once, for all measures.

    Args:
        inputs: what was read.
        seed: seed of the draws of images and of the folds.
        reporter: shows progress.
    """
    truth, found, categories = inputs.truth, inputs.found, inputs.truth.categories
    groups, images = groups_of(categories), len(truth.image_ids)
    with reporter.task("matching detections and boxes", 1) as advance:
        matched = assign(found, truth, NO_LIMIT, IOUS)
        counted = matched.at(slice(1, None)).only(best_of_each_image(found, truth)[matched.rows])
        advance()
    resamples = RESAMPLES if len(matched.rows) < MANY else FEWER_RESAMPLES
    weights = np.concatenate([np.ones((1, images), np.int64), draw_images(images, resamples, seed)])
    # Numpy does most of both on its own, so two threads keep two cores busy.
    with ThreadPoolExecutor(1) as pool:
        fits = pool.submit(_fixes, inputs, matched, resamples, seed)
        with reporter.task("average precision, with intervals over images", 1) as advance:
            per_class, drawn = _average_precision(inputs, matched, counted, weights)
            advance()
        with reporter.task("kinds of errors", 2) as advance:
            errors = error_analysis.analyse(found, truth, found=counted)
            advance()
            views = error_views.by_bin(error_views.per_category(errors), categories)
            advance()
        with reporter.task("thresholds and calibration", 1) as advance:
            fixes = fits.result()
            advance()
    confusions, hits = tables.confusions_of(errors), tables.hits_of(errors)
    per_class = per_class.join(tables.of_boxes(errors, confusions)).join(tables.median_scores(hits))
    per_class["few"] = per_class["val_instances"] < FEW
    return Measured(
        per_class=per_class,
        bins=tables.bins(per_class, drawn, groups),
        contrast=tables.contrast(drawn, errors, hits, weights, groups),
        confusions=confusions,
        kinds=views[error_views.DETECTIONS],
        boxes=views[error_views.BOXES],
        costs=views[error_views.GAINS],
        scores=tables.scores(hits, per_class["val_instances"], groups),
        histogram=tables.histogram(errors, groups),
        examples=gallery.choose(inputs, errors),
        fixes=fixes,
        resamples=resamples,
    )


def _average_precision(
    inputs: Inputs, matched: Assignment, counted: Assignment, weights: np.ndarray
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Return the classes with their AP, and the (1 + R, C) ``ap`` and ``ap50`` on all images and on draws of them."""
    truth, found = inputs.truth, inputs.found
    order = rank_order(counted, counted.labels)
    matches = by_category(counted, truth, order)
    by_iou = ap_at_each_iou(matches, weights)
    drawn = {"ap": by_iou.mean(axis=0), "ap50": by_iou[0]}
    table = truth.categories.frame().join(of_matches(matches, by_iou[:, 0], truth))
    table["detections"] = np.bincount(found.labels, minlength=len(table))
    best = best_of_each_class(found)[matched.rows]
    table["ap_fixed"] = drawn["ap"][0]
    if not (best.all() and np.array_equal(counted.ignored, matched.ignored[1:])):
        without_limit = matched.at(slice(1, None)).only(best)
        table["ap_fixed"] = average_precision(by_category(without_limit, truth, order))
    if inputs.masks is not None:
        table["ap_mask"] = evaluate(found, inputs.masks)["ap"]
    for name, values in drawn.items():
        limits = bounds(pd.Series(values[0]), pd.DataFrame(values[1:])).clip(0, 1)
        table[f"{name}_low"], table[f"{name}_high"] = limits["low"], limits["high"]
    return table, drawn


def _fixes(inputs: Inputs, matched: Assignment, resamples: int, seed: int) -> ScoreFixes | str:
    """Fit thresholds and calibrators; return in words why that is impossible, if it is."""
    try:
        return score_fixes.fit_and_measure(
            inputs.found, inputs.truth, held_out=inputs.held_out, matched=matched, seed=seed, resamples=resamples
        )
    except InputError as error:
        if inputs.held_out is not None:
            raise
        return str(error)
