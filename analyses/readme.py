"""The README's tables, written from the results in this repository: ``python -m analyses.readme``."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.files import write_text

from . import beyond, report, tables
from .studies import STUDIES


def _table1(folder: Path) -> str:
    runs, study = pd.read_csv(folder / "table1.csv"), STUDIES["table 1"]
    runs = runs[runs["run"].isin([str(row.run) for row in study.rows])]
    return report.markdown(runs, study)


def _beyond(folder: Path) -> str:
    frame = pd.read_csv(folder / "beyond.csv")
    default = frame[frame["kind"] == "default"]
    remarks = tables.remarks(zip(default["method"] + ":" + default["settings"], default["date"], strict=True))
    return f"{tables.markdown(beyond.brief(frame))}\n\n{remarks}".rstrip()


TABLES: dict[str, Callable[[Path], str]] = {"table 1": _table1, "beyond": _beyond}
"""What stands between the comments ``<!-- NAME -->`` and ``<!-- end -->``, from a folder of results."""


def rewritten(text: str, folder: Path) -> str:
    """Return the text of a README with every table written anew.

    Raises:
        InputError: the comments that mark a table are missing.
    """
    for name, table in TABLES.items():
        found = re.search(rf"(?<=<!-- {name} -->\n).*?(?=\n<!-- end -->)", text, re.DOTALL)
        if found is None:
            raise InputError(f"README.md: no '<!-- {name} -->' with '<!-- end -->' after it")
        text = f"{text[: found.start()]}\n{table(folder)}\n{text[found.end() :]}"
    return text


if __name__ == "__main__":
    ROOT = Path(__file__).resolve().parents[1]
    readme = (ROOT / "README.md").read_text()
    write_text(ROOT / "README.md", rewritten(readme, ROOT / "results" / "measured" / "emoji-lt-small"))
