"""Is the advice of a diagnosis right? What it recommends in each data set, and what that gains on other images."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from imbalance_bench.diagnosis.fixes import OVER
from imbalance_bench.diagnosis.result import Diagnosis
from imbalance_bench.evaluation.views import percent
from imbalance_bench.pages.cells import shown_gain

from .method_pages import sortable

ENDS = OVER["baseline"]


def advice(results: Path) -> str:
    """Write a table with a row for each diagnosis that is kept in ``results``, as ``<data set>/diagnosis``."""
    rows = []
    for path in sorted(results.glob("*/diagnosis/diagnosis.json")):
        diagnosis = Diagnosis.read(path.parent)
        rows.append(_row(path.parent.parent.name, diagnosis))
    return sortable(pd.DataFrame(rows)) if rows else ""


def _row(world: str, diagnosis: Diagnosis) -> dict[str, str]:
    fixes, rule = diagnosis.fixes, diagnosis.summary["rule"]
    unchanged, name = fixes.loc["baseline"], diagnosis.recommended
    row = {"data set": world, "tail": percent(unchanged["tail"]), "head": percent(unchanged["head"])}
    row["recommended"] = "nothing" if name is None else f"[{fixes.loc[name, 'title']}](methods/{name}.md)"
    for group in ("tail", "head"):
        gain = "" if name is None else shown_gain(*(fixes.loc[name, f"{group}_{end}"] for end in ENDS))
        row[f"{group} gain"] = gain
    over = [f"tail_{end}" for end in OVER["control"]]
    row["tail over control"] = "" if name is None else shown_gain(*fixes.loc[name, over])
    for group in ("tail", "head"):
        row[f"{group} gain on other images"] = shown_gain(*(rule[group][end] for end in ENDS))
    row["chosen on a half"] = f"{100 * rule['chosen'].get(name or '', 0) / rule['halves']:.0f} %"
    return row
