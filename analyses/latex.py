"""Tables as papers print them: LaTeX with booktabs, columns and rows in groups, the best of each column in bold."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from . import tables
from .studies import Study

GROUPS = {"AP": tables.AP_COLUMNS, "AP of masks": tables.MASK_COLUMNS, "Proposal accuracy": tables.ACC_COLUMNS}
"""Headings above the columns of measures."""
_ESCAPES = {"\\": r"\textbackslash{}", **{character: f"\\{character}" for character in "&%$#_{}"},
            "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}  # fmt: skip


def table(frame: pd.DataFrame, study: Study, columns: Sequence[str], caption: str) -> str:
    """Write a floating table; needs the packages ``booktabs`` and, for more than a page's width, ``graphicx``.

    A rule stands between rows of different frameworks, or else of methods of different families.

    Args:
        frame: result of ``tables.summary``.
        study: its study.
        columns: measures; those that the frame lacks are left out.
        caption: plain text.
    """
    columns = [column for column in columns if column in frame]
    cells = tables.shown(frame, study, columns)
    labels = [column for column in cells if column not in columns]
    text = cells.astype(str).map(escaped)
    for column in columns:
        # Where differences are shown, they are not compared with the row that they are to.
        best = frame[column].where(frame["is_difference"] == frame["is_difference"].any())
        marked = (best == best.max()) & best.notna()
        text[column] = [_number(cell, bold) for cell, bold in zip(cells[column], marked, strict=True)]
    families = _families(frame, study)
    rows = []
    for number, row in enumerate(text.itertuples(index=False)):
        if number and families[number] != families[number - 1]:
            rows.append(r"\midrule")
        rows.append(" & ".join(row) + r" \\")
    return "\n".join(
        [
            r"\begin{table}[t]",
            r"\centering",
            r"\small",
            rf"\caption{{{escaped(caption)}}}",
            rf"\label{{tab:{study.name.replace(' ', '-')}}}",
            rf"\begin{{tabular}}{{{'l' * len(labels)}{'r' * len(columns)}}}",
            r"\toprule",
            *_headings(labels, columns),
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    )


def escaped(text: str) -> str:
    """Return a text in which no character is a command of LaTeX."""
    return "".join(_ESCAPES.get(character, character) for character in text).replace("±", r"$\pm$")


def _number(cell: str, bold: bool) -> str:
    """Write a cell of numbers: the mean, bold if it is the best, and the deviation smaller."""
    mean, _, deviation = cell.partition("±")
    mean = mean.replace("-", "$-$") if mean != "-" else "--"
    text = rf"\textbf{{{mean}}}" if bold else mean
    return text + (rf"{{\scriptsize$\pm${deviation}}}" if deviation else "")


def _headings(labels: Sequence[str], columns: Sequence[str]) -> list[str]:
    """Return the heads of groups with their rules, and the heads of columns."""
    heads, rules, place = [""] * (len(labels) - 1), "", len(labels) + 1
    for heading, measures in GROUPS.items():
        if count := sum(column in measures for column in columns):
            heads.append(rf"\multicolumn{{{count}}}{{c}}{{{heading}}}")
            rules += rf"\cmidrule(lr){{{place}-{place + count - 1}}}"
            place += count
    names = [escaped(name.removesuffix("^m")) for name in (*labels, *columns)]
    return [" & ".join(["", *heads]) + r" \\", rules, " & ".join(names) + r" \\"]


def _families(frame: pd.DataFrame, study: Study) -> list[str]:
    """Return what the rows between two rules have in common: their framework, or the family of their methods."""
    by_run = {(str(row.run), row.framework): row for row in study.rows}
    frameworks = frame["framework"] if "framework" in frame else [None] * len(frame)
    rows = [by_run[key] for key in zip(frame["run"], frameworks, strict=True)]
    return [row.framework or row.run.method.family for row in rows]
