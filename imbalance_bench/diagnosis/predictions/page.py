"""A diagnosis from files as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from imbalance_bench.diagnosis.predictions import gallery, pictures
from imbalance_bench.diagnosis.predictions.diagnose import THRESHOLDS
from imbalance_bench.diagnosis.predictions.measure import FEW
from imbalance_bench.diagnosis.predictions.result import PredictionDiagnosis
from imbalance_bench.pages import cells, html
from imbalance_bench.pages.html import Cell
from imbalance_bench.runtime.files import write_text
from imbalance_bench.runtime.progress import duration

PAGE = "report.html"
PAIRS = 100
"""Pairs of classes that are listed."""
Columns = dict[str, list[Cell]]


def write(diagnosis: PredictionDiagnosis) -> Path:
    """Write the page into the diagnosis's folder and return its path."""
    path = diagnosis.folder / PAGE
    write_text(path, render(diagnosis))
    return path


def render(diagnosis: PredictionDiagnosis) -> str:
    """Fill the template ``predictions.html``."""
    summary, bins, titles = diagnosis.summary, diagnosis.bins, diagnosis.summary["bins"]
    folder = summary["given"]["images"]
    taken = [] if folder is None else gallery.pictures(diagnosis.examples, Path(folder))
    confusions, unit = diagnosis.confusions, summary["unit"]
    fitted = bool(len(diagnosis.operating_points))
    pairs = _pairs(diagnosis)
    rows = {"all": "all classes", **titles, "tail": "tail", "head": "other classes"}
    return html.render(
        "imbalance_bench.diagnosis",
        "predictions.html",
        title=f"Diagnosis of {Path(summary['predictions']).name}",
        summary=summary,
        tail=_tail(summary),
        few=FEW,
        thresholds_file=THRESHOLDS,
        charts={
            "ap": pictures.ap(bins, titles, unit),
            "classes": pictures.classes(diagnosis.per_class, titles, unit),
            "confusion": pictures.confusion(confusions, diagnosis.per_class),
            "boxes": pictures.boxes(diagnosis.boxes, bins, titles),
            "costs": pictures.costs(diagnosis.costs, bins, titles),
            "found": pictures.found(diagnosis.scores, bins, titles),
            "reliability": pictures.reliability(diagnosis.histogram, bins, titles),
        },
        tables={
            "bins": html.table(
                _bins(diagnosis, rows), {"all classes": "base", "tail": "base", "other classes": "base"}
            ),
            "pairs": html.table(pairs) if pairs["class"] else None,
            "costs": html.table(_costs(diagnosis.costs, rows)),
            "scores": html.table(_scores(diagnosis.scores, rows)),
            "points": html.table(_points(diagnosis.operating_points, rows)) if fitted else None,
            "calibration": html.table(_calibration(diagnosis.calibration, rows)) if fitted else None,
            "pooled": html.table(_pooled(diagnosis.pooled, rows)) if fitted else None,
            "classes": html.table(_classes(diagnosis), _few(diagnosis.per_class)),
        },
        pictures=[html.image(figure, caption, "png") for figure, caption in taken],
        facts=_facts(summary),
    )


def _tail(summary: Mapping[str, Any]) -> str:
    names = [summary["bins"][str(number)] for number in summary["tail_bins"]]
    return f"tail: {', '.join(names)} {summary['unit']}" if names and names[0].startswith("[") else (
        f"tail: {', '.join(names)}" if names else ""
    )  # fmt: skip


def _ranged(values: pd.DataFrame, name: str) -> list[Cell]:
    """Return cells of a share with its interval."""
    found: list[Cell] = []
    for value, low, high in values[[name, f"{name}_low", f"{name}_high"]].itertuples(index=False):
        limits = "" if low != low else f" [{100 * low:.1f}, {100 * high:.1f}]"
        found.append((cells.shown_percent(value) + limits, value))
    return found


def _shares(values: Iterable[float]) -> list[Cell]:
    return [cells.percent(value) for value in values]


def _counts(values: Iterable[float]) -> list[Cell]:
    return [cells.count(float(value)) for value in values]


