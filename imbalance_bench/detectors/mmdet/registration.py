"""Put the head, hooks and samplers of this package into mmdet's registries as soon as mmdet's models are imported.

So ``custom_imports = dict(imports=["imbalance_bench"])`` in a configuration is all it takes, whichever was imported
first; and where mmdet is not used, nothing is imported for it.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Sequence

MMDET = "mmdet.models"
"""mmdet's registries import it before they build a model."""
OURS = ("bbox_head", "hooks", "samplers")
"""Modules beside this one whose import registers what they define."""


class RegisteringFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds ``mmdet.models`` as Python would, and registers ours after it has run; stands first in line."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the module's own spec with this loader in it; None for any other module."""
        if fullname != MMDET:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is not None and spec.loader is not None:
            self._loader = spec.loader
            spec.loader = self
        return spec

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType | None:
        """Leave it to the module's own loader."""
        return self._loader.create_module(spec)

    def exec_module(self, module: types.ModuleType) -> None:
        """Run the module, then register."""
        assert module.__spec__ is not None
        module.__loader__ = module.__spec__.loader = self._loader  # as if nobody had been in between
        self._loader.exec_module(module)
        register()


def register() -> None:
    """Import what registers itself."""
    for name in OURS:
        importlib.import_module(f"{__package__}.{name}")


def install() -> None:
    """Register now where mmdet's models are imported already, else when they are."""
    if MMDET in sys.modules:
        register()
    elif not any(isinstance(finder, RegisteringFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, RegisteringFinder())
