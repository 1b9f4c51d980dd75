"""Records that hold arrays are compared by value, and never raise."""

import dataclasses
import importlib
import pkgutil
import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import imbalance_bench
from imbalance_bench.categories import CategoryTable
from imbalance_bench.checkpoints.formats import Checkpoint
from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.runtime.equality import ByValue


def table(*counts: int, edges: tuple[int, ...] = (10, 100)) -> CategoryTable:
    number, instances = len(counts), np.array(counts)
    return CategoryTable(
        np.arange(number), tuple(map(str, range(number))), instances, instances, ("r",) * number, edges
    )


def test_every_record_with_an_array_is_compared_by_value() -> None:
    found = set()
    for module in pkgutil.walk_packages(imbalance_bench.__path__, "imbalance_bench."):
        if ".ultralytics." in module.name and find_spec("ultralytics") is None:
            continue  # not in the extra of the tests, for its licence
        for record in vars(importlib.import_module(module.name)).values():
            if isinstance(record, type) and dataclasses.is_dataclass(record):
                kinds = " ".join(kind for f in dataclasses.fields(record) if "Callable" not in (kind := str(f.type)))
                if re.search(r"ndarray|Tensor|DataFrame|Series|ShardedRows|CategoryTable", kinds):
                    assert record.__eq__ is ByValue.__eq__, record
                    found.add(record.__name__)
    assert {"CategoryTable", "Detections", "Diagnosis", "GroundTruth", "Matches", "ProposalSet"} <= found


def test_equal_and_different_tables() -> None:
    assert table(1, 2) == table(1, 2)
    assert table(1, 2) != table(1, 3)
    assert table(1, 2) != table(1, 2, 3)
    assert table(1, 2) != table(1, 2, edges=(10,))
    assert table(1, 2) != "a table" and table(1, 2) in [table(3), table(1, 2)]


def detections(scores: list[float]) -> Detections:
    rows = np.arange(len(scores))
    return Detections(rows, rows, np.zeros((len(scores), 4), np.float32), np.array(scores, np.float32))


def test_nan_equals_nan_and_shapes_are_looked_at() -> None:
    some = np.array([0.1, np.nan])
    assert Of(some) == Of(some.copy()) and Of(some) != Of(np.array([0.1, 0.2]))
    assert detections([0.1, 0.3]) == detections([0.1, 0.3])
    assert detections([0.1, 0.3]) != detections([0.1, 0.2])
    assert detections([0.1]) != detections([0.1, 0.1])
    assert detections([]) == detections([])


def checkpoint(value: float) -> Checkpoint:
    return Checkpoint(Path("a.pth"), {"state_dict": {"w": torch.tensor([value, 1.0])}}, {"epoch": 1})


def test_tensors_in_dictionaries() -> None:
    assert checkpoint(2.0) == checkpoint(2.0)
    assert checkpoint(float("nan")) == checkpoint(float("nan"))
    assert checkpoint(2.0) != checkpoint(3.0)


@dataclasses.dataclass(eq=False)
class Of(ByValue):
    value: object


def test_values_of_all_kinds() -> None:
    frame = pd.DataFrame({"a": [1.0, np.nan]})
    for one, other in ((frame, frame.copy()), (1, 1.0), (float("nan"), float("nan")), ([1, "a"], [1, "a"]), ({}, {})):
        assert Of(one) == Of(other)
    for one, other in ((frame, frame + 1), (frame, None), (None, np.zeros(2)), (np.zeros(2), [0, 0]), ({"a": 1}, {})):
        assert Of(one) != Of(other)
        assert Of(other) != Of(one)


def test_what_can_be_changed_in_place_has_no_hash() -> None:
    """An array can be, also in a frozen record: a hash of its values would not stay, one of its place would not be of
    its value.
    """
    for record in (table(1, 2), detections([0.1]), checkpoint(2.0)):
        with pytest.raises(TypeError, match=f"unhashable type: '{type(record).__name__}'"):
            hash(record)
