"""A griffe extension: the section of examples is called ``Example`` in this project, ``Examples`` in griffe."""

from __future__ import annotations

from typing import Any

from griffe import Extension, Object


class Examples(Extension):
    """Rename the section, so that its lines become code."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Do so for an object that was just loaded."""
        if obj.docstring:
            obj.docstring.value = obj.docstring.value.replace("\nExample:\n", "\nExamples:\n")
