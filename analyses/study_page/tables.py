"""The tables of a study's page, as columns of cells."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from imbalance_bench.evaluation import error_views
from imbalance_bench.evaluation.weight_norms import norms_by_bin, spearman
from imbalance_bench.methods import METHODS
from imbalance_bench.pages import cells
from imbalance_bench.pages.charts import Axis
from imbalance_bench.pages.html import Cell, table
from imbalance_bench.runtime.errors import InputError

from .. import fidelity, published, tables
from ..studies import STUDIES
from .evidence import Evidence

TABLE1 = STUDIES["table 1"]
KINDS = {
    "classification": "wrong class", "localisation": "wrong place", "both": "wrong class and place",
    "duplicate": "second on a box", "ap50": "AP50",
}  # fmt: skip
"""Heads of columns of ``error_views`` that do not say by themselves what they are."""
Table = dict[str, Any]


def group_notes(evidence: Evidence) -> dict[str, str]:
    """Return what stands below the heads of columns of AP: interval of the bin, classes and boxes."""
    bins, tail = evidence.bins, evidence.tail
    head = [number for number in bins.index if number and number not in tail]
    notes = {"mAP": _classes(bins[bins.index > 0]), "tail": _classes(bins.loc[bins.index.isin(tail)])}
    notes["head"] = _classes(bins.loc[head])
    for number, row in bins.iterrows():
        notes[f"AP{number}"] = f"{row['interval']}\n{_classes(bins.loc[[number]])}"
    return notes


def _classes(bins: pd.DataFrame) -> str:
    return f"{bins['val_classes'].sum():,} classes\n{bins['boxes'].sum():,} boxes"


def gains(evidence: Evidence) -> Table:
    """Return the methods with their gains over the control, best on the tail first; each with a picture."""
    frame = evidence.methods.drop(index=evidence.control or [])
    frame = frame.sort_values("tail_gain", ascending=False, kind="stable")
    columns, notes = named(frame), group_notes(evidence)
    for group in evidence.groups:
        if f"{group}_gain" not in frame or frame[f"{group}_gain"].isna().all():
            continue
        axis = Axis.over("", 100 * frame[f"{group}_gain"], clip=True)
        rows = frame[[f"{group}_{end}" for end in ("gain", "low", "high")]].itertuples(index=False)
        columns[group] = [cells.gain(value, low, high, axis) for value, low, high in rows]
        notes[group] = f"{notes[group]}\n{axis.low:+.0f} to {axis.high:+.0f}"
    columns |= {"trains": [cells.text(name) for name in frame["trains"]]} | seeds(frame)
    columns["own control"] = [cells.text(name) for name in frame["own_control"]]
    return table(columns, keys=frame["method"].tolist(), notes=notes)


def settings(evidence: Evidence) -> Table:
    """Return every setting that was run: means over seeds, and gains over the control."""
    frame = evidence.settings
    columns: dict[str, list[Cell]] = {
        name: [cells.text(value) for value in frame[column]]
        for name, column in {"method": "method", "settings": "variant", "family": "family"}.items()
    }
    for name in [*evidence.groups, "ACC", "ACCbg", "ECE"]:
        if name in frame:
            columns[name] = [cells.percent(*pair) for pair in zip(frame[name], frame[f"{name}_std"], strict=True)]
    for group in ("tail", "head"):
        if f"{group}_gain" in frame:
            rows = frame[[f"{group}_{end}" for end in ("gain", "low", "high")]].itertuples(index=False)
            columns[f"{group} gain"] = [cells.gain(*row) for row in rows]
    columns |= seeds(frame)
    return table(columns, keys=frame["method"].tolist(), notes=group_notes(evidence))


def named(frame: pd.DataFrame) -> dict[str, list[Cell]]:
    """Return the column that names settings: the method, with its variant if it is not the default."""
    names = []
    for method, variant in zip(frame["method"], frame["variant"], strict=True):
        is_default = method in METHODS and METHODS[method].default.variant == variant
        names.append(method if is_default else f"{method} ({variant})")
    return {"method": [cells.text(name) for name in names]}


def seeds(frame: pd.DataFrame) -> dict[str, list[Cell]]:
    """Return the column with the number of seeds of settings."""
    return {"seeds": [cells.count(number) for number in frame["seeds"]]}


def table1(evidence: Evidence) -> Table | None:
    """Return the measured columns of the paper's Table 1; None if none of its rows was run."""
    folders = {row.run.folder: row for row in TABLE1.rows}
    frame = evidence.settings.loc[[folder for folder in folders if folder in evidence.settings.index]]
    if frame.empty:
        return None
    columns = named(frame) | {"row": [_row_number(folders[folder].labels["row"]) for folder in frame.index]}
    for name in (*tables.AP_COLUMNS, *tables.MASK_COLUMNS, *tables.ACC_COLUMNS):
        if name in frame and frame[name].notna().any():
            columns[name] = [cells.percent(*pair) for pair in zip(frame[name], frame[f"{name}_std"], strict=True)]
    columns |= seeds(frame)
    return table(columns, keys=frame["method"].tolist(), notes=group_notes(evidence))


def _row_number(label: str) -> Cell:
    number = label.strip("()")
    return label or "-", int(number) if number else math.nan


def paper_table1() -> Table:
    """Return the paper's own Table 1, rounded to the digits of the page."""
    frame = published.table(1)
    by_row = {method.paper_row: name for name, method in METHODS.items() if method.paper_row}
    keys = [by_row.get(row, "") for row in frame["ID"]]
    columns: dict[str, list[Cell]] = {
        "model": [cells.text(name) for name in frame["Models"]],
        "row": [(f"({row})", row) for row in frame["ID"]],
    }
    for name in frame:
        if frame[name].dtype == float and frame[name].notna().any():
            columns[str(name)] = [cells.percent(value / 100) for value in frame[name]]
    columns["note"] = [cells.text(note) for note in frame["note"]]
    return table(columns, keys=keys)


