"""What carries over from one data set to another: each method's gain on tail and head, in every world and the paper.

A world is a data set whose ``beyond.csv`` (``beyond.summary``) has been measured, or the paper's Table 1 on LVIS v0.5.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from imbalance_bench.evaluation import per_category
from imbalance_bench.runtime.errors import InputError

from . import published
from .beyond import CONTROL, GAINS, interval
from .studies import STUDIES

PAPER = "LVIS v0.5 (paper)"
PAPER_CONTROL = 2
"""Row x2 of the paper's Table 1. It has no row that trains W and b alone for longer, and x2 trains everything."""
REFERENCES = ("gain", "over_control")
"""What a method is compared with: the baseline, or the control."""


def collect(folder: Path) -> pd.DataFrame:
    """Collect the gains of every method in every world.

    Args:
        folder: of results; ``<data set>/beyond.csv`` of at least one data set.

    Returns:
        One row for each world, method and group (``mAP``, ``tail``, ``head``): columns ``world``, ``method``,
        ``group``; in points ``gain`` over the baseline and ``over_control``, each with ``_low`` and ``_high``, the 95 %
        interval of the mean over seeds, or over validation images of one seed (NaN for the paper); ``seeds``; ``over``,
        what the interval is over. The paper is first.

    Raises:
        InputError: no such file, or one that is no result of ``beyond``.
    """
    paths = sorted(folder.glob("*/beyond.csv"))
    if not paths:
        raise InputError(f"{folder}: no '<data set>/beyond.csv' there; 'beyond --dataset NAME -o' makes them")
    return pd.concat([of_paper(), *(_measured(path) for path in paths)], ignore_index=True)


def _measured(path: Path) -> pd.DataFrame:
    try:
        frame = pd.read_csv(path)
        default = frame[frame["kind"] == "default"]
        parts = []
        for group in GAINS:
            columns: dict[str, object] = {"world": path.parent.name, "method": default["method"], "group": group}
            for reference in REFERENCES:
                for end in ("", "_low", "_high"):
                    columns[f"{reference}{end}"] = 100 * default[f"{group}_{reference}{end}"]
            parts.append(pd.DataFrame(columns).assign(seeds=default["seeds"], over=default["over"]))
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(f"{path}: not a table of 'beyond' ({error})") from error
    return pd.concat(parts, ignore_index=True)


def of_paper() -> pd.DataFrame:
    """Return the gains that the paper's Table 1 prints: as ``collect``, without intervals.

    Its tail is the mean over the classes of bins 1 and 2 that have validation boxes, its head that over 3 and 4.
    """
    printed, classes = published.by_row(1), list(published.VAL_CLASSES["LVIS v0.5"]["bins"])
    values = pd.DataFrame(
        {
            "mAP": printed["mAP"],
            "tail": np.average(printed[["AP1", "AP2"]], axis=1, weights=classes[:2]),
            "head": np.average(printed[["AP3", "AP4"]], axis=1, weights=classes[2:]),
        }
    )
    study = STUDIES["table 1"]
    rows = {int(row.labels["row"].strip("()")): row.run.method.name for row in (study.rows[0], *study.representatives)}
    frame = pd.DataFrame(
        [
            {
                "world": PAPER,
                "method": method,
                "group": group,
                "gain": values.loc[number, group] - values.loc[1, group],
                "over_control": values.loc[number, group] - values.loc[PAPER_CONTROL, group],
            }
            for number, method in rows.items()
            for group in GAINS
        ]
    )
    empty = {f"{reference}{end}": math.nan for reference in REFERENCES for end in ("_low", "_high")}
    return frame.assign(**empty, seeds=1, over="-")


def correlations(gains: pd.DataFrame, group: str, reference: str = "gain") -> pd.DataFrame:
    """Compute Spearman's correlation of the methods' gains between every two worlds, over the methods that both have.

    Baseline and control are left out: they are what the others are compared with.

    Args:
        gains: result of ``collect``.
        group: ``mAP``, ``tail`` or ``head``.
        reference: of ``REFERENCES``.

    Returns:
        One row for each pair of worlds: ``world``, ``other``, ``group``, ``methods`` (that both have), ``spearman``
        (NaN below three).
    """
    of_group = gains[(gains["group"] == group) & ~gains["method"].isin(["baseline", CONTROL])]
    wide = of_group.pivot_table(reference, "method", "world")[list(dict.fromkeys(gains["world"]))]
    rows = []
    for number, world in enumerate(wide):
        for other in wide.columns[number + 1 :]:
            both = wide[[world, other]].dropna()
            value = both[world].corr(both[other], method="spearman") if len(both) > 2 else math.nan
            rows.append({"world": world, "other": other, "group": group, "methods": len(both), "spearman": value})
    return pd.DataFrame(rows, columns=["world", "other", "group", "methods", "spearman"])


