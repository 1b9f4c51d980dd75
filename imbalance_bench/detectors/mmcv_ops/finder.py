"""Where Python looks for mmcv's compiled operators when it has not found them: ``operators.py``.

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
    """Finds ``mmcv._ext``; stands last in line, so it is asked only where mmcv has no compiled module."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The stand-ins' spec; None for any other module."""
        return importlib.machinery.ModuleSpec(fullname, self) if fullname == MODULE else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        """The module of stand-ins."""
        from imbalance_bench.detectors.mmcv_ops.operators import StandIns

        return StandIns(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing to run."""


def install() -> None:
    """Put the finder last in line, once."""
    if not any(isinstance(finder, StandInFinder) for finder in sys.meta_path):
        sys.meta_path.append(StandInFinder())
