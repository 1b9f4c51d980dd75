"""Charts of a diagnosis from files; each function takes tables of the diagnosis."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import pandas as pd

from imbalance_bench.diagnosis.predictions.measure import FEW
from imbalance_bench.pages.cells import shown_percent
from imbalance_bench.pages.charts import Axis, Chart, Point, Series, bars, curves, scatter, stacked
from imbalance_bench.pages.looks import Look
from imbalance_bench.pages.matrix import Square, matrix
from imbalance_bench.plotting import WRONG, bin_colour

MOST = 80
"""Classes up to which a matrix of confusions is drawn."""
_SHARES = Axis("", 0, 100, tuple((float(value), f"{value}") for value in range(0, 101, 20)))
_SCORES = Axis("", 0, 1, tuple((value / 10, f"{value / 10:g}".lstrip("0") or "0") for value in range(0, 11, 2)))
LONGEST = 14
"""Letters of a name beside a matrix."""
SHORTER = {"classification": "wrong\nclass", "localisation": "wrong\nplace", "both": "both\nwrong",
           "duplicate": "dupli-\ncate", "background": "back-\nground"}  # fmt: skip
"""Kinds of errors in fewer letters."""
_NONE, _RIGHT, _OTHER = Look("#767676"), Look("#009e73"), Look(WRONG)
_DOT = "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0Z"


def keys(frame: pd.DataFrame) -> list[str]:
    """Return the keys of the bins that have a validation box, rarest first."""
    known = frame.index[frame["val_instances"] > 0]
    return [key for key in known if key.isdigit()]


def look(key: str, titles: Mapping[str, str]) -> Look:
    """Return the look of a bin."""
    return Look(bin_colour(int(key), max(map(int, titles))), _DOT)


def ap(bins: pd.DataFrame, titles: Mapping[str, str], unit: str) -> Chart:
    """Draw AP and AP50 of each bin, with intervals over images."""
    shown, series = keys(bins), []
    for name, head, face in (("ap50", "AP50", Look("#c9d0d8")), ("ap", "AP", Look("#76818e"))):
        values = 100 * bins.loc[shown, [name, f"{name}_low", f"{name}_high"]]
        tips = [
            f"{titles[key]}\n{head} {row[name]:.1f} [{row[f'{name}_low']:.1f}, {row[f'{name}_high']:.1f}]\n"
            f"{bins.loc[key, 'classes_with_boxes']:.0f} classes, {bins.loc[key, 'val_instances']:,.0f} validation boxes"
            for key, row in values.iterrows()
        ]  # fmt: skip
        ranges = [(row.iloc[1], row.iloc[2]) for _, row in values.iterrows()]
        series.append(Series(head, values[name].tolist(), tips, face, ranges=ranges))
    groups = [f"{titles[key]}\n{bins.loc[key, 'val_instances']:,.0f} boxes" for key in shown]
    ends = [end for one in series for pair in one.ranges for end in pair]
    caption = (
        f"Bins by {unit}, rarest on the left, each with its number of validation boxes; 95 % intervals over images."
    )
    return bars(groups, series, Axis.over("AP (%)", ends), caption)


def classes(per_class: pd.DataFrame, titles: Mapping[str, str], unit: str) -> Chart | None:
    """Draw AP of each class against its train boxes; None if there are too few to see anything."""
    shown = per_class[(per_class["bin"] > 0) & per_class["ap"].notna()]
    if len(shown) < 4 or shown["instance_count"].nunique() < 3:
        return None
    points = [
        Point(
            row["instance_count"], 100 * row["ap"],
            f"{row['name']}\nAP {100 * row['ap']:.1f} [{100 * row['ap_low']:.1f}, {100 * row['ap_high']:.1f}]\n"
            f"{row['instance_count']:,} {unit}, {row['val_instances']:,.0f} to validate",
            Look(bin_colour(int(row["bin"]), max(map(int, titles))), _DOT, is_hollow=bool(row["few"])),
            label=str(row["name"]) if len(shown) <= MOST else "",
            y_range=(100 * row["ap_low"], 100 * row["ap_high"]) if len(shown) <= MOST else None,
        )
        for _, row in shown.iterrows()
    ]  # fmt: skip
    x = Axis.log(f"{unit} of the class", shown["instance_count"])
    y = Axis.over("AP (%)", [0, *(100 * shown["ap"])])
    return scatter(points, x, y, "AP of each class. Hollow: fewer than ten validation boxes.")


def confusion(confusions: pd.DataFrame, per_class: pd.DataFrame) -> Chart | None:
    """Draw the shares of each class's boxes by the class of the best detection; None for too many classes."""
    present = set(confusions["label"]) | set(confusions["taker"][confusions["taker"] >= 0])
    order = per_class.loc[sorted(present)].sort_values("instance_count", ascending=False, kind="stable")
    if not 1 < len(order) <= MOST:
        return None
    place = {label: number for number, label in enumerate(order.index)} | {-1: len(order)}
    names = [short(name) for name in order["name"]]
    squares = []
    for row in confusions.itertuples(index=False):
        mine, taker = per_class.loc[row.label], "no detection"
        if row.taker >= 0:
            taker = "right" if row.taker == row.label else f"detected as {per_class.loc[row.taker, 'name']}"
        tip = f"{mine['name']}\n{taker}: {row.boxes:,} of {mine['val_instances']:,.0f} boxes ({row.share:.0%})"
        face = _NONE if row.taker < 0 else _RIGHT if row.taker == row.label else _OTHER
        squares.append(Square(place[row.label], place[row.taker], row.share, tip, face))
    return matrix(
        names, [*names, "no detection"], squares,
        "Shares of each class's validation boxes, in percent; frequent classes first. What is wrong and left of the "
        "diagonal goes to a more frequent class.",
        ("class of the best detection", "class of the box"), ((_RIGHT, "right"), (_OTHER, "another class"),
        (_NONE, "no detection")),
    )  # fmt: skip


