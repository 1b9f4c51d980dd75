"""The table of fixes: what each gains over the unchanged detector and over the control, ranked."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

import numpy as np
import pandas as pd

from imbalance_bench.evaluation.bootstrap import LEVEL, bounds
from imbalance_bench.methods import METHODS

CONTROLS = ("x2-cls", "bce")
"""Control methods: the unchanged classifier, trained longer by as much as the methods train theirs.

Heads of sigmoids alone do not take the first.
"""
GROUPS = ("mAP", "tail", "head")
"""What fixes are compared in."""
OVER = {
    "baseline": ("gain", "low", "high"),
    "control": ("over_control", "over_control_low", "over_control_high"),
}
"""What they are compared with, and the names of the columns, after the group's."""


def control_of(tried: Container[object]) -> str | None:
    """Return the control among the methods that were tried, if it is one of them."""
    return next((name for name in CONTROLS if name in tried), None)


def rank(
    ap: dict[str, pd.DataFrame],
    records: Mapping[str, Mapping[str, Any]],
    settings: Mapping[str, Mapping[str, Any]],
) -> pd.DataFrame:
    """Rank the fixes by their gain on the tail.

    Each is compared with the unchanged detector, and with the control, on the same drawn images.

    Args:
        ap: AP of each run: on all images in row 0, on draws in the rows below; ``baseline`` is the unchanged detector.
        records: records of the runs.
        settings: for each fix, ``settings``, and ``held_out`` mAPs by setting.

    Returns:
        Index ``method``; see ``Diagnosis.fixes``.
    """
    control, rows = control_of(ap), {}
    references = {"baseline": ap["baseline"], "control": ap["baseline"] * np.nan if control is None else ap[control]}
    for name, values in ap.items():
        metrics = records[name]["metrics"]
        row: dict[str, Any] = {
            "title": "as it is" if name == "baseline" else METHODS[name].title,
            "settings": settings.get(name, {}).get("settings", ""),
            **values.loc[0].to_dict(),
            "accuracy": metrics["ACC"],
            "accuracy_background": metrics["ACCbg"],
            "seconds": sum(records[name]["provenance"]["seconds"].values()),
        }
        for reference, (value, low, high) in OVER.items():
            difference = values - references[reference]
            limits = bounds(difference.loc[0], difference.loc[1:])
            for group in GROUPS:
                row[f"{group}_{value}"] = difference.loc[0, group]
                row[f"{group}_{low}"], row[f"{group}_{high}"] = limits.loc[group, "low"], limits.loc[group, "high"]
        rows[name] = row
    frame = pd.DataFrame.from_dict(rows, orient="index").rename_axis("method")
    frame["tail_low_of_many"] = _low_of_many({name: (ap[name] - ap["baseline"])["tail"] for name in ap})
    order = frame.drop(index="baseline").sort_values(["tail_gain", "mAP_gain"], ascending=False, kind="stable").index
    return frame.loc[[*order, "baseline"]]


def _low_of_many(gains: Mapping[str, pd.Series]) -> pd.Series:
    """Compute lower bounds that hold for all methods at once: what the best of so many reaches by chance is below them.

    Gains are studentised, so that methods count alike whose gains vary much and little; the bound is so many standard
    deviations below a gain as the largest of all gains is above its own in 2.5 % of the draws.

    Args:
        gains: of each method, on all images (row 0) and on draws.
    """
    frame = pd.DataFrame(gains)
    value, draws = frame.iloc[0], frame.iloc[1:]
    deviation = draws.std().replace(0, np.nan)
    largest = ((draws - value) / deviation).max(axis=1)
    return value - largest.quantile((1 + LEVEL) / 2) * deviation.fillna(0)
