"""The per-category table of a run (``per_category.csv``), which all other analyses are views of."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pandas as pd

from imbalance_bench.evaluation import measures
from imbalance_bench.evaluation.grouping import grouped, groups_in
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.files import write_atomically

Source: TypeAlias = pd.DataFrame | str | os.PathLike[str]

CATEGORY = ("name", "image_count", "instance_count", "frequency", "bin")
"""Columns that describe the category, the same in every run."""

COLUMNS = ("id", *CATEGORY, *measures.columns(optional=False))
"""Columns of every table."""

OPTIONAL = measures.columns(optional=True)
"""Columns that tables of earlier versions, and of some runs, do not have."""

SUFFIXES = (".csv", ".parquet")
"""File name suffixes that ``write`` accepts."""

_EMPTY = {column: [""] for column in (*COLUMNS, *OPTIONAL) if column != "name"}


def read(source: Source) -> pd.DataFrame:
    """Read a run's table, index ``label``: one row per category in label order; the last is background (no AP).

    Args:
        source: path of a ``per_category.csv`` (or the same as ``.parquet``), or the table itself.

    Raises:
        InputError: not a CSV file, or a column is missing or not numeric.
    """
    name = _name(source)
    if isinstance(source, pd.DataFrame):
        frame = source
    else:
        try:
            # A category may well be called "nan" or "None".
            read_csv = partial(pd.read_csv, keep_default_na=False, na_values=_EMPTY)
            read_parquet = partial(pd.read_parquet, engine="pyarrow")
            frame = (read_parquet if name.endswith(".parquet") else read_csv)(source)
        except FileNotFoundError as error:
            raise InputError(f"{name}: no such file, expected a run's per_category.csv") from error
        except (OSError, ValueError) as error:
            raise InputError(f"{name}: not readable as a table ({error})") from error
    if frame.index.name != "label":
        if "label" not in frame:
            raise InputError(f"{name}: field 'label' is missing")
        frame = frame.set_index("label")
    for column in COLUMNS:
        if column not in frame:
            raise InputError(f"{name}: field '{column}' is missing, expected {', '.join(COLUMNS)}")
        if column not in ("name", "frequency") and not pd.api.types.is_numeric_dtype(frame[column]):
            raise InputError(f"{name}: field '{column}' is not numeric")
    return frame


def _name(source: Source) -> str:
    return "per-category table" if isinstance(source, pd.DataFrame) else str(source)


def foreground(source: Source) -> pd.DataFrame:
    """Read a run's table without the background row."""
    return read(source).iloc[:-1]


def side_by_side(
    sources: Mapping[str, Source], view: Callable[[pd.DataFrame], pd.DataFrame], column: str
) -> pd.DataFrame:
    """Compute one column of a by-group view for several runs: one row per run, one column per group."""
    return pd.DataFrame({run: view(read(source))[column] for run, source in sources.items()}).T.rename_axis("run")


def join(sources: Mapping[str, Source]) -> pd.DataFrame:
    """Join the tables of several runs side by side on category id.

    Args:
        sources: tables or their paths, by name of the run.

    Returns:
        Index ``id`` in label order, background last; the columns of the category, then the measures of each run as
        ``<run>.<measure>``; NaN if a run does not have a measure.

    Raises:
        InputError: not per-category tables, or categories or counts that differ from those of the first table.
    """
    tables = {name: read(source).set_index("id") for name, source in sources.items()}
    first_name, first = next(iter(tables.items()))
    for name, table in tables.items():
        if not first.index.equals(table.index):
            strangers = first.index.symmetric_difference(table.index)
            what = f"category id {strangers[0]}" if len(strangers) else "the order of the ids"
            raise InputError(f"{name}: field 'id' is not as in {first_name} ({what}), expected the same categories")
        for column in ("name", "instance_count"):
            if not first[column].equals(table[column]):
                raise InputError(f"{name}: field '{column}' differs from {first_name}'s, expected the same data set")
    measured = [table.drop(columns=list(CATEGORY)).add_prefix(f"{name}.") for name, table in tables.items()]
    return pd.concat([first[list(CATEGORY)], *measured], axis=1)


def grouped_by(source: Source, measure: str, by: str = "bin", weights: str | None = None) -> pd.Series:
    """Compute the mean of a measure over each group of categories.

    Args:
        source: a run's per-category table or its path.
        measure: a column of the table.
        by: ``bin`` or ``frequency``.
        weights: a column with the counts that the measure is a rate over, as ``proposals`` for ``accuracy``; None: all
            categories have equal weight.

    Returns:
        Means over ``all`` categories, each group that is not empty, and ``background``; NaN if no category of the group
        has the measure.

    Raises:
        InputError: the table has no such column.
    """
    frame = read(source)
    for column in (measure, by, *([weights] if weights else ())):
        if column not in frame or (column != by and not pd.api.types.is_numeric_dtype(frame[column])):
            known = f"expected one of {', '.join(frame)}"
            why = "the version that made it did not measure it" if column in OPTIONAL else known
            raise InputError(f"{_name(source)}: no numeric field '{column}', {why}")
    return pd.Series(grouped(frame[measure], labels_by(frame, by), frame[weights] if weights else None), name=measure)


def labels_by(table: pd.DataFrame, by: str) -> dict[str, np.ndarray]:
    """Return the labels of ``all`` categories, of each group that is not empty, and of ``background``."""
    labels = table.index.to_numpy()
    return {"all": labels[:-1], **groups_in(table, by), "background": labels[-1:]}


def write(frame: pd.DataFrame, path: Path) -> Path:
    """Write a table as CSV or Parquet, by the suffix of the path; either complete or not at all.

    Raises:
        InputError: another suffix.
    """
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: expected a name that ends in .csv or .parquet")
    write_atomically(path, frame.to_csv if path.suffix == ".csv" else partial(frame.to_parquet, engine="pyarrow"))
    return path
