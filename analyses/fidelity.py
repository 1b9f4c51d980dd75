"""How well measured results repeat the order of the paper's: rank correlations and equal signs, measure by measure."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from . import published, tables
from .studies import Study

FEWEST = 3
"""Rows below which there is no order to speak of, and so no correlation."""
STATISTICS = ("spearman", "kendall", "equal")


def fidelity(runs: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Compare the order of a study's rows, by their differences to the baseline, with the order that the paper has.

    Of a table, one difference for each row of the paper enters: of a method with several variants that of the default.
    Of Figure 4 the paper prints no values: the settings that it orders are ranked, and signs are those of the
    differences between settings that follow each other in that order.

    Values are of the means over seeds. An interval is the range of the values of each seed alone, over the seeds that
    have all rows; with one such seed there is none. One seed is noisier than the mean of several, so that a value may
    lie above its interval. Rows are not drawn anew: they are all that the paper has, not a sample.

    Args:
        runs: result of ``tables.study_runs``, or any frame with its columns ``run``, ``seed`` and the measures (and
            ``framework``, if the study compares frameworks); what was not run is left out.
        study: a table of the paper, or Figure 4.

    Returns:
        One row for each measure: ``measure``; ``rows``, the number ranked; ``seeds``, the number that have them all;
        ``spearman`` and ``kendall`` (tau-b), 0 where all of one side are equal, NaN for fewer than ``FEWEST`` rows;
        ``equal``, how many differences have the paper's sign, of ``signs`` that the paper has; the ends of the
        intervals of these three as ``<name>_low`` and ``<name>_high`` (NaN without an interval); ``odd``, the row
        that fits least: without it Spearman's correlation rises most, to ``spearman_without`` (of five rows or more).
    """
    evidence = _order(runs, study) if study.name == "figure 4" else _differences(runs, study)
    found = []
    for measure, part in evidence.groupby("measure", sort=False):
        by_seed = part.pivot_table(index=["kind", "row", "paper"], columns="seed", values="ours")
        mean = by_seed.mean(axis="columns")
        value = {**_agreement(mean), **_odd_row(mean)}
        alone = [_agreement(ours) for _, ours in by_seed.dropna(axis="columns").items()]
        row = {"measure": measure, "seeds": len(alone), **value}
        for name in STATISTICS:
            ends = [one[name] for one in alone] if len(alone) > 1 else [math.nan]
            row |= {f"{name}_low": min(ends), f"{name}_high": max(ends)}
        found.append(row)
    order = [f"{name}{end}" for name in STATISTICS for end in ("", "_low", "_high")]
    return pd.DataFrame(found, columns=["measure", "rows", "seeds", *order, "signs", "odd", "spearman_without"])


def _odd_row(ours: pd.Series) -> dict[str, Any]:
    """Find the row without which the correlation rises most; the index is that of ``_agreement``."""
    kinds, places = (ours.index.get_level_values(name) for name in ("kind", "row"))
    rows = places[kinds == "rank"]
    if len(rows) < FEWEST + 2:
        return {"odd": "", "spearman_without": math.nan}
    without = {row: _agreement(ours[places != row])["spearman"] for row in rows}
    odd = max(without, key=without.__getitem__)
    return {"odd": odd, "spearman_without": without[odd]}


def _agreement(ours: pd.Series) -> dict[str, float]:
    """Compute the statistics of one measure; the index has the levels ``kind``, ``row`` and ``paper``."""
    from scipy import stats

    frame = ours.rename("ours").reset_index(["kind", "paper"])
    ranked, signed = (frame[frame["kind"] == kind] for kind in ("rank", "sign"))
    signed = signed[signed["paper"] != 0]
    x, y = ranked["paper"].to_numpy(), ranked["ours"].to_numpy()
    if len(ranked) < FEWEST:
        spearman = kendall = math.nan
    elif min(np.ptp(x), np.ptp(y)) == 0:
        spearman = kendall = 0.0
    else:
        spearman, kendall = stats.spearmanr(x, y).statistic, stats.kendalltau(x, y).statistic
    return {
        "rows": len(ranked),
        "spearman": float(spearman),
        "kendall": float(kendall),
        "equal": int((np.sign(signed["paper"]) == np.sign(signed["ours"])).sum()),
        "signs": len(signed),
    }


