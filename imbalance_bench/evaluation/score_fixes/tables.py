"""Tables of fits: thresholds by class; F1, calibration errors and AP_pool by bin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from imbalance_bench.categories import CategoryTable
from imbalance_bench.evaluation.calibration import STEPS
from imbalance_bench.evaluation.fixed_ap import Ranking, pooled_ap_of_draws
from imbalance_bench.evaluation.score_fixes import calibrators, measured, thresholds
from imbalance_bench.evaluation.score_fixes.fits import Fits
from imbalance_bench.evaluation.score_fixes.outcomes import LEVELS, Outcomes

AS_IT_IS = "as it is"
RESTS_ON = ("own boxes", "its bin", "all classes")
ERRORS = ("d_ece", "laece", "laace")

Points = Mapping[str, Mapping[str, np.ndarray]]
"""Of each strategy, the result of ``measured.operating_point``."""


def by_class(fits: Fits, points: Points, categories: CategoryTable) -> pd.DataFrame:
    """Return ``ScoreFixes.thresholds``."""
    found, final = fits.found, fits.final
    labels = pd.RangeIndex(categories.num_classes, name="label")
    images = np.unique(found.truth_labels * found.num_images + found.truth_images) // found.num_images
    fitted = LEVELS[np.stack([fit.levels[thresholds.PER_CLASS] for fit in fits.thresholds])]
    shares = final.shares(fits.bins)
    own = points[thresholds.PER_CLASS]
    return pd.DataFrame(
        {
            "name": categories.names,
            "bin": categories.bins,
            "boxes": np.bincount(found.truth_labels, minlength=len(labels)),
            "images": np.bincount(images, minlength=len(labels)),
            "threshold": LEVELS[final.levels[thresholds.PER_CLASS]],
            "lowest": fitted.min(axis=0),
            "highest": fitted.max(axis=0),
            "rests_on": np.array(RESTS_ON)[shares.argmax(axis=1)],
            "own_share": shares[:, 0],
            **{name: own[name][:, 0] for name in ("precision", "recall", "f1")},
            "f1_one": points[thresholds.ONE]["f1"][:, 0],
        },
        index=labels,
    )


def operating_points(points: Points, groups: measured.Groups, found: Outcomes) -> pd.DataFrame:
    """Return ``ScoreFixes.operating_points``."""
    boxes = np.bincount(found.truth_labels, minlength=found.num_classes)
    behind = pd.DataFrame(
        {name: {"classes": int((boxes[own] > 0).sum()), "boxes": int(boxes[own].sum())} for name, own in groups.items()}
    ).T
    one = measured.by_group(points[thresholds.ONE]["f1"], groups)
    tables = {}
    for strategy, values in points.items():
        means = {name: measured.by_group(values[name], groups) for name in ("f1", "precision", "recall")}
        parts = [measured.share_with_interval(mean, name) for name, mean in means.items()]
        tables[strategy] = pd.concat([*parts, measured.with_interval(means["f1"] - one, "gain"), behind], axis=1)
    return pd.concat(tables, names=["strategy", "bin"])


def calibration(
    fits: Fits, draws: np.ndarray, groups: measured.Groups, categories: CategoryTable
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return ``ScoreFixes.calibration`` and ``ScoreFixes.calibration_by_class``."""
    found, kept = fits.found, fits.kept(thresholds.PER_CLASS)
    of_group: dict[str, dict[str, pd.DataFrame]] = {error: {} for error in ERRORS}
    of_class: dict[str, np.ndarray] = {}

    rows = np.flatnonzero(kept & ~np.isnan(found.targets["right"]))
    number = np.bincount(found.labels[rows], minlength=found.num_classes)
    for scores, confidence in _calibrated(fits, "right", rows, calibrators.SCOPES, above=True).items():
        rated = measured.Rated(found, rows, confidence, draws)
        of_group["d_ece"][scores] = measured.detection_ece(rated, groups)
        once = replace(rated, draws=draws[:, :1])
        of_class[f"d_ece_{scores}"] = measured.ece_of_classes(once, "right", STEPS)[:, 0]

    rows = np.flatnonzero(kept & ~np.isnan(found.targets["iou"]))
    for scores, confidence in _calibrated(fits, "iou", rows, calibrators.SCOPES, above=True).items():
        rated = measured.Rated(found, rows, confidence, draws)
        laece = measured.ece_of_classes(rated, "iou", measured.LOCALISATION_STEPS)
        for error, values in (("laece", laece), ("laace", measured.localisation_ace(rated))):
            of_group[error][scores] = measured.by_group(values, groups)
            of_class[f"{error}_{scores}"] = values[:, 0]

    behind = pd.Series({group: int(number[labels].sum()) for group, labels in groups.items()}, name="detections")
    tables = {}
    for scores in of_group["d_ece"]:
        parts: list[pd.DataFrame | pd.Series] = []
        for error, by_scores in of_group.items():
            parts.append(by_scores[scores].iloc[0].rename(error))
            parts.append(measured.with_interval(by_scores[AS_IT_IS] - by_scores[scores], f"{error}_gain"))
        tables[scores] = pd.concat([*parts, behind], axis=1)
    shown = {AS_IT_IS: "before"} | {f"{kind}, {calibrators.PER_CLASS}": kind.lower() for kind in calibrators.KINDS}
    columns = {f"{error}_{name}": of_class[f"{error}_{scores}"] for error in ERRORS for scores, name in shown.items()}
    index = pd.RangeIndex(found.num_classes, name="label")
    per_class = pd.DataFrame({"name": categories.names, "bin": categories.bins, "detections": number} | columns, index)
    return pd.concat(tables, names=["scores", "bin"]), per_class


