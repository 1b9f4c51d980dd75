"""A chart of shares in rows and columns, as inline SVG: a confusion matrix."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from imbalance_bench.pages.charts import Chart
from imbalance_bench.pages.looks import Look

WRITTEN = 12
"""Rows up to which the share is written into its square."""
FAINTEST = 0.06


@dataclass(frozen=True)
class Square:
    """A square of a matrix.

    Attributes:
        row: its row.
        column: its column.
        share: 0 to 1, which tells how strong its colour is.
        tip: what it says under the pointer; lines are separated by newlines.
        look: its colour.
    """

    row: int
    column: int
    share: float
    tip: str
    look: Look


def matrix(
    rows: Sequence[str], columns: Sequence[str], squares: Iterable[Square], caption: str, labels: tuple[str, str],
    legend: tuple[tuple[Look, str], ...] = (), borders: Sequence[int] = (),
) -> Chart:  # fmt: skip
    """Draw a matrix; squares that are not given are empty.

    Args:
        rows: names, from above.
        columns: names, from the left.
        squares: what is drawn.
        caption: as of ``Chart``.
        labels: of columns and rows.
        legend: as of ``Chart``.
        borders: rows and columns before which a line is drawn.
    """
    width, height = 100 / len(columns), 100 / len(rows)
    parts = [Markup('<rect class="ground" width="100%" height="100%"/>')]
    inside = []
    for square in squares:
        x, y = round(square.column * width, 2), round(square.row * height, 2)
        inside.append(
            Markup('<rect class="dot" x="{}%" y="{}%" width="{}%" height="{}%" fill="{}" fill-opacity="{}" '
                   'data-tip="{}"/>').format(
                x, y, round(width, 2), round(height, 2), square.look.colour,
                round(max(square.share, FAINTEST), 2), square.tip,
            )
        )  # fmt: skip
        if len(rows) <= WRITTEN:
            middle = round(x + width / 2, 2), round(y + height / 2, 2)
            inside.append(
                Markup('<text class="share{}" x="{}%" y="{}%" dy=".35em">{}</text>').format(
                    " light" if square.share > 0.6 else "", *middle, f"{100 * square.share:.0f}"
                )
            )
    parts.append(Markup('<g class="mark strong">{}</g>').format(Markup("").join(inside)))
    for border in borders:
        for line in ({"x1": 0, "x2": 100, "y1": border * height, "y2": border * height},
                     {"y1": 0, "y2": 100, "x1": border * width, "x2": border * width}):  # fmt: skip
            ends = Markup(" ").join(Markup('{}="{}%"').format(end, round(at, 2)) for end, at in line.items())
            parts.append(Markup('<line class="border" {}/>').format(ends))
    ticks = [
        Markup('<text class="tick y" x="-6" y="{}%" dy=".35em">{}</text>').format(round((n + 0.5) * height, 2), name)
        for n, name in enumerate(rows)
    ]
    ticks += [
        Markup('<svg x="{}%" y="100%"><text class="tick slanted" transform="rotate(-60)" x="-4" y="8">{}</text>'
               "</svg>").format(round((n + 0.5) * width, 2), name) for n, name in enumerate(columns)
    ]  # fmt: skip
    parts.append(Markup('<g class="frame">{}</g>').format(Markup("").join(ticks)))
    shape = "matrix few" if len(rows) <= WRITTEN else "matrix"
    return Chart(caption, labels[0], labels[1], Markup("").join(parts), legend, shape=shape)
