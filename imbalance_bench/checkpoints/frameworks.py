"""Decide which framework a box classifier comes from, and which of its rows is background.

The structure decides: mmdet 2 and 3 (``roi_head``) and detectron2 have background last; mmdet 1 (no ``roi_head``),
torchvision, maskrcnn-benchmark and Detectron have it first. torchvision and detectron2 share the name
``roi_heads.box_predictor.cls_score``; other parts of the detector distinguish them. If each class has its own box
regressor, the number of its rows helps too: four for each row of the classifier if background is first (these
frameworks regress boxes of background as well) or has no row, four for each class if background is last.
``meta.mmdet_version`` is used last: mmdet's script that upgrades a checkpoint from version 1 moves the rows but does
not change the version.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from imbalance_bench.checkpoints.formats import Stored

BACKGROUNDS = ("first", "last", "none")
WEIGHT = re.compile(
    r"(?P<mmdet>(?:^|[._])fc_cls[._]weight$)|(?P<benchmark>box\.predictor\.cls_score\.weight$)"
    r"|(?P<roi>box_predictor(?:\.\d+)?\.cls_score\.weight$)|(?P<caffe2>^cls_score_w$)"
)
"""Names of classifiers: mmdet's, maskrcnn-benchmark's, torchvision's and detectron2's, Detectron's."""
Candidate = tuple[str, str]
"""A framework, and where background stands there."""


def candidates(meta: Mapping[Any, Any], state: Mapping[str, Stored], name: str) -> tuple[list[Candidate], list[str]]:
    """Return the possible frameworks of a classifier, the likeliest first, and notes on what is unusual.

    Args:
        meta: ``meta`` of the checkpoint.
        state: tensors of the detector.
        name: name of the classifier's weight in ``state``.
    """
    found = WEIGHT.search(name)
    kind = found.lastgroup if found else None
    if kind == "mmdet":
        return _mmdet(meta, state, name)
    if kind == "benchmark":
        return [("maskrcnn-benchmark", "first")], []
    if kind == "caffe2":
        return [("Detectron", "first")], []
    if kind == "roi":
        boxes, width = state.get(name.replace("cls_score", "bbox_pred")), len(state[name])
        of_rows = boxes is not None and len(boxes) == 4 * width
        bare: Candidate = ("detectron2, a sigmoid without background", "none")
        if any(re.search(r"(^|\.)(backbone\.body|rpn\.head)\.", other) for other in state):
            return [("torchvision", "first")], []
        if any(re.search(r"(^|\.)(backbone\.bottom_up|proposal_generator)\.", other) for other in state):
            return [bare if of_rows else ("detectron2", "last")], []
        if of_rows:
            return [("torchvision", "first"), bare], []
        if boxes is not None:
            return [("detectron2", "last")], []
        return [("detectron2", "last"), ("torchvision", "first")], []
    return [("unknown framework", at) for at in BACKGROUNDS], []


def _mmdet(meta: Mapping[Any, Any], state: Mapping[str, Stored], name: str) -> tuple[list[Candidate], list[str]]:
    """Return the possible versions of mmdet: by names of the detector's parts, its box regressor, then ``meta``."""
    width, boxes = len(state[name]), state.get(name.replace("fc_cls", "fc_reg"))
    of_rows = boxes is not None and len(boxes) == 4 * width
    # Four rows in all are shared by the classes.
    of_classes = boxes is not None and len(boxes) == 4 * (width - 1) > 4
    version = meta.get("mmdet_version")
    said_old = isinstance(version, str) and version.startswith(("0.", "1."))
    if any("roi_head" in other for other in state):
        if of_rows:
            return [("mmdet, a sigmoid without background", "none"), ("mmdet 1 under new names", "first")], []
        upgraded = f"named as in mmdet 2 and later, so background is last, though its meta says {str(version)[:20]!r}"
        return [("mmdet", "last")], [upgraded] * said_old
    if of_classes:
        return [("mmdet", "last")], []
    two_stages = any(re.search(r"(^|\.)(rpn_head|bbox_head(\.\d+)?\.shared_fcs)\.", other) for other in state)
    if said_old or of_rows or (two_stages and not isinstance(version, str)):
        return [("mmdet 1", "first")], []
    # Detectors without proposals, such as DETR, have no 'roi_head' in any version.
    return [("mmdet", "last")] + [("mmdet 1", "first")] * two_stages, []


def chosen(may_be: Sequence[Candidate], width: int, counts: Collection[int], last_id: int) -> Candidate | None:
    """Return the only candidate, or the only one that fits the number of classes; None if this decides nothing.

    Args:
        may_be: candidates, from ``candidates``.
        width: number of rows of the classifier.
        counts: possible numbers of classes.
        last_id: the greatest category id; torchvision's reference code has a row for each id up to this one.
    """
    if len(may_be) == 1:
        return may_be[0]
    fitting = [candidate for candidate in may_be if width - (candidate[1] != "none") in counts]
    if not fitting and width == last_id + 1:
        fitting = [candidate for candidate in may_be if candidate[0] == "torchvision"]
    return fitting[0] if len(fitting) == 1 and len(may_be) < len(BACKGROUNDS) else None
