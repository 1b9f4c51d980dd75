"""The page of two files of detections side by side: which differences are real, by bin and by class."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import pandas as pd

from imbalance_bench.categories import CategoryTable
from imbalance_bench.evaluation.measures import AP
from imbalance_bench.evaluation.uncertainty import FEWEST_IMAGES
from imbalance_bench.pages import cells, html, looks
from imbalance_bench.pages.cells import shown_gain, shown_percent
from imbalance_bench.pages.charts import Axis, Chart, Point, Series, bars, scatter

VERDICTS = {"b": looks.BETTER, "a": looks.WORSE, "neither": looks.NO_DIFFERENCE, "few": looks.TOO_FEW}
"""What is said of a class, and how it is drawn."""


def render(
    names: tuple[str, str],
    groups: pd.DataFrame,
    classes: pd.DataFrame,
    categories: CategoryTable,
    protocol: Sequence[str] = (),
    facts: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Fill the template ``comparison.html``.

    Args:
        names: names of the two files, a and b.
        groups: result of ``uncertainty.paired``.
        classes: result of ``uncertainty.paired_classes``.
        categories: classes of both files.
        protocol: lines on the rules of the evaluation.
        facts: where it comes from, by name.
    """
    groups = groups.dropna(subset="difference").join(_behind(classes, categories))
    said = pd.Series([_verdict(row) for row in classes.itertuples()], index=classes.index, dtype=object)
    return html.render(
        __package__,
        "comparison.html",
        title=f"{names[1]} against {names[0]}",
        names=names,
        conclusions=conclusions(names, groups, classes, categories),
        charts={"bins": _by_bin(names, groups), "classes": _by_class(names, classes, said)},
        groups=_groups(names, groups),
        classes=_classes(names, classes, said),
        bins_line=categories.bins_line,
        protocol=protocol,
        facts=facts,
    )


def conclusions(
    names: tuple[str, str], groups: pd.DataFrame, classes: pd.DataFrame, categories: CategoryTable
) -> list[str]:
    """Write what the comparison says: on all classes, by bin, by class, and what it does not say."""
    lines = []
    if "mAP" in groups.index:
        row = groups.loc["mAP"]
        lines.append(
            f"{names[1]} has an mAP of {shown_percent(row['b'])}, {names[0]} of {shown_percent(row['a'])}: "
            f"{shown_gain(row['difference'], row['images_low'], row['images_high'])} points, "
            f"{'a real difference' if row['real'] else 'which may be chance'}."
        )
    bins = groups[[name[2:].isdigit() for name in groups.index]]
    for better, name in ((1, names[1]), (-1, names[0])):
        found = bins[bins["real"] & (bins["difference"] * better > 0)]
        if len(found):
            listed = ", ".join(f"bin {key[2:]} ({shown_gain(row['difference'])})" for key, row in found.iterrows())
            lines.append(f"By bin of train instances, {name} is better in {listed}.")
    if not bins["real"].any():
        lines.append("In no bin of train instances the difference is beyond chance.")
    judged, real = classes["p"].notna().sum(), classes[classes["real"]]
    few = (classes["difference"].notna() & classes["p"].isna()).sum()
    up = (real["difference"] > 0).sum()
    lines.append(
        f"By class, {len(real)} of {judged} differ beyond chance: {up} in favour of {names[1]}, {len(real) - up} of "
        f"{names[0]} (adjusted for {judged} comparisons: of those named, about 1 in 20 is chance)."
        + (f" {few} more with boxes in fewer than {FEWEST_IMAGES} images: too few to judge alone." if few else "")
    )
    lines.append(
        "This holds for these two files on images like these. Another training seed may give another result: train "
        "several to compare methods."
    )
    return lines


def _behind(classes: pd.DataFrame, categories: CategoryTable) -> pd.DataFrame:
    """Return the number of classes with validation boxes, and of their boxes, of each measure."""
    (means,) = AP.means
    rows = {}
    for name, labels in means.groups(categories).items():
        boxes = classes.loc[labels, "val_instances"]
        rows[name] = {"classes": int((boxes > 0).sum()), "boxes": int(boxes.sum())}
    return pd.DataFrame.from_dict(rows, orient="index")


def _verdict(row: Any) -> str:
    if math.isnan(row.p):
        return "few"
    if not row.real:
        return "neither"
    return "b" if row.difference > 0 else "a"


def _words(names: tuple[str, str]) -> dict[str, str]:
    return {
        "b": f"{names[1]} better",
        "a": f"{names[0]} better",
        "neither": "no difference beyond chance",
        "few": f"fewer than {FEWEST_IMAGES} images",
    }


