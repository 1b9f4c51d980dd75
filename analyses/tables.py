"""Tables of measured results, from run folders alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from imbalance_bench.errors import InputError
from imbalance_bench.methods import METHODS
from imbalance_bench.runs import RunFolder

AP_COLUMNS = ("mAP", "AP1", "AP2", "AP3", "AP4", "APr", "APc", "APf")
ACC_COLUMNS = ("ACC", "ACC1", "ACC2", "ACC3", "ACC4", "ACCbg", "ACCmacro")
PROVENANCE_COLUMNS = (
    "dataset",
    "detector",
    "seed",
    "epochs",
    "train_seconds",
    "machine",
    "date",
    "versions",
    "command",
)


def percent(value: Any) -> str:
    """A fraction times 100 with two decimals; ``-`` where there is none."""
    return "-" if value is None or math.isnan(value) else f"{100 * value:.2f}"


def table1(root: Path) -> pd.DataFrame:
    """The measured Table 1: one row for each finished run below ``root``, in the order of the catalogue.

    Args:
        root: ``work_dir/<dataset>/<detector>/seed<seed>``.

    Returns:
        Columns ``row`` (of the paper's table), ``method``, ``title``, ``variant``, the measures as fractions with
        the number of classes behind each AP (``<name>_classes``), and where each row comes from.

    Raises:
        InputError: no finished run there.
    """
    order = {name: position for position, name in enumerate(METHODS)}
    records = [RunFolder(path.parent).record() for path in sorted(root.glob("*/record.json"))]
    records = [record for record in records if record["settings"].get("method") in order]
    if not records:
        raise InputError(f"{root}: no finished run, expected folders with a record.json ('run-baseline' makes them)")

    def place(record: dict[str, Any]) -> tuple[int, bool, str]:
        settings = record["settings"]
        default = METHODS[settings["method"]].default_variant
        return order[settings["method"]], settings["variant"] != default, settings["variant"]

    return pd.DataFrame([_row(record) for record in sorted(records, key=place)])


def _row(record: dict[str, Any]) -> dict[str, Any]:
    settings, provenance = record["settings"], record["provenance"]
    method = METHODS[settings["method"]]
    return {
        "row": f"({method.paper_row})" if method.paper_row else "",
        "method": method.name,
        "title": method.title,
        "variant": settings["variant"] if len(method.variants) > 1 else "",
        **record["metrics"],
        "dataset": settings["dataset"],
        "detector": settings["detector"],
        "seed": settings["seed"],
        "epochs": settings["schedule"]["epochs"] if settings["schedule"] else 0,
        "train_seconds": provenance["seconds"].get("train"),
        "machine": provenance["machine"],
        "date": provenance["date"],
        "versions": "; ".join(f"{name} {version}" for name, version in provenance["versions"].items()),
        "command": provenance["command"],
    }


def shown(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Row, method (with its variant) and some measures in percent, as strings."""
    names = [f"{m} ({v})" if v else m for m, v in zip(table["method"], table["variant"], strict=True)]
    frame = pd.DataFrame({"row": table["row"], "method": names})
    for column in columns:
        if column in table:
            frame[column] = table[column].map(percent)
    return frame


def markdown(frame: pd.DataFrame) -> str:
    """A DataFrame of strings as a Markdown table."""
    widths = [max(len(str(column)), *(len(str(cell)) for cell in frame[column])) for column in frame]
    lines = [list(map(str, frame.columns)), ["-" * width for width in widths], *frame.astype(str).to_numpy().tolist()]
    return "\n".join(
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |" for line in lines
    )


def caption(bin_names: Sequence[str], table: pd.DataFrame) -> str:
    """What the columns mean: bins with their edges and the classes behind each AP."""
    first = table.iloc[0]
    bins = ", ".join(
        f"{number}: {name} ({int(first[f'AP{number}_classes'])} classes)"
        for number, name in enumerate(bin_names, start=1)
    )
    return (
        f"Measured on {first['dataset']} with detector {first['detector']}, seed {first['seed']}; values in percent. "
        f"Bins by train instances: {bins}. Row numbers are those of the paper's Table 1; nothing was tuned on the "
        "validation set."
    )