def _differences(runs: pd.DataFrame, study: Study) -> pd.DataFrame:
    """List the differences of a table, seed by seed; each is ranked, and its sign counts."""
    found = tables.differences(runs, study, study.representatives)
    return pd.concat([found.assign(kind=kind) for kind in ("rank", "sign")])


def _order(runs: pd.DataFrame, study: Study) -> pd.DataFrame:
    """List what the paper says of the order of Figure 4's settings, seed by seed."""
    measured = {row.labels["beta"]: tables.over_base(runs, study, row) for row in study.rows}
    found = []
    for measure, ascending in published.figure4()[["measure", "ascending"]].itertuples(index=False):
        ours = {beta: measured[beta][measure] for beta in ascending if measure in measured[beta]}
        steps = {f"{low} < {high}": ours[high] - ours[low] for low, high in pairwise(ours)}
        entries = [("sign", row, 1, values) for row, values in steps.items()]
        if len(ascending) >= FEWEST:
            entries += [("rank", beta, ascending.index(beta), values) for beta, values in ours.items()]
        for kind, row, paper, values in entries:
            entry = {"measure": measure, "kind": kind, "row": row, "paper": paper}
            found += [entry | {"seed": seed, "ours": value} for seed, value in values.dropna().items()]
    return pd.DataFrame(found, columns=["measure", "kind", "row", "paper", "seed", "ours"])


def shown(frame: pd.DataFrame) -> pd.DataFrame:
    """Format ``fidelity``: one row for each measure, intervals in brackets."""

    def cell(row: pd.Series, name: str, style: str, of: str = "") -> str:
        value, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
        if math.isnan(value):
            return "-"
        return f"{value:{style}}{of}" + ("" if math.isnan(low) else f" [{low:{style}}, {high:{style}}]")

    columns: dict[str, Callable[[pd.Series], str]] = {
        "Spearman": lambda row: cell(row, "spearman", "+.2f"),
        "Kendall": lambda row: cell(row, "kendall", "+.2f"),
        "equal signs": lambda row: cell(row, "equal", ".0f", f" of {row['signs']}"),
        "Spearman without": lambda row: f"{row['spearman_without']:+.2f} {row['odd']}" if row["odd"] else "-",
    }
    result = frame[["measure", "rows", "seeds"]].astype(str)
    return result.assign(**{name: [of(row) for _, row in frame.iterrows()] for name, of in columns.items()})


def caption(runs: pd.DataFrame, study: Study) -> str:
    """Write what stands under ``shown``: what is compared, the intervals, the variants that count, what is missing."""
    interval = (
        "Values are of the means over seeds; in brackets, the range of the values of each seed alone, over the seeds "
        "that have all rows (none for one such seed; one seed is noisier than the mean)."
    )
    if study.name == "figure 4":
        return (
            "Settings that the paper's text puts in an order (results/published/figure4.csv; the values of its curves "
            f"are printed nowhere): rank correlation with that order, and neighbours in it whose AP ascends. {interval}"
        )
    numbers = [row.labels["row"] for row in study.compared]
    first = [row for row in study.representatives if numbers.count(row.labels["row"]) > 1]
    missing = [row.labels["row"] for row in study.representatives if tables.over_base(runs, study, row).empty]
    parts = [
        f"Differences to the baseline against the paper's {len(study.representatives)}: rank correlation (Spearman's, "
        f"Kendall's tau-b), and signs equal to the paper's where it has a difference. {interval} Without: the row that "
        "fits least, and the correlation of the others."
    ]
    if first:
        parts.append(f"Of several variants the method's first counts: {', '.join(r.labels['method'] for r in first)}.")
    if missing:
        parts.append(f"Not measured: {', '.join(missing)}.")
    return " ".join(parts)