def _texts(values: Iterable[Any]) -> list[Cell]:
    return [cells.text(value) for value in values]


def _bins(diagnosis: PredictionDiagnosis, rows: Mapping[str, str]) -> Columns:
    bins = diagnosis.shown_bins
    columns: Columns = {
        "classes of": _texts(rows[key] for key in bins.index),
        "classes": _counts(bins["classes"]),
        diagnosis.summary["unit"]: _counts(bins["train_instances"]),
        "validation boxes": _counts(bins["val_instances"]),
        f"classes with fewer than {FEW}": _counts(bins["few_classes"]),
        "AP": _ranged(bins, "ap"),
        "AP50": _ranged(bins, "ap50"),
        "AP75": _shares(bins["ap75"]),
        "recall": _shares(bins["recall"]),
        "Fixed AP": _shares(bins["ap_fixed"]),
    }
    if "ap_mask" in bins:
        columns["AP of masks"] = _shares(bins["ap_mask"])
    pooled = diagnosis.pooled[diagnosis.pooled["scores"] == "as it is"].set_index("group")
    if len(pooled):
        columns["pooled AP"] = _ranged(pooled.reindex(bins.index), "ap_pool")
    return columns


def _pairs(diagnosis: PredictionDiagnosis) -> Columns:
    """List pairs of classes by the boxes that the one loses to the other; those of the tail come first."""
    table, classes = diagnosis.confusions, diagnosis.per_class
    wrong = table[(table["taker"] >= 0) & (table["taker"] != table["label"])]
    bins = diagnosis.summary["tail_bins"]
    tail = classes.loc[wrong["label"], "bin"].isin(bins).to_numpy()
    wrong = wrong.assign(tail=tail).sort_values(["tail", "boxes", "share"], ascending=False, kind="stable").head(PAIRS)
    mine, theirs = classes.loc[wrong["label"]], classes.loc[wrong["taker"]]
    unit = diagnosis.summary["unit"]
    return {
        "class": _texts(mine["name"]),
        f"its {unit}": _counts(mine["instance_count"]),
        "detected as": _texts(theirs["name"]),
        f"{unit} of that": _counts(theirs["instance_count"]),
        "boxes": _counts(wrong["boxes"]),
        "of its boxes": [cells.share(value) for value in wrong["share"]],
        "tail": _texts("yes" if value else "no" for value in wrong["tail"]),
    }


def _costs(costs: pd.DataFrame, rows: Mapping[str, str]) -> Columns:
    shown = costs[costs["ap50"].notna()]
    columns: Columns = {"classes of": _texts(rows[key] for key in shown.index), "AP50": _shares(shown["ap50"])}
    for kind in shown.drop(columns="ap50"):
        columns[str(kind)] = [(cells.shown_gain(value), value) for value in shown[kind]]
    return columns


def _scores(scores: pd.DataFrame, rows: Mapping[str, str]) -> Columns:
    shown = scores[scores["found"] > 0]
    columns: Columns = {
        "right detections of": _texts(rows[key] for key in shown.index),
        "number": _counts(shown["found"]),
    }
    for name, head in (("low", "5 % score below"), ("quarter", "25 %"), ("median", "50 %"),
                       ("three_quarters", "75 %"), ("high", "95 %")):  # fmt: skip
        columns[head] = [cells.number(value, 3) for value in shown[name]]
    for level in (0.05, 0.1, 0.3, 0.5):
        columns[f"boxes found at {level:g}".replace("0.", ".")] = _shares(shown[f"at_{level:g}"])
    return columns


def _points(points: pd.DataFrame, rows: Mapping[str, str]) -> Columns:
    by_strategy = {str(name): part.set_index("group") for name, part in points.groupby("strategy")}
    own = by_strategy["per class"]
    shown = own.index[own["f1"].notna()]
    columns: Columns = {"classes of": _texts(rows[key] for key in shown)}
    for strategy in ("at .5", "one for all classes", "one per bin", "per class"):
        columns[f"F1, {strategy}"] = _ranged(by_strategy[strategy].loc[shown], "f1")
    columns["gain of per class"] = _gains(own.loc[shown], "gain")
    for strategy in ("at .5", "per class"):
        for name in ("recall", "precision"):
            columns[f"{name}, {strategy}"] = _shares(by_strategy[strategy].loc[shown, name])
    return columns


