"""HTML pages that are one file each: templates, figures as data URLs, tables, a strict policy of contents.

The script of a page sorts and filters its tables, shows the texts of its charts, and marks a method everywhere on a
click.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Cell = tuple[str, Any] | tuple[str, Any, Markup]
"""The text that is shown, the value that the column is sorted by, and perhaps a drawing (see ``cells``)."""
LONG = 12
"""Rows beyond which a table gets a box to search in."""


def render(package: str, template: str, **values: Any) -> str:
    """Fill a template of a package that extends ``base.html``.

    Values are escaped: they are shown as text, never read as markup. The browser may run only the page's own script,
    and load nothing.

    Args:
        package: name of the package that has the template in its folder ``templates``.
        template: name of the file.
        values: what the template names; ``title`` is the page's.
    """
    templates = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(package), jinja2.PackageLoader(__package__)]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    script, style = (Markup(templates.get_template(f"page.{kind}").render()) for kind in ("js", "css"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return templates.get_template(template).render(digest=digest, style=style, script=script, **values)


def image(figure: Figure, caption: str, kind: str = "svg+xml") -> dict[str, str]:
    """Encode a figure as a data URL for the macro ``figure``, and close it."""
    from matplotlib import pyplot as plt  # imported late: pages without such figures do not wait for it

    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind.partition("+")[0], dpi=130)
    plt.close(figure)
    return picture(buffer.getvalue(), caption, kind)


def picture(content: bytes, caption: str, kind: str) -> dict[str, str]:
    """Encode the content of an image file as a data URL for the macro ``figure``."""
    return {"caption": caption, "source": f"data:image/{kind};base64,{base64.b64encode(content).decode()}"}


def table(
    columns: Mapping[str, list[Cell]],
    marks: Mapping[str | None, str] = MappingProxyType({}),
    *,
    keys: Sequence[str] = (),
    notes: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """Convert a table for the macro ``table``.

    Args:
        columns: cells by the name of their column.
        marks: CSS classes of rows, by the text of their first cell.
        keys: the method of each row, which a click marks on the whole page; empty for rows of no method.
        notes: second lines of the heads of columns: unit, number of classes, what an interval is over.
    """
    kinds = {
        name: "text" if any(isinstance(cell[1], str) for cell in cells) else "number" for name, cells in columns.items()
    }
    rows = [
        {
            "mark": marks.get(cells[0][0]),
            "key": key,
            "cells": [_cell(cell, kind) for cell, kind in zip(cells, kinds.values(), strict=True)],
        }
        for key, *cells in zip(keys or [""] * len(next(iter(columns.values()))), *columns.values(), strict=True)
    ]
    heads = [{"name": name, "kind": kind, "note": notes.get(name, "")} for name, kind in kinds.items()]
    return {"heads": heads, "rows": rows, "is_long": len(rows) > LONG}


def _cell(cell: Cell, kind: str) -> dict[str, Any]:
    shown, value, *drawing = cell
    is_wide = kind == "text" and len(shown) > 40
    return {"shown": shown, "value": value, "kind": kind, "is_wide": is_wide, "drawing": drawing[0] if drawing else ""}
