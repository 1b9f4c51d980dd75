"""The per-category table of a run (``per_category.csv``): the centre of the analyses, every other is a view of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TypeAlias

import pandas as pd

from imbalance_bench.errors import InputError

Source: TypeAlias = pd.DataFrame | str | os.PathLike[str]

COLUMNS = (
    "id", "name", "image_count", "instance_count", "frequency", "bin", "weight_norm", "bias",
    "val_instances", "ap", "ap50", "ap75", "recall", "proposals", "correct", "accuracy",
)  # fmt: skip

OPTIONAL = ("ap_fixed", "proposal_recall", "mean_score", "calibration_error")
"""Columns that tables of earlier versions do not have, the first nor a diagnosis'."""

_EMPTY = {column: [""] for column in (*COLUMNS, *OPTIONAL) if column != "name"}


def read(source: Source) -> pd.DataFrame:
    """A run's table, index ``label``: one row a category in label order, the last row background (id 0, no AP).

    Args:
        source: path of a ``per_category.csv``, or the table itself.

    Raises:
        InputError: not a CSV file, or a column is missing or not numeric.
    """
    if isinstance(source, pd.DataFrame):
        frame, name = source, "per-category table"
    else:
        name = str(source)
        try:
            # A category may well be called "nan" or "None".
            frame = pd.read_csv(source, keep_default_na=False, na_values=_EMPTY)
        except FileNotFoundError as error:
            raise InputError(f"{name}: no such file, expected a run's per_category.csv") from error
        except (OSError, ValueError) as error:
            raise InputError(f"{name}: not readable as CSV ({error})") from error
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


def foreground(source: Source) -> pd.DataFrame:
    """``read`` without the background row."""
    return read(source).iloc[:-1]


def side_by_side(
    sources: Mapping[str, Source], view: Callable[[pd.DataFrame], pd.DataFrame], column: str
) -> pd.DataFrame:
    """One column of a by-group view for several runs: a row a run, a column a group."""
    return pd.DataFrame({run: view(read(source))[column] for run, source in sources.items()}).T.rename_axis("run")
