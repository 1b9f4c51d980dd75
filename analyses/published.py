"""The paper's own tables (``results/published``), as printed; never mixed with measured values in one column."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from imbalance_bench.runtime.errors import InputError

_HERE = Path(__file__).resolve()
INSTALLED = _HERE.with_name("paper_tables")
FOLDER = INSTALLED if INSTALLED.is_dir() else _HERE.parents[1] / "results" / "published"
"""Beside this module where it is installed from a wheel, in ``results`` of a checkout."""

VAL_CLASSES: dict[str, dict[str, tuple[int, ...]]] = {
    "LVIS v0.5": {"bins": (67, 298, 284, 181), "frequencies": (125, 392, 313)},
    "COCO-LT": {"bins": (4, 24, 32, 20)},
}
"""Categories with validation ground truth, by bin of training instances and by r, c, f."""


MEASURED_ON = {
    1: "Faster R-CNN R50-FPN on LVIS v0.5 val",
    2: "Faster and Cascade R-CNN on LVIS v0.5 val",
    3: "Mask R-CNN and HTC on LVIS v0.5 val; * are results of other papers",
    4: "Faster R-CNN R50-FPN on LVIS v0.5 val",
    5: "Faster R-CNN R50-FPN on LVIS v0.5 val",
    6: "Faster and Mask R-CNN R50-FPN on COCO-LT",
}
"""Where the paper measured each table."""


def table(number: int) -> pd.DataFrame:
    """Read one of the paper's Tables 1 to 6; columns are described in ``results/published/README.md``.

    Values are percentages as printed, NaN where the paper has none; ``note`` flags misprints.

    Raises:
        ValueError: not a table of the paper.
        InputError: the file is missing.
    """
    if number not in range(1, 7):
        raise ValueError(f"table {number}: expected 1 to 6")
    path = FOLDER / f"table{number}.csv"
    if not path.is_file():
        raise InputError(f"{path}: no such file, expected the paper's Table {number} as in the project's repository")
    return pd.read_csv(path, dtype={"note": str, "N": "Int64"}).fillna({"note": ""})


def by_row(number: int) -> pd.DataFrame:
    """Read ``table`` indexed by row number, with measures of masks under their own names (``mAP^m``) in every table.

    Rows have the printed numbers; Tables 2 and 6 print no numbers, and rows are numbered by position.
    """
    frame = table(number)
    frame = frame.set_index("ID" if "ID" in frame else frame.index + 1)
    if number == 6:  # boxes and masks of Mask R-CNN are rows of their own there
        masks = frame.loc[[5, 6], ["mAP", "AP1", "AP2", "AP3", "AP4"]].set_axis([3, 4]).add_suffix("^m")
        frame = frame.loc[:4].join(masks)
    return frame


def figure4() -> pd.DataFrame:
    """Read what the paper says of the order of Figure 4's settings; the values of its curves are printed nowhere.

    Returns:
        One row for each statement: ``measure``; ``ascending``, settings of beta in the order in which the measure
        grows; ``source``, where the paper says so.
    """
    frame = pd.read_csv(FOLDER / "figure4.csv")
    return frame.assign(ascending=frame["ascending"].str.split())


def printed(number: int) -> pd.DataFrame:
    """Return ``table`` as strings: two decimals, ``-`` if the paper has no value; empty columns are left out."""
    frame = table(number)
    frame = frame.drop(columns=[column for column in frame if frame[column].isin(["", np.nan]).all()])
    numbers = [column for column in frame if frame[column].dtype == float]
    frame[numbers] = frame[numbers].map("{:.2f}".format)
    return frame.astype(object).where(frame.notna(), "-").astype(str).replace("nan", "-")
