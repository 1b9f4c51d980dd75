"""Results that are saved as a CSV file a table and a JSON file with everything, and read again."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from imbalance_bench.categories import read_json
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.files import write_json, write_text

Indexes = Mapping[str, str | None]
"""Names of tables, and the column that is the index of each; None for none."""


def save(folder: Path, file: str, summary: Mapping[str, Any], tables: Mapping[str, pd.DataFrame]) -> None:
    """Write one CSV file per table, then the summary, with the tables beside it under ``tables``."""
    for name, table in tables.items():
        write_text(folder / f"{name}.csv", table.to_csv(index=table.index.name is not None))
    records = {name: json.loads(table.to_json(orient="table"))["data"] for name, table in tables.items()}
    write_json(folder / file, {**summary, "tables": records})


def read(
    folder: Path, file: str, indexes: Indexes, words: Collection[str]
) -> tuple[dict[str, Any], dict[str, pd.DataFrame]]:
    """Read what ``save`` wrote.

    Args:
        folder: the folder.
        file: name of the JSON file.
        indexes: the tables.
        words: columns that hold text.

    Returns:
        The summary without ``tables``, and the tables.

    Raises:
        InputError: the folder does not hold this, or not all of it.
    """
    summary = read_json(folder / file)
    summary.pop("tables", None)
    tables = {}
    for name, index in indexes.items():
        path = folder / f"{name}.csv"
        try:
            # A category may well be called "nan".
            frame = pd.read_csv(path, keep_default_na=False, dtype=str)
            tables[name] = _typed(frame if index is None else frame.set_index(index), words)
        except (OSError, KeyError, ValueError) as error:
            raise InputError(f"{path}: not a table of a diagnosis ({error})") from error
    return summary, tables


def _typed(frame: pd.DataFrame, words: Collection[str]) -> pd.DataFrame:
    """Convert columns of text to numbers or booleans, an empty cell to NaN; columns of words stay text."""
    for column in frame:
        if column in words:
            continue
        if set(frame[column]) <= {"True", "False"}:
            frame[column] = frame[column] == "True"
        else:
            frame[column] = pd.to_numeric(frame[column].where(frame[column] != ""))
    if frame.index.name == "label":
        frame.index = frame.index.astype(int)
    return frame