def short(name: str) -> str:
    """Return a name that fits beside a matrix on a phone; the text under the pointer has all of it."""
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


def boxes(shares: pd.DataFrame, bins: pd.DataFrame, titles: Mapping[str, str]) -> Chart:
    """Draw the shares of each bin's boxes by the bin of the best detection on each."""
    shown, series = keys(bins), []
    for column in shares.drop(columns="missed"):
        key = column.removeprefix("bin ")
        name = f"detected as another class, {titles[key]}" if column.startswith("bin ") else column
        face = look(key, titles) if column.startswith("bin ") else _RIGHT if column == "right" else _NONE
        values = 100 * shares.loc[shown, column]
        if not values.any():
            continue
        tips = [
            f"{titles[own]}\n{name}: {value:.0f} % of {bins.loc[own, 'val_instances']:,.0f} boxes"
            for own, value in values.items()
        ]
        series.append(Series(name, values.tolist(), tips, face))
    groups = [f"{titles[key]}\n{bins.loc[key, 'val_instances']:,.0f} boxes" for key in shown]
    caption = "Whose detection is the best on each bin's boxes, however low its score."
    return stacked(groups, series, replace(_SHARES, label="validation boxes (%)"), caption)


def costs(table: pd.DataFrame, bins: pd.DataFrame, titles: Mapping[str, str]) -> Chart:
    """Draw the rise of AP50 where errors of one kind are corrected, by kind and bin."""
    shown, kinds = keys(bins), [column for column in table if column != "ap50"]
    series = []
    for key in shown:
        values = (100 * table.loc[key, kinds]).tolist()
        tips = [f"{titles[key]}\n{kind}: {value:+.1f} AP50" for kind, value in zip(kinds, values, strict=True)]
        series.append(Series(titles[key], values, tips, look(key, titles)))
    ends = [value for one in series for value in one.numbers]
    axis = Axis.over("AP50 gained (points)", ends)
    texts = [SHORTER.get(kind, kind) for kind in kinds]
    return bars(texts, series, axis, "What the correction of all errors of a kind would give.")


def found(scores: pd.DataFrame, bins: pd.DataFrame, titles: Mapping[str, str]) -> Chart:
    """Draw the share of each bin's boxes that is found at or above a score."""
    names = [str(name) for name in scores if str(name).startswith("at_")]
    places = [float(name.removeprefix("at_")) for name in names]
    series = []
    for key in keys(bins):
        shares = scores.loc[key, names].to_numpy(dtype=float)
        points = zip(places, shares, strict=True)
        tips = [f"{titles[key]}\nat {place:g}: {share:.0%} found" for place, share in points]
        series.append(Series(titles[key], (100 * shares).tolist(), tips, look(key, titles)))
    ticks = tuple((place, f"{place:g}".removeprefix("0")) for place in places if f"{place:g}"[-1] in "135")
    return curves(series, Axis("score threshold", places[0], 1, ticks, is_log=True), places,
                  replace(_SHARES, label="boxes found (%)"),
                  "Validation boxes matched by a right detection (IoU .5) at or above a score: what one threshold for "
                  "all classes keeps of each bin.")  # fmt: skip


def reliability(histogram: pd.DataFrame, bins: pd.DataFrame, titles: Mapping[str, str]) -> Chart:
    """Draw the precision of detections by their score, by bin of the predicted class."""
    places, series = [(step + 0.5) / 20 for step in range(20)], []
    for key in keys(bins):
        own = histogram[histogram["group"] == key]
        own = own.set_index((20 * own["low"]).round().astype(int))
        values, tips = [], []
        for step in range(20):
            row = own.loc[step] if step in own.index else None
            row = None if row is None or row["proposals"] < FEW else row
            values.append(math.nan if row is None else 100 * row["accuracy"])
            tips.append("" if row is None else f"{titles[key]}\nscore {row['low']:.2f} to {row['high']:.2f}: "
                        f"{shown_percent(row['accuracy'])} % right\nof {row['proposals']:,.0f} detections")  # fmt: skip
        series.append(Series(titles[key], values, tips, look(key, titles)))
    same = Series("score = precision", [100 * place for place in places], ["score = precision"] * 20,
                  Look("#b0b8c2"))  # fmt: skip
    return curves([same, *series], replace(_SCORES, label="score"), places,
                  replace(_SHARES, label="right at IoU .5 (%)"),
                  "Precision of detections by their score, by bin of the predicted class; on the grey line a score is "
                  f"the chance to be right. Steps of fewer than {FEW} detections are left out.")  # fmt: skip
