"""The reference of the command line, from the Typer application itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pandas as pd
import typer

from .. import tables

PROGRAM = "imbalance-bench"


def commands() -> dict[str, Any]:
    """Return every command, as click knows it, by what is typed after the program, e.g. ``datasets prepare``."""
    from ..commands.main import app

    return dict(_walk(typer.main.get_command(app)))


def _walk(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    # Typer may bring a click of its own, so its classes are not asked for.
    if hasattr(command, "commands"):
        for own, child in command.commands.items():
            yield from _walk(child, f"{name} {own}".strip())
    else:
        yield name, command


def page() -> str:
    """Write the reference: each command with its text, its examples, its arguments and options."""
    parts = [
        "# Commands\n\n"
        f"`{PROGRAM}` is installed with the package; from a checkout, `python cli.py` is the same. "
        "Every command takes `--help`, and `--debug` for the traceback of an error. Exit status: 0, 2 for bad input or "
        "a missing extra, 143 and 130 after SIGTERM and Ctrl-C, 1 for any other error. On a terminal a table leaves "
        "out the columns that do not fit, and names them; a pipe gets all."
    ]
    for name, command in commands().items():
        parts.append(f"## {name}\n\n{_text(command)}")
        rows = [_row(parameter) for parameter in command.params if "--help" not in parameter.opts]
        if rows:
            frame = pd.DataFrame(rows, columns=["argument or option", "default", "what"])
            parts.append(tables.markdown(frame))
    return "\n\n".join(parts) + "\n"


def _text(command: Any) -> str:
    """Write the help text with its examples as code."""
    parts = []
    for paragraph in re.split(r"\n\s*\n", command.help or ""):
        text = " ".join(paragraph.split())
        found = re.fullmatch(r"Example: (.*)", text)
        parts.append(f"```shell\n{found[1]}\n```" if found else _escaped(text))
    return "\n\n".join(parts)


def _row(parameter: Any) -> list[str]:
    """Write one line of the table, from what every version of Typer knows of a parameter."""
    names = [parameter.name] if parameter.param_type_name == "argument" else parameter.opts + parameter.secondary_opts
    default = (
        {True: "on", False: "off"}[parameter.default] if isinstance(parameter.default, bool) else parameter.default
    )
    shown = "needed" if parameter.required else "-" if default in (None, [], ()) else f"`{default}`"
    return [", ".join(f"`{name}`" for name in names), shown, _said(parameter)]


def _said(parameter: Any) -> str:
    return _escaped(" ".join((getattr(parameter, "help", None) or "").split()))


def _escaped(text: str) -> str:
    """Keep what Markdown and its tables would read as their own."""
    return re.sub(r"([*_<>|\[\]])", r"\\\1", text)