def order(evidence: Evidence) -> tuple[Table, str] | None:
    """Return how well the measured order of Table 1 repeats the paper's, and its caption; None without enough rows."""
    try:
        runs = tables.study_runs(evidence.root, TABLE1)
    except InputError:
        return None
    found = fidelity.fidelity(runs, TABLE1)
    if found.empty or found["spearman"].isna().all():
        return None
    shown = fidelity.shown(found)
    columns: dict[str, list[Cell]] = {"measure": [cells.text(name) for name in shown["measure"]]}
    for name, source in {"rows": "rows", "seeds": "seeds", "Spearman": "spearman", "Kendall": "kendall"}.items():
        columns[name] = list(zip(shown[name], found[source], strict=True))
    columns["equal signs"] = list(zip(shown["equal signs"], found["equal"] / found["signs"], strict=True))
    return table(columns), fidelity.caption(runs, TABLE1)


def accuracy(evidence: Evidence) -> Table | None:
    """Return proposal accuracy by bin and on background; None where it was not measured."""
    frame = evidence.methods
    names = [name for name in ("ACC", *(f"ACC{number}" for number in evidence.bins.index), "ACCbg", "ACCmacro")
             if name in frame and frame[name].notna().any()]  # fmt: skip
    if not names:
        return None
    counts = evidence.per_category(frame.index[0])
    proposals = {"ACC": counts["proposals"].sum(), "ACCbg": counts["proposals"].iloc[-1]}
    proposals |= {f"ACC{n}": part["proposals"].sum() for n, part in counts.iloc[:-1].groupby("bin")}
    notes = {name: f"of {value:,.0f}\nproposals" for name, value in proposals.items()}
    notes["ACCmacro"] = "mean over\nclasses"
    columns = named(frame)
    for name in names:
        columns[name] = [cells.percent(*pair) for pair in zip(frame[name], frame[f"{name}_std"], strict=True)]
    columns |= seeds(frame)
    return table(columns, keys=frame["method"].tolist(), notes=notes)


def norms(evidence: Evidence, frames: Mapping[str, pd.DataFrame]) -> Table | None:
    """Return mean and deviation of the weight norms of each bin's classes; None for runs without weights.

    Args:
        evidence: as of the page.
        frames: per-category tables of settings with weights, by folder.
    """
    if not frames:
        return None
    by_bin = {folder: norms_by_bin(frame) for folder, frame in frames.items()}
    columns = named(evidence.settings.loc[list(frames)])
    columns["rank correlation"] = [cells.number(spearman(frame)) for frame in frames.values()]
    for number in [*evidence.bins.index, "background"]:
        head = str(number) if number == "background" else f"bin {number}"
        rows = [found.reindex([str(number)]).iloc[0] for found in by_bin.values()]
        columns[head] = [_spread(row["mean"], row["std"]) for row in rows]
    notes = {f"bin {number}": str(row["interval"]) for number, row in evidence.bins.iterrows()}
    notes["rank correlation"] = "with train\ninstances"
    return table(columns, keys=evidence.settings.loc[list(frames), "method"].tolist(), notes=notes)


def _spread(mean: float, deviation: float) -> Cell:
    if math.isnan(mean):
        return "-", mean
    return f"{mean:.2f}" + (f" ± {deviation:.2f}" if deviation else ""), mean


def errors(found: Mapping[str, Mapping[str, pd.DataFrame]], name: str, evidence: Evidence) -> Table:
    """Return one of the tables of ``error_views.by_bin`` for several runs, a row for each bin and run."""
    bins = evidence.bins
    boxes = {"all": bins["boxes"].sum(), **{str(number): count for number, count in bins["boxes"].items()}}
    rows = [(run, str(place), tables_of[name].loc[place])
            for place in next(iter(found.values()))[name].index for run, tables_of in found.items()]  # fmt: skip
    methods = evidence.settings["method"]
    columns: dict[str, list[Cell]] = {
        "method": [cells.text(methods[run]) for run, *_ in rows],
        "bin": [cells.text(place) for _, place, _ in rows],
        "boxes": [cells.count(boxes.get(place, math.nan)) for _, place, _ in rows],
    }
    is_share = name != error_views.GAINS
    for kind in rows[0][2].index:
        values = [row[kind] for *_, row in rows]
        head = KINDS.get(kind, f"class of {kind}" if str(kind).startswith("bin ") else str(kind))
        gained = not is_share and kind != "ap50"
        columns[head] = [cells.gain(v, math.nan, math.nan) if gained else cells.share(v) for v in values]
    return table(columns, keys=[methods[run] for run, *_ in rows])


def provenance(evidence: Evidence) -> Table:
    """Return every run with its numbers and its origin."""
    runs = evidence.runs
    columns: dict[str, list[Cell]] = {
        "run": [cells.text(name) for name in runs["folder"]],
        "seed": [cells.count(seed) for seed in runs["seed"]],
        "mAP": [cells.percent(value) for value in runs["mAP"]],
        "date": [cells.text(str(date)[:10]) for date in runs["date"]],
        "training (s)": [cells.number(float(seconds), 1) for seconds in runs["train_seconds"].fillna(math.nan)],
        "machine": [cells.text(name) for name in runs["machine"]],
        "command": [cells.text(name) for name in runs["command"]],
    }
    return table(columns, keys=runs["method"].tolist())
