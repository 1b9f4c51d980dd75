"""Tables of a diagnosis from files, from errors of detections and from AP on draws of images."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from imbalance_bench.categories import CategoryTable
from imbalance_bench.evaluation.bootstrap import bounds
from imbalance_bench.evaluation.calibration import Calibration
from imbalance_bench.evaluation.error_analysis import IGNORED, RIGHT, Errors

OUTCOMES = ("right", "another", "undetected")
"""Of a box, by the best detection on it: of its class, of another, or none at any score."""
TAKERS = 3
"""Classes that are named as takers of a class's boxes."""
STEPS = 20
"""Intervals of the histogram of scores."""
QUANTILES = {"low": 0.05, "quarter": 0.25, "median": 0.5, "three_quarters": 0.75, "high": 0.95}
LEVELS = (0.001, 0.003, 0.01, 0.03, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Scores at which the share of boxes found is told; rare classes often have scores near zero."""


def _labels(errors: Errors) -> np.ndarray:
    return errors.truth.labels[errors.counted]


def _outcomes(errors: Errors) -> np.ndarray:
    """Return the index in ``OUTCOMES`` of each box that counts."""
    takers = errors.takers[errors.counted]
    return np.where(takers < 0, 2, np.where(takers == _labels(errors), 0, 1))


def confusions_of(errors: Errors) -> pd.DataFrame:
    """Count the boxes of each class by the class of the best detection on each.

    Returns:
        Columns ``label``, ``taker`` (-1: no detection is on the box), ``boxes`` and ``share`` of the class's boxes;
        pairs with a box only.
    """
    pairs = pd.DataFrame({"label": _labels(errors), "taker": errors.takers[errors.counted]})
    counted = pairs.groupby(["label", "taker"]).size().rename("boxes").reset_index()
    return counted.assign(share=counted["boxes"] / counted.groupby("label")["boxes"].transform("sum"))


def hits_of(errors: Errors) -> pd.DataFrame:
    """Return the right detections: columns ``label``, ``score``, ``image`` (its index)."""
    right = np.flatnonzero(errors.kinds == RIGHT)
    found = errors.found
    return pd.DataFrame({"label": found.labels[right], "score": found.scores[right], "image": found.images[right]})


def median_scores(hits: pd.DataFrame) -> pd.Series:
    """Return the median score of the right detections of each class that has some, ``score_median``."""
    return hits.groupby("label")["score"].median().rename("score_median")


def of_boxes(errors: Errors, confusions: pd.DataFrame) -> pd.DataFrame:
    """Return the shares of each class's boxes by ``OUTCOMES``, NaN without a box, and the classes that take them."""
    labels, width = _labels(errors), errors.truth.categories.num_classes
    total = np.bincount(labels, minlength=width)
    table = pd.DataFrame(index=pd.RangeIndex(width, name="label"))
    for number, name in enumerate(OUTCOMES):
        table[name] = np.bincount(labels[_outcomes(errors) == number], minlength=width) / np.where(total, total, np.nan)
    return table.assign(taken_by=_takers(confusions, errors.truth.categories))


def _takers(confusions: pd.DataFrame, categories: CategoryTable) -> list[str]:
    """Name the classes that take most boxes of each class, with their shares."""
    wrong = confusions[(confusions["taker"] >= 0) & (confusions["taker"] != confusions["label"])]
    wrong = wrong.sort_values("boxes", ascending=False, kind="stable")
    texts = [""] * categories.num_classes
    for label, part in wrong.groupby("label"):
        most = part.head(TAKERS)
        texts[int(str(label))] = "; ".join(
            f"{categories.names[taker]} {share:.0%}" for taker, share in zip(most["taker"], most["share"], strict=True)
        )
    return texts


def _means(drawn: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Compute the (1 + R,) mean over classes of (1 + R, C) values, NaN left out; NaN if no class is left."""
    values = drawn[:, labels]
    known = ~np.isnan(values)
    count = known.sum(axis=1)
    total = np.where(known, values, 0).sum(axis=1)
    return np.divide(total, count, out=np.full(len(values), np.nan), where=count > 0)


def _limits(values: np.ndarray, low: float = 0.0) -> tuple[float, float, float]:
    """Return a value, and the bounds of its interval, from the value and its draws, (1 + R,)."""
    limits = bounds(pd.Series({"": values[0]}), pd.DataFrame({"": values[1:]})).clip(low, 1).loc[""]
    return float(values[0]), float(limits["low"]), float(limits["high"])


def bins(per_class: pd.DataFrame, drawn: Mapping[str, np.ndarray], groups: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Return ``PredictionDiagnosis.bins`` from the table of classes and (1 + R, C) AP on all images and on draws."""
    rows = {}
    for key, labels in groups.items():
        part = per_class.loc[labels]
        row: dict[str, float] = {
            "classes": len(labels),
            "classes_with_boxes": int((part["val_instances"] > 0).sum()),
            "train_instances": int(part["instance_count"].sum()),
            "val_instances": int(part["val_instances"].sum()),
            "few_classes": int((part["few"] & (part["val_instances"] > 0)).sum()),
        }
        for name, values in drawn.items():
            row[name], row[f"{name}_low"], row[f"{name}_high"] = _limits(_means(values, labels))
        row |= {name: part[name].mean() for name in ("ap75", "recall", "ap_fixed", "ap_mask") if name in part}
        boxes = part["val_instances"]
        row |= {name: (part[name] * boxes).sum() / boxes.sum() if boxes.sum() else np.nan for name in OUTCOMES}
        rows[key] = row
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("bin")


def contrast(
    drawn: Mapping[str, np.ndarray], errors: Errors, hits: pd.DataFrame, weights: np.ndarray,
    groups: Mapping[str, np.ndarray],
) -> pd.DataFrame:  # fmt: skip
    """Compare tail and head: values of both, their difference, and its interval over images.

    ``high_scores`` is the share of matched boxes whose detection scores above the median of the head's.
    """
    series = {name: [_means(values, groups[side]) for side in ("tail", "head")] for name, values in drawn.items()}
    side_of = np.full(errors.truth.categories.num_classes, -1)
    side_of[groups["tail"]], side_of[groups["head"]] = 0, 1
    sides, images = side_of[_labels(errors)], errors.truth.images[errors.counted]
    total = [_drawn_sums(images[sides == side], weights) for side in (0, 1)]
    for number, name in enumerate(OUTCOMES):
        chosen = _outcomes(errors) == number
        counts = [_drawn_sums(images[chosen & (sides == side)], weights) for side in (0, 1)]
        series[name] = [_ratio(*pair) for pair in zip(counts, total, strict=True)]
    hit_sides = side_of[hits["label"]]
    threshold = hits["score"][hit_sides == 1].median()
    above, hit_images = (hits["score"] > threshold).to_numpy(), hits["image"].to_numpy()
    series["high_scores"] = [
        _ratio(*(_drawn_sums(hit_images[chosen & (hit_sides == side)], weights)
                 for chosen in (above, np.ones_like(above)))) for side in (0, 1)
    ]  # fmt: skip
    rows = {}
    for name, (tail, head) in series.items():
        difference, low, high = _limits(tail - head, -1.0)
        rows[name] = {"tail": tail[0], "head": head[0], "difference": difference, "low": low, "high": high}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("measure")


def _drawn_sums(images: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Count objects on images, given by their image's index, in each row of (1 + R, I) weights of the images."""
    return weights @ np.bincount(images, minlength=weights.shape[1])


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)


def scores(hits: pd.DataFrame, boxes: pd.Series, groups: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Describe the scores of matched detections by group, and the share of boxes that is found at some scores."""
    rows = {}
    for key, labels in groups.items():
        own, total = hits["score"][hits["label"].isin(labels)], boxes.loc[labels].sum()
        row = {"found": len(own), **{name: own.quantile(level) for name, level in QUANTILES.items()}}
        row |= {f"at_{level:g}": (own >= level).sum() / total if total else np.nan for level in LEVELS}
        rows[key] = row
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("bin")


def histogram(errors: Errors, groups: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Count detections by group of their class, interval of their score, and whether they are right."""
    counted = errors.kinds != IGNORED
    labels, scores = errors.found.labels[counted], errors.found.scores[counted]
    right = errors.kinds[counted] == RIGHT
    counts = Calibration(errors.truth.categories.num_classes, STEPS)
    counts.add(labels, scores.clip(0, 1), right)
    return counts.curve(groups)
