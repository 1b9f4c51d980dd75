"""Tables of a diagnosis from files, formatted for a terminal."""

from __future__ import annotations

import pandas as pd

from imbalance_bench.diagnosis.predictions.result import PredictionDiagnosis
from imbalance_bench.pages.cells import shown_percent


def by_bin(diagnosis: PredictionDiagnosis) -> pd.DataFrame:
    """Return AP of each bin in percent, with its intervals and what is behind it; a row for each bin with classes."""
    bins = diagnosis.shown_bins
    titles = {"all": "all", **diagnosis.summary["bins"], "tail": "tail", "head": "other classes"}
    columns = {
        "classes of": [titles[key] for key in bins.index],
        "classes": bins["classes"].astype(int).tolist(),
        "boxes": bins["val_instances"].astype(int).tolist(),
        "AP": _ranged(bins, "ap"),
        "AP50": _ranged(bins, "ap50"),
        "Fixed AP": bins["ap_fixed"].map(shown_percent).tolist(),
    }
    for name, head in (("right", "named right"), ("another", "as another"), ("undetected", "no detection")):
        columns[head] = bins[name].map(shown_percent).tolist()
    return pd.DataFrame(columns)


def _ranged(frame: pd.DataFrame, name: str) -> list[str]:
    rows = frame[[name, f"{name}_low", f"{name}_high"]].itertuples(index=False)
    return ["-" if row[0] != row[0] else f"{100 * row[0]:.1f} [{100 * row[1]:.1f}, {100 * row[2]:.1f}]" for row in rows]
