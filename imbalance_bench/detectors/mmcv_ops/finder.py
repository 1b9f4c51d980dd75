"""An import hook that provides ``operators.py`` when mmcv's compiled operators are missing.

Kept apart from the operators, so that importing the package does not import torch.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Sequence

MODULE = "mmcv._ext"


class StandInFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """A finder of ``mmcv._ext``, last in ``sys.meta_path``: used only if mmcv has no compiled module."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the spec of the stand-ins; None for any other module."""
        return importlib.machinery.ModuleSpec(fullname, self) if fullname == MODULE else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        """Create the module of stand-ins."""
        from imbalance_bench.detectors.mmcv_ops.operators import StandIns

        return StandIns(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Do nothing: the module is complete when it is created."""


def install() -> None:
    """Add the finder once, at the end of ``sys.meta_path``."""
    if not any(isinstance(finder, StandInFinder) for finder in sys.meta_path):
        sys.meta_path.append(StandInFinder())
