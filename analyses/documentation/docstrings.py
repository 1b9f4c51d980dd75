"""What docstrings say, read without importing their modules, as some need torch."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import imbalance_bench

_PACKAGE = Path(imbalance_bench.__file__).parent
_SECTION = re.compile(r"^(?:Args|Attributes|Example|Raises|Returns):$", re.MULTILINE)


@cache
def _of_modules(place: str) -> dict[str, str]:
    """Read the docstrings of the classes and functions of the modules that a pattern finds in the package."""
    found = {}
    for path in sorted(_PACKAGE.glob(place)):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                found[node.name] = ast.get_docstring(node) or ""
    return found


def prose(name: str) -> str:
    """Return as Markdown what the docstring of a class or function says before its arguments.

    Args:
        name: of ``classifiers``, or with its module, such as ``datasets.sampling.repeat_factors``.

    Raises:
        KeyError: there is no such class or function.

    Example:
        >>> prose("tau_norm")
        'Build a softmax classifier with the tau-normalised rows of a trained classifier.'
    """
    module, _, own = name.rpartition(".")
    place = f"{module.replace('.', '/')}.py" if module else "classifiers/*.py"
    return _SECTION.split(_of_modules(place)[own])[0].strip().replace("``", "`")
