"""All measured runs of the methods in one table, with their differences to a fair control."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from imbalance_bench.bins import parse_edges, tail_bins
from imbalance_bench.methods import METHODS, Run, parse
from imbalance_bench.runtime.errors import InputError

from .. import beyond

GROUPS = ("mAP", "tail", "head")
COLUMNS = (
    "world", "detector", "method", "run", "settings", "kind", "seeds", "control",
    *GROUPS, *(f"{group}_std" for group in GROUPS),
    *(f"{group}_over{end}" for group in GROUPS for end in ("", "_half")),
)  # fmt: skip


def control_of(run: Run) -> str:
    """Return the run that is trained as much as another one, without its remedy.

    For W and b alone, or nothing trained, that is ``x2-cls``; for a training from the first weights the baseline;
    for any other that goes on from the baseline ``x2``.
    """
    if run.keeps_detector:
        return beyond.CONTROL
    return "baseline" if run.starts_from_scratch else "x2"


def measured(results: Path) -> pd.DataFrame:
    """Collect every run of the catalogue's methods below ``results/measured``.

    Args:
        results: one folder a data set, with ``beyond.csv`` and ``table<N>.csv``.

    Returns:
        One row for each data set (``world``), detector, run and kind of settings (``default``, ``tuned``, ``cosine``,
        and ``variant`` for other runs of a table): ``COLUMNS``; AP as fractions, means and deviations over seeds;
        ``<group>_over`` is the difference to ``control``, paired by seed, and ``_half`` half of the 95 % interval of
        its mean over seeds (NaN for one seed).
    """
    rows = [row for path in sorted(results.glob("*/beyond.csv")) for row in _of_beyond(path)]
    known = {(row["world"], row["detector"], row["run"]) for row in rows}
    folders = sorted({path.parent for path in results.glob("*/table[1-6].csv")})
    rows += [
        row
        for folder in folders
        for row in _of_tables(folder)
        if (row["world"], row["detector"], row["run"]) not in known
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _of_beyond(path: Path) -> Iterator[dict[str, Any]]:
    """Read the means of ``beyond``, which has the differences to its controls."""
    for row in pd.read_csv(path).to_dict("records"):
        cosine = row["kind"] == "cosine"
        values = {name: row[name] for group in GROUPS for name in (group, f"{group}_std")}
        for group in GROUPS:
            over = row[f"{group}_over_control"]
            values |= {f"{group}_over": over, f"{group}_over_half": row[f"{group}_over_control_high"] - over}
        run = _run(f"{row['method']}:{row['settings']}")
        yield {
            "world": path.parent.name,
            "run": str(run or f"{row['method']}:{row['settings']}"),
            **{name: row[name] for name in ("detector", "method", "settings", "kind", "seeds")},
            "control": beyond.COSINE_CONTROL if cosine else beyond.CONTROL,
            **values,
        }


def _of_tables(folder: Path) -> Iterator[dict[str, Any]]:
    """Read the runs of the paper's tables, seed by seed."""
    frames = [pd.read_csv(path) for path in sorted(folder.glob("table[1-6].csv"))]
    runs = pd.concat(frames, ignore_index=True).drop_duplicates(["detector", "run", "seed"])
    runs = runs.assign(**{group: [_mean(row, group) for row in runs.to_dict("records")] for group in ("tail", "head")})
    for detector, of_detector in runs.groupby("detector", sort=False):
        by_run = {name: part.set_index("seed")[list(GROUPS)] for name, part in of_detector.groupby("run", sort=False)}
        for name, part in by_run.items():
            run = _run(str(name))
            if run is None:
                continue
            control = control_of(run)
            values: dict[str, Any] = {}
            for group in GROUPS:
                values |= {group: part[group].mean(), f"{group}_std": part[group].std()}
                if control in by_run:
                    over = (part[group] - by_run[control][group]).dropna()
                    values |= {
                        f"{group}_over": over.mean(),
                        f"{group}_over_half": beyond.half_width(over.std(), len(over)),
                    }
            yield {
                "world": folder.name,
                "detector": detector,
                "method": run.method.name,
                "run": str(run),
                "settings": run.variant,
                "kind": "default" if run == run.method.candidate else "variant",
                "seeds": len(part),
                "control": control,
                **values,
            }


def _run(text: str) -> Run | None:
    """Resolve a run's name; None for one that the catalogue no longer has, as results outlive names."""
    try:
        return parse(text)
    except InputError:
        return None


def _mean(row: dict[Any, Any], group: str) -> float:
    """Compute the mean AP over the classes of the tail bins, or of the others, from that of each bin."""
    edges = parse_edges(str(row["bin_edges"]), " ")
    tail = tail_bins(edges)
    bins = [number for number in range(1, len(edges) + 2) if (number in tail) == (group == "tail")]
    bins = [number for number in bins if row.get(f"AP{number}_classes", 0) > 0]
    if not bins:
        return math.nan
    return float(np.average([row[f"AP{n}"] for n in bins], weights=[row[f"AP{n}_classes"] for n in bins]))


def order(frame: pd.DataFrame) -> pd.DataFrame:
    """Sort rows as the catalogue lists the methods, default settings first."""
    places = {name: number for number, name in enumerate(METHODS)}
    kinds = {"default": 0, "tuned": 1, "cosine": 2, "variant": 3}
    keys = frame.assign(place=frame["method"].map(places), order=frame["kind"].map(kinds))
    return frame.loc[keys.sort_values(["place", "world", "order"], kind="stable").index]