def agreement(gains: pd.DataFrame, group: str = "tail", reference: str = "over_control") -> pd.DataFrame:
    """Tell in which worlds a method's gain is real: ``+`` or ``-`` where the interval leaves out 0, else ``~``.

    Returns:
        Index ``method``, without the control; one column a measured world (the paper has no intervals), empty where
        the method was not run, and ``worlds``: ``all +``, ``all -`` or ``mixed`` over the worlds that have it, empty
        for one world.
    """
    measured = (gains["group"] == group) & (gains["world"] != PAPER) & (gains["method"] != CONTROL)
    of_group = gains[measured].dropna(subset=f"{reference}_low")
    sign = np.where(of_group[f"{reference}_low"] > 0, "+", np.where(of_group[f"{reference}_high"] < 0, "-", "~"))
    wide = of_group.assign(sign=sign).pivot_table("sign", "method", "world", aggfunc="first")

    def together(row: pd.Series) -> str:
        found = set(row.dropna())
        if row.notna().sum() < 2:
            return ""
        return f"all {found.pop()}" if len(found) == 1 and found <= {"+", "-"} else "mixed"

    return wide.assign(worlds=wide.apply(together, axis=1)).fillna("") if len(wide) else wide.assign(worlds=[])


def properties(folder: Path) -> dict[str, float]:
    """Measure what distinguishes a data set, from the exported runs of one detector and seed.

    Args:
        folder: ``<data set>/<detector>/seed<n>`` with the runs ``baseline`` and ``ncm-fc:fixed``.

    Returns:
        ``classes``; ``train instances``; ``imbalance``, the largest count over the least; ``gini`` of the counts;
        ``background``, the share of the validation proposals; ``recall``, of boxes by proposals; ``separability``, the
        mean over classes of the share of proposals that the nearest class mean names right.

    Raises:
        InputError: a run is missing.
    """
    table, means = (per_category.foreground(folder / run / "per_category.csv") for run in ("baseline", "ncm-fc-fixed"))
    whole = per_category.read(folder / "baseline" / "per_category.csv")
    counts = np.sort(table.loc[table["instance_count"] > 0, "instance_count"].to_numpy(dtype=float))
    ranks = np.arange(1, len(counts) + 1)
    return {
        "classes": len(counts),
        "train instances": counts.sum(),
        "imbalance": counts[-1] / counts[0],
        "gini": float(((2 * ranks - len(counts) - 1) * counts).sum() / (len(counts) * counts.sum())),
        "background": whole["proposals"].iloc[-1] / whole["proposals"].sum(),
        "recall": float(np.average(table["proposal_recall"].fillna(0), weights=table["val_instances"])),
        "separability": float((means["correct"] / means["proposals"].where(means["proposals"] > 0)).mean()),
    }


def worlds(results: Path, gains: pd.DataFrame) -> pd.DataFrame:
    """Put what distinguishes each world beside the method that gains most there over the control.

    Args:
        results: folder of ``collect``, with the exported runs of its worlds beside ``beyond.csv``.
        gains: result of ``collect``.

    Returns:
        Index ``world``, those whose runs are there; the columns of ``properties``, and for tail and head the method
        with the largest gain (``best on tail``, ``best on head``) and BAGS' own gain (``bags on tail``, ...), points.
    """
    rows: dict[str, dict[str, Any]] = {}
    for world, part in gains[gains["world"] != PAPER].groupby("world", sort=False):
        runs = sorted(results.joinpath(str(world)).glob("*/seed*/ncm-fc-fixed"))
        if not runs:
            continue
        rows[str(world)] = dict(properties(runs[0].parent))
        for group in ("tail", "head"):
            of_group = part[part["group"] == group].set_index("method")["over_control"].drop(CONTROL, errors="ignore")
            best = of_group.idxmax()
            rows[str(world)] |= {
                f"best on {group}": f"{best} {of_group[best]:+.1f}",
                f"bags on {group}": of_group.get("bags", math.nan),
            }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("world")


def table(gains: pd.DataFrame, group: str, reference: str = "over_control") -> pd.DataFrame:
    """Format the gains of a group for readers: a row a method, a column a world, with the interval."""

    def cell(row: Mapping[str, Any]) -> str:
        value, low, high = (row[f"{reference}{end}"] / 100 for end in ("", "_low", "_high"))
        return interval(value, low, high, is_symmetric=row["over"] != "images")

    of_group = gains[gains["group"] == group]
    cells = of_group.assign(cell=[cell(row) for row in of_group.to_dict("records")])
    wide = cells.pivot_table("cell", "method", "world", aggfunc="first")[list(dict.fromkeys(gains["world"]))]
    order = of_group.groupby("method")[reference].mean().sort_values(ascending=False, kind="stable").index
    return wide.loc[order].fillna("-").reset_index()