def _gains(values: pd.DataFrame, name: str) -> list[Cell]:
    rows = values[[name, f"{name}_low", f"{name}_high"]].itertuples(index=False)
    return [(cells.shown_gain(*row), row[0]) for row in rows]


def _calibration(table: pd.DataFrame, rows: Mapping[str, str]) -> Columns:
    by_scores = {str(name): part.set_index("group") for name, part in table.groupby("scores")}
    before = by_scores["as it is"]
    shown = before.index[before["d_ece"].notna()]
    columns: Columns = {
        "classes of": _texts(rows[key] for key in shown),
        "detections": _counts(before.loc[shown, "detections"]),
    }
    for name, head in (("d_ece", "D-ECE"), ("laece", "LaECE")):
        columns[head] = _shares(before.loc[shown, name])
        for scores in ("Platt, per class", "isotonic, per class"):
            columns[f"{head} gain, {scores}"] = _gains(by_scores[scores].loc[shown], f"{name}_gain")
    return columns


def _pooled(table: pd.DataFrame, rows: Mapping[str, str]) -> Columns:
    by_scores = {str(name): part.set_index("group") for name, part in table.groupby("scores")}
    before = by_scores["as it is"]
    shown = before.index[before["ap_pool"].notna()]
    columns: Columns = {
        "classes of": _texts(rows[key] for key in shown),
        "pooled AP": _ranged(before.loc[shown], "ap_pool"),
    }
    for scores in ("Platt, per class", "isotonic, per class"):
        columns[f"gain, {scores}"] = _gains(by_scores[scores].loc[shown], "gain")
    return columns


def _classes(diagnosis: PredictionDiagnosis) -> Columns:
    table, unit = _listed(diagnosis.per_class), diagnosis.summary["unit"]
    columns: Columns = {
        "class": _texts(table["name"]),
        "id": [(str(number), number) for number in table["id"]],
        unit: _counts(table["instance_count"]),
        "bin": _counts(table["bin"]),
        "validation boxes": _counts(table["val_instances"]),
        "images": _counts(table["val_images"]),
        "AP": _ranged(table, "ap"),
        "AP50": _shares(table["ap50"]),
        "recall": _shares(table["recall"]),
        "Fixed AP": _shares(table["ap_fixed"]),
    }
    if "ap_mask" in table:
        columns["AP of masks"] = _shares(table["ap_mask"])
    columns |= {
        "named right": _shares(table["right"]),
        "as another": _shares(table["another"]),
        "no detection": _shares(table["undetected"]),
        "taken by": _texts(table["taken_by"]),
        "median score": [cells.number(value, 3) for value in table["score_median"]],
    }
    if len(diagnosis.thresholds):
        own, errors = diagnosis.thresholds.loc[table.index], diagnosis.calibration_by_class.loc[table.index]
        columns |= {
            "threshold": [cells.number(value) for value in own["threshold"]],
            "F1": _shares(own["f1"]),
            "F1, one for all": _shares(own["f1_one"]),
            "LaECE": _shares(errors["laece_before"]),
            "calibrated": _shares(errors["laece_isotonic"]),
        }
    return columns


def _listed(per_class: pd.DataFrame) -> pd.DataFrame:
    """Return the classes that are in the data or in the file, rarest first."""
    there = (per_class[["instance_count", "val_instances", "detections"]] > 0).any(axis=1)
    return per_class[there].sort_values(["instance_count", "name"], kind="stable")


def _few(per_class: pd.DataFrame) -> dict[str | None, str]:
    return {name: "few" for name in per_class["name"][per_class["few"]]}


def _facts(summary: Mapping[str, Any]) -> dict[str, Any]:
    provenance = summary["provenance"]
    return {
        "date": provenance["date"],
        "machine": provenance["machine"],
        "took": duration(summary["seconds"]),
        "predictions": summary["predictions"],
        **{name: value for name, value in summary["given"].items() if value is not None},
        "python": provenance["python"],
        **provenance["versions"],
    }
