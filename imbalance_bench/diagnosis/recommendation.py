"""Which fix to recommend, and what that is worth: the rule chooses on half of the images, the other half measures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from imbalance_bench.diagnosis.fixes import GROUPS
from imbalance_bench.evaluation.bootstrap import LEVEL

HALVES = 200
"""Splits of the validation images in halves."""


def recommend(fixes: pd.DataFrame) -> str | None:
    """Return the fix with the largest net gain (tail plus head) among those with a tail gain beyond chance, or None.

    Beyond what the best of all that were tried reaches by chance: by single intervals a detector of hdBPMN was given a
    fix with a gain of 8.1 points [1.1, 15.3], of which .8 were left on images that had not chosen it.

    Args:
        fixes: as ``Diagnosis.fixes``; gains of ``tail`` and ``head``, and ``tail_low_of_many``.
    """
    return _best(fixes[fixes["tail_low_of_many"] > 0])


def by_itself(fixes: pd.DataFrame) -> str | None:
    """Return the fix that would be recommended if each had been tried alone, by its own interval, or None."""
    return _best(fixes[fixes["tail_low"] > 0])


def _best(helps: pd.DataFrame) -> str | None:
    helps = helps.drop(index="baseline", errors="ignore")
    net = helps["tail_gain"] + helps["head_gain"].fillna(0)
    return None if helps.empty or net.max() <= 0 else str(net.idxmax())


def draw_halves(count: int, halves: int, seed: int) -> np.ndarray:
    """Split ``count`` images in halves at random: (2, halves, count) of 0 and 1, one half and the other."""
    rng = np.random.default_rng(seed)
    first = np.zeros((halves, count), np.int64)
    for row in first:
        row[rng.permutation(count)[: count // 2]] = 1
    return np.stack([first, 1 - first])


def check_rule(
    fixes: pd.DataFrame, chosen_on: Mapping[str, pd.DataFrame], measured_on: Mapping[str, pd.DataFrame]
) -> dict[str, Any]:
    """Measure what ``recommend`` is worth: it chooses on half of the images, and the other half measures its choice.

    The best of many methods looks better than it is on the images that it was chosen on. Here no image both chooses
    and measures. Where the rule chooses nothing, the gain is 0.

    The interval is that of the middle 95 % of the splits. A half of n images, drawn without replacement, varies about
    their mean as n new images do about the truth, so it is one over images, too.

    Args:
        fixes: as ``Diagnosis.fixes``. A bound on half of the images is sqrt(2) times as far from its gain.
        chosen_on: of each run, AP of each group on each first half; ``baseline`` is the unchanged detector.
        measured_on: the same of the other halves.

    Returns:
        ``halves``, their number; ``chosen``, in how many of them each method was, none as ``""``; and of ``tail``,
        ``head`` and ``mAP`` the mean gain of what was chosen, ``low`` and ``high``.
    """
    names = [str(name) for name in fixes.index if name != "baseline"]
    first, other = _gains(chosen_on, names), _gains(measured_on, names)
    margin = np.sqrt(2) * (fixes.loc[names, "tail_gain"] - fixes.loc[names, "tail_low_of_many"]).to_numpy(dtype=float)
    net = first["tail"] + np.nan_to_num(first["head"])
    net = np.where(first["tail"] - margin > 0, net, -np.inf)
    best = np.where(net.max(axis=1) > 0, net.argmax(axis=1), -1)
    found: dict[str, Any] = {"halves": len(best)}
    counts = {"" if number < 0 else names[number]: int((best == number).sum()) for number in np.unique(best)}
    found["chosen"] = dict(sorted(counts.items(), key=lambda item: -item[1]))
    tail = (1 - LEVEL) / 2
    for group in GROUPS:
        gained = np.where(best < 0, 0.0, np.take_along_axis(other[group], np.maximum(best, 0)[:, None], axis=1)[:, 0])
        gained = gained[~np.isnan(gained)]  # no class of the group has a box in this half
        low, high = np.quantile(gained, [tail, 1 - tail]) if len(gained) else (np.nan, np.nan)
        found[group] = {"gain": float(gained.mean()) if len(gained) else np.nan, "low": float(low), "high": float(high)}
    return found


def _gains(ap: Mapping[str, pd.DataFrame], names: list[str]) -> dict[str, np.ndarray]:
    """Return the (halves, methods) gains over the unchanged detector, by group."""
    gained = [ap[name] - ap["baseline"] for name in names]
    return {group: np.stack([gain[group].to_numpy(dtype=float) for gain in gained], axis=1) for group in GROUPS}
