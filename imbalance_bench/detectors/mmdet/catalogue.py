"""The detectors of the suite, found by name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from imbalance_bench.detectors.mmdet import paper, small, tiny
from imbalance_bench.detectors.mmdet.detector import Detector
from imbalance_bench.runtime.errors import InputError, look_up

if TYPE_CHECKING:
    from mmengine.config import ConfigDict

BOXES = {
    "agnostic": ({"reg_class_agnostic": True}, "one box regressor"),
    "own": ({"reg_class_agnostic": False}, "a box regressor for each class"),
    "shared": ({"reg_class_agnostic": False, "shared_boxes": True}, "one for each class beside a shared one"),
}
"""Box regressors: arguments of the head, and a description."""

DETECTORS: dict[str, Detector] = {
    record.name: record for record in (*tiny.DETECTORS, *small.DETECTORS, *paper.DETECTORS)
}


def get(name: str) -> Detector:
    """Return a detector by name, or a variant with other box regressors: ``<name>-boxes=<BOXES>``.

    Raises:
        InputError: an unknown name; the message holds the nearest one. Or other boxes for a cascade, whose stages
            refine one box a proposal.
    """
    base, _, boxes = name.partition("-boxes=")
    record = look_up(DETECTORS, base, "detector")
    if not boxes:
        return record
    own, text = look_up(BOXES, boxes, "kind of boxes")
    if record.num_stages > 1:
        raise InputError(f"detector '{name}': the stages of a cascade share their boxes, expected '{base}'")

    def change(model: ConfigDict) -> None:
        record.change(model)
        model.roi_head.bbox_head.update(own)

    return replace(record, name=name, description=f"{record.description}; {text}", change=change)


def plain(detector: Detector) -> Detector:
    """Return the detector that a variant with other box regressors was made of."""
    return DETECTORS.get(detector.name.partition("-boxes=")[0], detector)


def for_photographs(framework: str) -> Detector:
    """Return the smallest detector of a framework that is made for photographs."""
    return next(d for d in DETECTORS.values() if d.framework == framework and d.scale != "tiny")


def of(framework: str, scale: str) -> Detector:
    """Return the detector of a framework (``Detector.framework``) at a scale.

    Raises:
        InputError: there is none.
    """
    found = [d for d in DETECTORS.values() if (d.framework, d.scale) == (framework, scale)]
    if not found:
        others = ", ".join(d.name for d in DETECTORS.values() if d.framework == framework)
        raise InputError(f"framework '{framework}': no detector at the scale '{scale}', expected that of {others}")
    return found[0]
