"""Formatted tables of a diagnosis."""

from __future__ import annotations

import pandas as pd

from imbalance_bench.diagnosis.result import Diagnosis
from imbalance_bench.evaluation.views import percent


def ranking(diagnosis: Diagnosis) -> pd.DataFrame:
    """Return the fixes in percent, index ``method``: gains on tail and head with intervals, and mAP."""
    fixes = diagnosis.fixes
    columns = {"settings": fixes["settings"]}
    for group in ("tail", "head"):
        rows = fixes[[f"{group}_gain", f"{group}_low", f"{group}_high"]].itertuples(index=False)
        columns[f"{group} gain"] = pd.Series([interval(*row) for row in rows], index=fixes.index)
    columns["mAP"] = fixes["mAP"].map(percent)
    frame = pd.DataFrame(columns)
    frame.loc[frame.index == "baseline", ["tail gain", "head gain"]] = ""
    return frame


def interval(value: float, low: float, high: float) -> str:
    """Format a gain and its interval, fractions in percent: ``+1.2 [+0.3, +2.0]``; ``-`` for NaN."""
    if value != value:
        return "-"
    return f"{100 * value:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
