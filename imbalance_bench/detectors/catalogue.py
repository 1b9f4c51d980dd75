"""The detectors of the suite, found by name."""

from __future__ import annotations

from imbalance_bench.detectors import paper, tiny
from imbalance_bench.detectors.detector import Detector
from imbalance_bench.errors import look_up

DETECTORS: dict[str, Detector] = {record.name: record for record in (*tiny.DETECTORS, *paper.DETECTORS)}


def get(name: str) -> Detector:
    """The record of a detector.

    Raises:
        InputError: an unknown name; the message holds the nearest one.
    """
    return look_up(DETECTORS, name, "detector")


def of(framework: str, scale: str) -> Detector:
    """The detector of a framework (``Detector.framework``) at a scale."""
    return next(d for d in DETECTORS.values() if (d.framework, d.scale) == (framework, scale))
