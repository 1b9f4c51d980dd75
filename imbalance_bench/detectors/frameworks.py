"""The frameworks of users' detectors, by name; each is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from imbalance_bench.detectors.port import UserDetector
from imbalance_bench.runtime.errors import MissingDependency, look_up


def _mmdet(source: str, checkpoint: Path) -> UserDetector:
    from imbalance_bench.detectors.mmdet.opening import open_config

    return open_config(Path(source))


def _torchvision(source: str, checkpoint: Path) -> UserDetector:
    from imbalance_bench.detectors.torchvision.opening import open_model

    return open_model(source, checkpoint)


def _transformers(source: str, checkpoint: Path) -> UserDetector:
    from imbalance_bench.detectors.transformers.detector import open_folder

    return open_folder(source, checkpoint)


def _ultralytics(source: str, checkpoint: Path) -> UserDetector:
    from imbalance_bench.detectors.ultralytics.detector import open_file

    return open_file(source, checkpoint)


FRAMEWORKS: dict[str, tuple[str, Callable[[str, Path], UserDetector]]] = {
    "mmdet": ("mmdet", _mmdet),
    "torchvision": ("torchvision", _torchvision),
    "transformers": ("transformers", _transformers),
    "ultralytics": ("ultralytics", _ultralytics),
}
"""A package that is missing where the extra of the framework's name is, and what opens a detector."""


def check_framework(framework: str) -> None:
    """Check that a framework is known and installed.

    Raises:
        InputError: an unknown framework.
        MissingDependency: it is not installed.
    """
    package, _ = look_up(FRAMEWORKS, framework, "framework")
    if find_spec(package) is None:
        raise MissingDependency(package, framework)


def open_detector(framework: str, source: str, checkpoint: Path) -> UserDetector:
    """Open a user's detector.

    Args:
        framework: of ``FRAMEWORKS``.
        source: mmdet: path of a configuration, which is executed; torchvision: name of a model, or ``module:function``,
            which is called; transformers: a folder with ``config.json``; ultralytics: a head,
            ``one2many`` or ``one2one``; empty: the first.
        checkpoint: its weights; a model that is named has as many classes as they have.

    Raises:
        InputError: an unknown framework, or a detector that does not fit the port; the message says why.
    """
    _, opened = look_up(FRAMEWORKS, framework, "framework")
    return opened(source, checkpoint)