def _by_bin(names: tuple[str, str], groups: pd.DataFrame) -> Chart:
    """Draw the AP of both files by bin, and of all classes."""
    rows = groups[[name == "mAP" or name[2:].isdigit() for name in groups.index]]
    texts = [
        f"{'all' if name == 'mAP' else f'bin {name[2:]}'}\n{row['classes']:,} classes" for name, row in rows.iterrows()
    ]
    series = []
    for column, name, look in zip("ab", names, (looks.FIRST, looks.SECOND), strict=True):
        tips = [
            f"{name}\n{text.replace(chr(10), ', ')}, {row['boxes']:,} boxes\nAP {shown_percent(row[column])}"
            for text, (_, row) in zip(texts, rows.iterrows(), strict=True)
        ]
        series.append(Series(name, (100 * rows[column]).tolist(), tips, look))
    y = Axis.over("AP (%)", 100 * rows[["a", "b"]].to_numpy().ravel())
    return bars(texts, series, y, "AP of both by bin of train instances.")


def _by_class(names: tuple[str, str], classes: pd.DataFrame, said: pd.Series) -> Chart:
    """Draw the difference in each class against its train instances."""
    known = classes[classes["difference"].notna()]
    words = _words(names)
    points = [
        Point(
            max(row.instance_count, 0.5),
            100 * row.difference,
            f"{row.name}\n{row.instance_count:,} train instances, {row.val_instances:,} validation boxes\n"
            f"AP {shown_percent(row.a)} and {shown_percent(row.b)}: {_difference(row)}\n{words[said[row.Index]]}",
            VERDICTS[said[row.Index]],
            str(row.name),
            str(row.name) if row.real else "",
            is_strong=bool(row.real),
        )
        for row in known.itertuples()
    ]  # fmt: skip
    x = Axis.log("train instances of the class", [point.x for point in points])
    y = Axis.over(f"AP of {names[1]} less that of {names[0]} (points)", [point.y for point in points])
    legend = tuple((look, words[name]) for name, look in VERDICTS.items() if (said[known.index] == name).any())
    return scatter(points, x, y, "Each point is a class; above zero, the second file is better.", legend)


def _difference(row: Any) -> str:
    chance = "" if math.isnan(row.chance) else f" (chance alone: ±{shown_percent(row.chance)})"
    return f"{shown_gain(row.difference)} points{chance}"


def _groups(names: tuple[str, str], groups: pd.DataFrame) -> dict[str, Any]:
    axis = Axis.over("", 100 * groups[["images_low", "images_high"]].to_numpy().ravel())
    ends = groups[["difference", "images_low", "images_high"]].itertuples(index=False)
    columns: dict[str, list[html.Cell]] = {
        "group": [cells.text(name) for name in groups.index],
        "classes": [cells.count(value) for value in groups["classes"]],
        "boxes": [cells.count(value) for value in groups["boxes"]],
        f"AP of {names[0]}": [cells.percent(value) for value in groups["a"]],
        f"AP of {names[1]}": [cells.percent(value) for value in groups["b"]],
        "difference": [cells.gain(value, low, high, axis) for value, low, high in ends],
        "real": [cells.text("yes" if real else "no") for real in groups["real"]],
    }
    return html.table(columns, notes={"difference": "95 % over images"})


def _classes(names: tuple[str, str], classes: pd.DataFrame, said: pd.Series) -> dict[str, Any]:
    frame = classes[classes["difference"].notna()]
    frame = frame.loc[frame["difference"].abs().sort_values(ascending=False, kind="stable").index]
    words = _words(names)
    axis = Axis.over("", 100 * frame["difference"])
    columns: dict[str, list[html.Cell]] = {
        "class": [cells.text(name) for name in frame["name"]],
        "difference": [
            cells.gain(value, value - chance, value + chance, axis)
            for value, chance in zip(frame["difference"], frame["chance"], strict=True)
        ],
        "verdict": [cells.text(words[said[label]]) for label in frame.index],
        f"AP of {names[0]}": [cells.percent(value) for value in frame["a"]],
        f"AP of {names[1]}": [cells.percent(value) for value in frame["b"]],
        "bin": [cells.count(value) for value in frame["bin"]],
        "train instances": [cells.count(value) for value in frame["instance_count"]],
        "boxes": [cells.count(value) for value in frame["val_instances"]],
        "images": [cells.count(value) for value in frame["val_images"]],
        "q": [cells.number(value, 3) for value in frame["q"]],
    }  # fmt: skip
    notes = {"difference": "± what chance gives", "boxes": "validation", "images": "validation", "q": "adjusted p"}
    return html.table(columns, keys=[str(name) for name in frame["name"]], notes=notes)
