"""The class that Roboflow puts first in its COCO files, which no object has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imbalance_bench.runtime.errors import first


def placeholder_of(*contents: Mapping[str, Any]) -> str | None:
    """Return the name of the class that Roboflow puts first in its files for no object at all; None if there is none.

    It has the id 0 and the supercategory ``none``, other classes have its name as supercategory, and no box has it.

    Args:
        contents: content of the file that may have a placeholder, then of others of its data set; all may be unchecked.
    """
    categories = _mappings(contents[0], "categories")
    found = [c for c in categories if c.get("id") == 0 and c.get("supercategory") == "none"]
    name = found[0].get("name") if len(found) == 1 else None
    parents = [category.get("supercategory") for category in categories if category not in found]
    used = any(a.get("category_id") == 0 for content in contents for a in _mappings(content, "annotations"))
    return name if isinstance(name, str) and name in parents and not used else None


def described(name: str) -> str:
    """Return the words for a placeholder class in a note."""
    return f"Roboflow's placeholder: {first([name])}, the others' supercategory, has the id 0 and no instance"


def without_placeholder(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return annotation content without Roboflow's placeholder class of this name, if it has it."""
    categories = content.get("categories")
    if not isinstance(categories, list):
        return dict(content)
    of_zero = [c for c in categories if isinstance(c, Mapping) and (c.get("id"), c.get("name")) == (0, name)]
    return {**content, "categories": [category for category in categories if category not in of_zero]}


def _mappings(content: Mapping[str, Any], field: str) -> list[Mapping[str, Any]]:
    records = content.get(field)
    return [record for record in records if isinstance(record, Mapping)] if isinstance(records, list) else []
