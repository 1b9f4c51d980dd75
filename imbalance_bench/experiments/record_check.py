"""Checks of a run's record and per-category table: what results/contributed asks for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd

from imbalance_bench.categories import read_json
from imbalance_bench.evaluation import per_category
from imbalance_bench.evaluation.grouping import grouped
from imbalance_bench.evaluation.measures import MEASURES
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.files import numbers_of, sha256

TOLERANCE = 1e-6
"""Between a metric and the mean of its column: tables are written with fewer digits than floats have."""
_PRIVATE = re.compile(r"(?:^|[\s='\"])(?:[A-Za-z]:\\|~?/)\S*")
"""An absolute path, or one of somebody's home folder."""


@cache
def schema() -> dict[str, Any]:
    """Return the JSON Schema of ``record.json``."""
    content: dict[str, Any] = json.loads((files(__package__) / "record.schema.json").read_text(encoding="utf-8"))
    return content


def problems(folder: Path) -> list[str]:
    """List what is wrong with the record and the table of a run folder, or of an exported copy.

    Checked are the record's fields (``schema``), paths of one machine in it, the checksum of the table where the record
    has one, shares outside of 0 to 1, and whether the metrics are the means of the table's columns.

    Args:
        folder: with ``record.json`` and ``per_category.csv``.

    Returns:
        One line each, which names file, field and expectation.
    """
    try:
        record, table = read_json(folder / "record.json"), per_category.read(folder / "per_category.csv")
    except InputError as error:
        return [str(error)]
    wrong = [f"{folder / 'record.json'}: {problem}" for problem in (*_of_fields(record), *_of_paths(record))]
    if not wrong:
        wrong += [f"{folder / 'record.json'}: {problem}" for problem in _of_means(record, table)]
    wrong += [f"{folder / 'per_category.csv'}: {problem}" for problem in _of_values(table)]
    written = record.get("sha256", {})
    if "per_category.csv" in written and written["per_category.csv"] != sha256(folder / "per_category.csv"):
        wrong.append(f"{folder / 'per_category.csv'}: changed since the run, expected the checksum in record.json")
    return wrong


def _of_fields(record: dict[str, Any]) -> Iterator[str]:
    from jsonschema import Draft202012Validator

    for error in Draft202012Validator(schema()).iter_errors(record):
        field = error.json_path.removeprefix("$.").removeprefix("$") or "record"
        yield f"field '{field}': {error.message}"


def _of_paths(content: Any, field: str = "") -> Iterator[str]:
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _of_paths(value, f"{field}.{key}" if field else key)
    elif isinstance(content, list):
        for value in content:
            yield from _of_paths(value, field)
    elif isinstance(content, str) and (found := _PRIVATE.search(content)):
        yield f"field '{field}' names a path of one machine ({found[0].strip()}), expected relative paths"


def _of_means(record: dict[str, Any], table: pd.DataFrame) -> Iterator[str]:
    metrics, edges = numbers_of(record["metrics"]), record["settings"]["bin_edges"]
    if (most := int(table["bin"].iloc[:-1].max())) > len(edges) + 1:
        yield f"field 'settings.bin_edges' makes {len(edges) + 1} bins, expected {most} as in per_category.csv"
    for measure in MEASURES:
        for means in measure.means:
            if means.column not in table:
                continue
            weights = None if means.weights is None else table[means.weights]
            for key, value in grouped(table[means.column], means.groups_in(table), weights).items():
                told = metrics.get(f"{key}{means.suffix}")
                if told is not None and abs(told - value) > TOLERANCE:
                    yield (
                        f"field 'metrics.{key}{means.suffix}' is {told:.6f}, expected {value:.6f}, the mean of column "
                        f"'{means.column}'"
                    )


def _of_values(table: pd.DataFrame) -> Iterator[str]:
    for measure in MEASURES:
        for column in measure.columns if measure.unit == "percent" else ():
            if column in table and column not in measure.counts and not table[column].dropna().between(0, 1).all():
                yield f"column '{column}' has values outside of 0 to 1, expected shares"
