"""What is found, said and recommended, from made measurements."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from imbalance_bench.categories import CategoryTable
from imbalance_bench.diagnosis.predictions import next_steps
from imbalance_bench.diagnosis.predictions.conclusions import find, sides, verdict

COMMAND = "imbalance-bench diagnose --config CONFIG.py"
THREE = CategoryTable.from_arrays([900, 12, 200], names=["person", "ladle", "kite"], bin_edges=(200, 900))
MANY = CategoryTable.from_arrays(np.geomspace(3, 3000, 40).astype(int), names=[f"c{n}" for n in range(40)])
SAME = replace(THREE, instance_counts=np.array([50, 55, 52]), bin_edges=())
EVEN = {"ap": (-0.01, -0.1, 0.08), "ap50": (-0.01, -0.1, 0.08), "right": (-0.02, -0.1, 0.05),
        "another": (0.01, -0.05, 0.06), "undetected": (0.01, -0.04, 0.05),
        "high_scores": (-0.03, -0.2, 0.1)}  # fmt: skip
"""Differences of tail and head with their intervals: nothing beyond chance."""


def contrast(**changes: tuple[float, float, float]) -> pd.DataFrame:
    rows = {**EVEN, **changes}
    head = {"ap": 0.5, "ap50": 0.7, "right": 0.8, "another": 0.1, "undetected": 0.1, "high_scores": 0.5}
    table = {
        name: {"tail": head[name] + difference, "head": head[name], "difference": difference, "low": low, "high": high}
        for name, (difference, low, high) in rows.items()
    }
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("measure")


LOWER = {"ap": (-0.3, -0.4, -0.2)}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "none"),
        (LOWER, "lower AP"),
        ({**LOWER, "another": (0.3, 0.1, 0.5)}, "confused"),
        ({**LOWER, "undetected": (0.3, 0.1, 0.5)}, "undetected"),
        ({"another": (0.3, 0.1, 0.5), "undetected": (0.2, 0.1, 0.3)}, "confused"),
        ({"another": (0.2, 0.1, 0.3), "undetected": (0.3, 0.1, 0.5)}, "undetected"),
        ({"another": (0.4, -0.1, 0.7), "undetected": (0.2, 0.1, 0.3)}, "undetected"),
        ({"high_scores": (-0.4, -0.5, -0.2)}, "low scores"),
        ({"high_scores": (-0.4, -0.5, -0.2), "another": (0.2, 0.1, 0.3)}, "confused"),
        ({"ap": (np.nan, np.nan, np.nan)}, "no boxes"),
    ],
)
def test_rules(changes: dict[str, Any], expected: str) -> None:
    assert find(contrast(**changes), THREE) == expected


def test_without_rare_classes() -> None:
    assert find(contrast(**LOWER), SAME) == "no tail"
    assert find(contrast(**LOWER), CategoryTable.from_arrays([9], bin_edges=())) == "no tail"


def test_sides_in_words() -> None:
    assert sides(THREE, "train boxes") == ("the rarest class (ladle; 12 train boxes)", "the other 2 classes")
    four = CategoryTable.from_arrays([900, 12, 200, 4], names=["a", "b", "c", "d"], bin_edges=(12, 200, 900))
    assert sides(four, "train boxes")[0] == "the 2 rarest classes (d, b; 4, 12 train boxes)"
    tail, head = sides(MANY, "validation boxes")
    assert tail == f"the {len(MANY.tail_labels)} classes of the tail (fewer than 100 validation boxes)"
    assert head == f"the other {len(MANY.head_labels)} classes"


def words(changes: dict[str, Any], categories: CategoryTable = THREE, boxes: int = 400, lowest: float = 0.001) -> str:
    table = contrast(**changes)
    bins = pd.DataFrame(
        {"val_instances": boxes, "ap": 0.4, "ap_low": 0.3, "ap_high": 0.5}, index=["all", "tail", "head"]
    )
    classes = categories.frame().assign(val_instances=boxes, few=boxes < 10)
    found: Any = SimpleNamespace(contrast=table, bins=bins, per_class=classes)
    return " ".join(verdict(find(table, categories), found, categories, "train boxes", lowest))


def test_the_verdict_says_what_is_sure() -> None:
    lower = words(LOWER)
    assert lower.startswith(
        "Rare classes do worse. AP is 20.0 on the rarest class (ladle; 12 train boxes), and 50.0 on"
    )
    assert "30.0 points lower (95 % interval over images 20.0 to 40.0)" in lower
    assert "fewer than" not in lower and "written with a threshold" not in lower
    assert words({}).startswith("It cannot be told from these images whether rare classes do worse.")
    assert words({"ap": (0.2, 0.1, 0.3)}).startswith("Rare classes do not do worse, but better.")
    assert "so none is rare. AP is 40.0 (95 % interval over images 30.0 to 50.0)" in words({}, SAME)
    assert "nothing can be said about rare and frequent" in words({}, CategoryTable.from_arrays([9], bin_edges=()))
    assert words({"ap": (np.nan,) * 3}).startswith("No validation box is of the rarest class (ladle; 12 train boxes)")


def test_the_verdict_says_what_rests_on_few_boxes() -> None:
    few = words(LOWER, boxes=7)
    assert "3 of 3 classes have fewer than 10 validation boxes (person, ladle, kite)" in few
    assert "The tail rests on 7 validation boxes in all." in few
    assert "Of the 7 objects of the tail, the best detection is of their own class for 5" in few, "no percents of seven"
    assert "No score in the file is below 0.25: it was written with a threshold" in words({}, lowest=0.25)


def advice(changes: dict[str, Any], lowest: float = 0.001, gain: tuple[float, float, float] | None = None) -> Any:
    table = contrast(**changes)
    costs = pd.DataFrame({"ap50": [0.3, 0.5], "classification": [0.2, 0.1], "localisation": [0.1, 0.15]},
                         index=pd.Index(["all", "1"], name="bin"))  # fmt: skip
    points = pd.DataFrame()
    if gain is not None:
        rows = [("per class", "all", 0.0, 0.0, 0.0), ("at .5", "1", -0.5, -0.6, -0.4), ("per class", "1", *gain)]
        points = pd.DataFrame(rows, columns=["strategy", "bin", "gain", "gain_low", "gain_high"])
    return next_steps.advise(find(table, THREE), table, costs, points, lowest, COMMAND)


def test_what_to_do_follows_from_what_is_found() -> None:
    confused = advice({"another": (0.3, 0.1, 0.5)})
    assert "Treat the classifier" in confused.do and confused.command == COMMAND and "2006.10408" in confused.paper
    assert "30 of 100 more (95 % interval 10 to 50) of the tail" in confused.why
    assert "Until then" not in confused.do
    helped = advice({"another": (0.3, 0.1, 0.5)}, gain=(0.1, 0.05, 0.2)).do
    assert (
        "Until then, thresholds of each class (thresholds.yaml) change F1 of the rarest bin by +10.0 points" in helped
    )
    missed = advice({"undetected": (0.3, 0.1, 0.5)})
    assert "Add data of the tail" in missed.do and "1908.03195" in missed.paper
    assert "First write the file with a score threshold" in advice({"undetected": (0.3, 0.1, 0.5)}, lowest=0.25).do
    assert "'localisation' costs most" in advice(LOWER).do
    assert "Do nothing about imbalance" in advice({}).do
    assert "Annotate validation images" in advice({"ap": (np.nan,) * 3}).do


def test_thresholds_are_recommended_only_if_they_help() -> None:
    low = {"high_scores": (-0.4, -0.5, -0.2)}
    helps = advice(low, gain=(0.1, 0.05, 0.2))
    assert "Use a score threshold for each class" in helps.do and "+10.0 points" in helps.do and not helps.command
    for gain in ((-0.06, -0.13, 0.02), (0.05, -0.01, 0.1), None):
        harms = advice(low, gain=gain)
        assert "Lower the score threshold for the tail" in harms.do
        assert "--calibration-predictions" in harms.command


def test_what_files_cannot_tell() -> None:
    command = next_steps.with_checkpoint("counts.csv", "my val.json")
    assert "--train-annotations TRAIN.json --val-annotations 'my val.json'" in command
    assert [item["command"] for item in next_steps.unknown(command, held_out=True)].count(command) == 1
    assert len(next_steps.unknown(command, held_out=False)) == len(next_steps.unknown(command, held_out=True)) + 1