def _calibrated(
    fits: Fits, target: str, rows: np.ndarray, scopes: Sequence[str], *, above: bool
) -> dict[str, np.ndarray]:
    """Return the scores of some detections as they are, and with each calibrator; arguments as ``Fits.calibrated``."""
    scores, counts = {AS_IT_IS: fits.found.scores[rows]}, fits.counts(target)
    for kind in calibrators.KINDS:
        for scope, values in fits.calibrated(kind, counts, rows, scopes, above=above).items():
            scores[f"{kind}, {scope}"] = values
    return scores


def pooled(fits: Fits, draws: np.ndarray, groups: measured.Groups) -> pd.DataFrame:
    """Return ``ScoreFixes.pooled``."""
    found = fits.found
    # As in ``fixed_ap``, also the classes in no bin.
    groups = {**groups, "all": np.arange(found.num_classes)}
    rows = np.flatnonzero(~np.isnan(found.targets["share"]))
    places = [[np.flatnonzero(row) for row in table] for table in (found.true, found.ignored)]
    by_score = np.lexsort((found.images[rows], -found.scores[rows]))
    values = {}
    for name, scores in _calibrated(fits, "share", rows, [calibrators.PER_CLASS], above=False).items():
        # Equal calibrated scores stay in the order of the scores, so nothing changes within a class.
        order = rows[by_score[np.argsort(-scores[by_score], kind="stable")]]
        of_group = {
            group: pooled_ap_of_draws(_ranking(found, order, labels, *places), draws)
            for group, labels in groups.items()
        }
        values[name] = pd.DataFrame(of_group)
    tables = {}
    for name, own in values.items():
        parts = [measured.share_with_interval(own, "ap_pool"), measured.with_interval(own - values[AS_IT_IS], "gain")]
        tables[name] = pd.concat(parts, axis=1)
    return pd.concat(tables, names=["scores", "bin"])


def _ranking(
    found: Outcomes, order: np.ndarray, labels: np.ndarray, true: list[np.ndarray], ignored: list[np.ndarray]
) -> Ranking:
    """Return the ranking of the detections of some classes.

    Args:
        found: all detections.
        order: rows of those that are ranked, best first.
        labels: the classes.
        true: for each IoU, the rows that are matched.
        ignored: for each IoU, the rows that do not count.
    """
    chosen = np.zeros(found.num_classes, dtype=bool)
    chosen[labels] = True
    own = order[chosen[found.labels[order]]]
    place = np.full(len(found.labels), -1)
    place[own] = np.arange(len(own))

    def places(rows: np.ndarray) -> np.ndarray:
        there = np.sort(place[rows])
        return there[np.searchsorted(there, 0) :]

    boxes = found.truth_images[chosen[found.truth_labels]]
    return Ranking(found.images[own], [*map(places, true)], [*map(places, ignored)], boxes)
