"""Errors in each bin: kinds of errors, their cost in AP, and which classes the boxes are detected as."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from imbalance_bench.categories import CategoryTable
from imbalance_bench.evaluation.error_analysis import Errors, box_outcomes, counts, gains
from imbalance_bench.evaluation.grouping import bin_groups, grouped, shares
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.files import write_text

DETECTIONS, BOXES, GAINS = "best detections", "boxes", "gains in AP50"
_PREFIXES = {DETECTIONS: "best ", BOXES: "box ", GAINS: "gain "}


def per_category(errors: Errors, overlaps: np.ndarray | None = None) -> pd.DataFrame:
    """Join the tables of ``evaluation.error_analysis`` into one, index ``label``.

    Args:
        errors: result of ``analyse``.
        overlaps: result of ``coverage.best_overlaps``.

    Returns:
        Columns ``best ...``, from ``counts``; ``box ...``, from ``box_outcomes``; ``boxes`` and ``missed``; ``ap50``
        and ``gain ...``, from ``gains``.
    """
    best = counts(errors)
    boxes = best[["boxes", "missed"]]
    gained = gains(errors)
    return pd.concat(
        [
            best.drop(columns=["boxes", "missed"]).add_prefix(_PREFIXES[DETECTIONS]),
            box_outcomes(errors, overlaps).add_prefix(_PREFIXES[BOXES]),
            boxes,
            gained[["ap50"]],
            gained.drop(columns="ap50").add_prefix(_PREFIXES[GAINS]),
        ],
        axis=1,
    )


def by_bin(frame: pd.DataFrame, categories: CategoryTable) -> dict[str, pd.DataFrame]:
    """Summarise ``per_category`` over all categories and over each bin of training instances, as fractions.

    Returns:
        Tables by name, each with index ``bin`` (``all``, ``1``..): ``best detections``, shares of the best detections
        of each category, as many as it has boxes; ``boxes``, shares of the boxes by the best detection on each, and
        ``missed``; ``gains in AP50``, means over categories, ``ap50`` first.
    """
    groups = {"all": categories.binned_labels, **bin_groups(categories)}
    tables = {}
    for name in (DETECTIONS, BOXES):
        columns = [column for column in frame if column.startswith(_PREFIXES[name])]
        table = shares(frame[columns], groups)
        tables[name] = table.rename(columns=lambda column, name=name: column.removeprefix(_PREFIXES[name]))
    missed = {key: frame.loc[labels, ["missed", "boxes"]].sum() for key, labels in groups.items()}
    tables[BOXES]["missed"] = [m["missed"] / m["boxes"] if m["boxes"] else np.nan for m in missed.values()]
    gained = [column for column in frame if column.startswith(_PREFIXES[GAINS])]
    means = pd.DataFrame({column: grouped(frame[column], groups) for column in ("ap50", *gained)})
    tables[GAINS] = means.rename(columns=lambda column: column.removeprefix(_PREFIXES[GAINS]))
    return {name: table.rename_axis("bin") for name, table in tables.items()}


def captions(categories: CategoryTable) -> dict[str, str]:
    """Return a caption for each table of ``by_bin``."""
    return {
        DETECTIONS: "of each category as many of its best detections as it has boxes: right (IoU >= .5), on a box of "
        "another class (by that class's bin), .1 to .5 off, both, a second one on a box, on background",
        BOXES: "by the best detection on each box (IoU >= .5): right, of another class (by its bin), none; missed: no "
        "detection takes it, nor is one near it or on it under another class's name",
        GAINS: "AP50, and how it rises where all errors of a kind are mended (TIDE; but of a kind the surest gets its "
        "box, in tidecv of wrong class and wrong place together), means over classes; "
        f"{categories.bins_line}",
    }


def write(tables: Mapping[str, pd.DataFrame], folder: Path) -> list[Path]:
    """Write the tables of ``by_bin`` as CSV files into a folder."""
    for name, table in tables.items():
        write_text(_file(folder, name), table.to_csv())
    return [_file(folder, name) for name in tables]


def read(folder: Path) -> dict[str, pd.DataFrame]:
    """Read the tables that ``write`` wrote.

    Raises:
        InputError: the files are missing or not readable.
    """
    try:
        return {name: pd.read_csv(_file(folder, name)).set_index("bin") for name in _PREFIXES}
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{folder}: not the tables that 'errors' writes ({error})") from error


def _file(folder: Path, name: str) -> Path:
    return folder / f"errors_{name.replace(' ', '_')}.csv"
