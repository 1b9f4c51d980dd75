"""Train counts from annotations, a CSV, or the validation file; names decide over ids; bins that suit few classes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_files import annotations

from imbalance_bench.categories import CategoryTable
from imbalance_bench.diagnosis.predictions import counts
from imbalance_bench.diagnosis.predictions.counts import Counted, binned, titles
from imbalance_bench.runtime.errors import InputError

VAL = annotations({3: "person", 5: "forklift"}, (6, 2), images=4)


def by_name(table: CategoryTable) -> dict[str, tuple[int, int]]:
    return {n: (int(i), int(c)) for n, i, c in zip(table.names, table.ids, table.instance_counts, strict=True)}


def test_annotations_with_the_same_ids() -> None:
    train = annotations({3: "person", 5: "forklift", 7: "crane"}, (90, 4, 1), images=10)
    found = counts.of_annotations(train, VAL, "train.json")
    assert by_name(found.categories) == {"person": (3, 90), "forklift": (5, 4), "crane": (7, 1)}
    assert (found.source, found.unit, found.notes) == ("the boxes of train.json", "train boxes", [])


def test_names_decide_over_ids() -> None:
    train = annotations({5: "person", 1: "crane", 2: "forklift"}, (90, 7, 4), images=10)
    found = counts.of_annotations(train, VAL, "train.json")
    assert by_name(found.categories) == {"person": (3, 90), "forklift": (5, 4), "crane": (6, 7)}
    assert "names decide" in found.notes[0]
    assert found.categories.listed_ids == (3, 5), "detections that count classes count those of validation"


def test_a_class_that_was_not_trained_on() -> None:
    train = annotations({9: "person", 8: "crane"}, (90, 7), images=10)
    found = counts.of_annotations(train, VAL, "train.json")
    assert by_name(found.categories) == {"person": (3, 90), "forklift": (5, 0), "crane": (6, 7)}
    assert "1 classes of validation are not in training: forklift" in found.notes[1]


@pytest.mark.parametrize(
    ("names", "line"),
    [
        ({1: "crane", 2: "car"}, "has none of the 2 classes of validation"),
        ({1: "person", 2: "person"}, "names stand twice in training: person"),
    ],
)
def test_other_classes_are_refused(names: dict[int, str], line: str) -> None:
    with pytest.raises(InputError, match=line):
        counts.of_annotations(annotations(names, (3, 3), images=2), VAL, "train.json")


@pytest.mark.parametrize(
    "text",
    [
        "name,count\nforklift,4\nperson,90\n",
        "id,instance_count\n5,4\n3,90\n",
        "﻿Name, Boxes \nforklift , 4\nperson, 90\nextra,1\n",
        "id,name,frequency,image_count,instance_count\n1,person,,,90\n2,forklift,,2,4\n",
    ],
)
def test_a_csv(text: str, tmp_path: Path) -> None:
    path = tmp_path / "counts.csv"
    path.write_text(text, encoding="utf-8")
    found = counts.of_csv(path, VAL)
    assert by_name(found.categories) == {"person": (3, 90), "forklift": (5, 4)}
    assert bool(found.notes) == ("extra" in text)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("name,count\nperson,90\n", "column 'name' lacks 1 of 2 classes: forklift"),
        ("name,count\nperson,90\nforklift,-4\n", "column 'count' has '-4', expected the number of train boxes"),
        ("name,count\nperson,90\nforklift,4e99\n", "column 'count' has '4e99'"),
        ("name,number\nperson,90\n", "found columns name, number, expected 'name' or 'id', and 'instance_count'"),
        ("", "not readable as CSV"),
    ],
)
def test_wrong_csvs(text: str, line: str, tmp_path: Path) -> None:
    path = tmp_path / "counts.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=line) as error:
        counts.of_csv(path, VAL)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_the_validation_file_itself() -> None:
    found = counts.of_validation(VAL)
    assert by_name(found.categories) == {"person": (3, 6), "forklift": (5, 2)}
    assert found.unit == "validation boxes" and "no train counts were given" in found.notes[0]
    stated = [{**c, "instance_count": n, "image_count": n} for c, n in zip(VAL["categories"], (70, 9), strict=True)]
    found = counts.of_validation({**VAL, "categories": stated})
    assert by_name(found.categories) == {"person": (3, 70), "forklift": (5, 9)}
    assert found.unit == "train boxes" and "stated" in found.source and not found.notes


def table(*instances: int) -> Counted:
    return Counted(CategoryTable.from_arrays(list(instances), names=[f"c{n}" for n in range(len(instances))]), "", [])


def test_few_classes_are_bins_of_their_own() -> None:
    three, notes = binned(table(900, 30, 200), None)
    assert three.bins.tolist() == [3, 1, 2] and three.tail_bins == [1] and not notes
    assert titles(three) == {"1": "c1", "2": "c2", "3": "c0"}
    same, _ = binned(table(30, 30, 200, 900), None)
    assert titles(same) == {"1": "c0, c1", "2": "c2", "3": "c3"}
    none, _ = binned(table(0, 30, 200), None)
    assert titles(none) == {"0": "c0", "1": "c1", "2": "c2"}


def test_without_a_rare_class_there_is_no_tail() -> None:
    for counted in (table(50, 50, 50), table(70), table(*[40] * 30)):
        found, _ = binned(counted, None)
        assert found.tail_bins == [] and set(found.bins) == {1}


def test_many_classes_and_edges_that_are_given() -> None:
    many = table(*np.geomspace(3, 3000, 40).astype(int).tolist())
    assert binned(many, None)[0].bin_edges == (10, 100, 1000)
    assert binned(many, (7, 70))[0].bin_edges == (7, 70)
    few = replace(many.categories, bin_edges=(5, 50))
    assert binned(many._replace(categories=few, has_edges=True), None)[0].bin_edges == (5, 50)
    chosen, notes = binned(table(*range(200, 260)), None)
    assert chosen.num_bins == 4 and "chosen from the counts" in notes[0]
    assert titles(chosen)["1"] == chosen.bin_names[0]


def test_stated_edges_are_of_the_training_file() -> None:
    train: dict[str, Any] = annotations({3: "person", 5: "forklift"}, (90, 4), images=10)
    found = counts.of_annotations({**train, "info": {"bin_edges": [50]}}, VAL, "train.json")
    assert binned(found, None)[0].bin_edges == (50,)
