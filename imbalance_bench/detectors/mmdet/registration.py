"""Put the head, hooks and samplers of this package into mmdet's registries as soon as mmdet's models are imported.

So a configuration only needs ``custom_imports = dict(imports=["imbalance_bench"])``, in any order of imports. Without
mmdet, nothing more is imported.
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
OURS = ("bbox_head", "hooks", "hosted_detector", "overlaps", "roi_extractor", "rpn_head", "samplers")
"""Modules beside this one whose import registers what they define."""


class RegisteringFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """An import hook, first in ``sys.meta_path``, that registers our modules after ``mmdet.models`` is imported."""

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
        """Create the module with its own loader."""
        return self._loader.create_module(spec)

    def exec_module(self, module: types.ModuleType) -> None:
        """Run the module, then register ours."""
        assert module.__spec__ is not None
        module.__loader__ = module.__spec__.loader = self._loader  # as if nobody had been in between
        self._loader.exec_module(module)
        register()


def register() -> None:
    """Import the modules that register their classes."""
    for name in OURS:
        importlib.import_module(f"{__package__}.{name}")


def install() -> None:
    """Register now if mmdet's models are already imported, else when they are imported."""
    if MMDET in sys.modules:
        register()
    elif not any(isinstance(finder, RegisteringFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, RegisteringFinder())
