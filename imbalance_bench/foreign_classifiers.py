"""The box classifier in a checkpoint of any framework, found by name and shape, its rows in category order.

Where background stands, by framework: mmdet 2 and 3 (``roi_head.bbox_head.fc_cls``) and detectron2 have it last, mmdet
1 (no ``roi_head``), torchvision, maskrcnn-benchmark and Detectron first. torchvision and detectron2 share the name
``roi_heads.box_predictor.cls_score``; the box regressor beside it tells them apart, for torchvision regresses boxes of
background too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import Tensor

from imbalance_bench import checkpoints
from imbalance_bench.categories import CategoryTable
from imbalance_bench.checkpoint_formats import Checkpoint, values
from imbalance_bench.classifiers import (
    Classifier,
    GroupSoftmaxClassifier,
    LinearClassifier,
    group_edges,
    groups_by_count,
)
from imbalance_bench.equality import ByValue
from imbalance_bench.errors import InputError

BACKGROUNDS = ("first", "last", "none")
WEIGHT = re.compile(
    r"(?P<mmdet>(?:^|[._])fc_cls[._]weight$)|(?P<benchmark>box\.predictor\.cls_score\.weight$)"
    r"|(?P<roi>box_predictor(?:\.\d+)?\.cls_score\.weight$)|(?P<caffe2>^cls_score_w$)"
)
"""Names of classifiers: mmdet's, maskrcnn-benchmark's, torchvision's and detectron2's, Detectron's."""


@dataclass(frozen=True, eq=False)
class FoundClassifier(ByValue):
    """A classifier as it stands in a checkpoint; one a stage of a cascade.

    Attributes:
        tensor: name of its weight, with its place in the file.
        stage: name of its head, by which stages are told apart.
        framework: whose, as far as it can be told.
        width: K, rows of the tensor.
        background_row: of those rows, the one that scores background; None where there is none.
        weights: (C + 1, d) rows in category order, background last, NaN where it has no row; single precision.
        biases: (C + 1,), NaN where there are none.
    """

    tensor: str
    stage: str
    framework: str
    width: int
    background_row: int | None
    weights: Tensor
    biases: Tensor


def find(
    checkpoint: Checkpoint,
    categories: CategoryTable | None = None,
    key: str | None = None,
    background: str | None = None,
) -> list[FoundClassifier]:
    """The classifiers of a checkpoint in the order of stages.

    Only their tensors are read. A checkpoint of this suite says what its classifier is; in any other it is found by
    name. With ``categories`` widths other than C + 1 are understood too: the helper rows of group softmax (BAGS,
    C + 2 + N for N groups) and of SeesawLoss (C + 2), and rows by category id (torchvision's 91 for COCO).

    Args:
        checkpoint: of ``checkpoint_formats.read``.
        categories: that it was trained on; without, every row is a class.
        key: take this tensor, by its name in the state dict or with its place in the file.
        background: ``first``, ``last`` or ``none``; by framework if not given.

    Raises:
        InputError: none found, shapes that do not fit each other or the categories, values that are no numbers,
            or a background that nothing tells the place of.
    """
    path = checkpoint.path
    if background not in (None, *BACKGROUNDS):
        raise InputError(f"option '--background' is '{background}', expected {', '.join(BACKGROUNDS)}")
    own = key is None and background is None and "classifier" in checkpoint.meta
    place, names = _names(checkpoint, key, own)
    state = checkpoint.states[place]
    if own:
        for name, tensor in state.items():
            if checkpoints.CLASSIFIER_PREFIX.search(name) and tensor.is_floating_point():
                values(tensor, place + name, path)
        content = {"state_dict": state, "meta": checkpoint.meta}
        found = [_own(stage, classifier) for stage, classifier in checkpoints.classifiers_of(content, path).items()]
    else:
        found = [_foreign(checkpoint, place, name, categories, background) for name in names]
    if len(shapes := {tuple(classifier.weights.shape) for classifier in found}) > 1:
        raise InputError(f"{path}: its stages differ in shape: {sorted(shapes)}, expected one (C + 1, d) for all")
    if categories is not None and len(found[0].weights) != categories.num_classes + 1:
        raise InputError(
            f"{path}: field '{found[0].tensor}' has {found[0].width} rows, expected {categories.num_classes} + 1: the "
            f"training categories have {categories.num_classes} entries"
        )
    return found


def _names(checkpoint: Checkpoint, key: str | None, own: bool) -> tuple[str, list[str]]:
    """Place of the first state dict that holds a classifier, and the names of its weights in order of stages (all
    of its tensors where the checkpoint is this suite's ``own``)."""
    for place, state in checkpoint.states.items():
        if key is not None:
            names = [name for name in state if key in (name, place + name)]
        elif own:
            names = list(filter(checkpoints.CLASSIFIER_PREFIX.search, state))
        else:
            names = sorted(filter(WEIGHT.search, state), key=checkpoints.stage_order)
            # mmdet 2 keeps the other of averaged and plain weights beside the ones to use, as 'ema_...'.
            names = [name for name in names if not name.startswith("ema_")] or names
        if names:
            return place, names
    if key is not None:
        raise InputError(f"{checkpoint.path}: option '--key' is '{key}', but no tensor has this name")
    raise InputError(
        f"{checkpoint.path}: no '...fc_cls.weight', '...cls_score.weight' or 'cls_score_w' in it, expected a detector "
        "with a box classifier (--key names its tensor)"
    )


def _own(stage: str, classifier: Classifier) -> FoundClassifier:
    """A classifier of this suite, which knows its rows itself."""
    weights = classifier.class_weights()
    width, row = len(weights), len(weights) - 1
    if isinstance(classifier, LinearClassifier):
        width, row = len(classifier.weight), int(classifier.rows()[-1])
    return FoundClassifier(
        tensor=f"{stage}.fc_cls",
        stage=stage,
        framework=f"imbalance-bench, {type(classifier).__name__}",
        width=width,
        background_row=row if classifier.has_background_row else None,
        weights=weights,
        biases=classifier.class_biases(),
    )


def _foreign(
    checkpoint: Checkpoint, place: str, name: str, categories: CategoryTable | None, background: str | None
) -> FoundClassifier:
    """The tensor of another framework, its rows in category order."""
    state, path = checkpoint.states[place], checkpoint.path
    weight = state[name]
    if weight.dim() != 2 or len(weight) < 2 or not weight.shape[1]:
        raise InputError(f"{path}: field '{place + name}' has shape {tuple(weight.shape)}, expected (C + 1, d)")
    weight = values(weight, place + name, path)
    sibling = re.sub(r"weight$", "bias", re.sub(r"_w$", "_b", name))
    bias = state.get(sibling) if sibling != name else None
    if bias is not None and bias.shape != weight.shape[:1]:
        raise InputError(
            f"{path}: the bias of field '{place + name}' has shape {tuple(bias.shape)}, expected ({len(weight)},)"
        )
    bias = torch.full((len(weight),), torch.nan) if bias is None else values(bias, f"the bias of {place + name}", path)
    framework, at = _framework(checkpoint, place, name)
    at = background or at
    if at is None:
        raise InputError(f"{path}: nothing tells where background is in '{place + name}', say so with --background")
    rows, row, note = _layout(len(weight), at, framework, categories, stated=background is not None)
    # Background after the classes; a row of NaN where it has none.
    weight, bias = (torch.cat([t, torch.full_like(t[:1], torch.nan)]) for t in (weight, bias))
    order = [*rows, len(weight) - 1 if row is None else row]
    stage = re.sub(r"^(?:ema_|module\.)+|[._]?(?:fc_cls|cls_score)?[._](?:weight|w)$", "", name) or "classifier"
    return FoundClassifier(place + name, stage, framework + note, len(weight) - 1, row, weight[order], bias[order])


def _framework(checkpoint: Checkpoint, place: str, name: str) -> tuple[str, str | None]:
    """Whose a classifier is, by its name and its neighbours, and where background stands there."""
    state, found = checkpoint.states[place], WEIGHT.search(name)
    kind = found.lastgroup if found else None
    if kind == "mmdet":
        version = checkpoint.meta.get("mmdet_version")
        if isinstance(version, str):
            old = version.startswith(("0.", "1."))
        else:
            # Detectors without proposals, such as DETR, have no 'roi_head' in any version.
            old = any("rpn_head" in other for other in state) and not any("roi_head" in other for other in state)
        return ("mmdet 1", "first") if old else ("mmdet", "last")
    if kind == "benchmark":
        return "maskrcnn-benchmark", "first"
    if kind == "caffe2":
        return "Detectron", "first"
    if kind == "roi":
        boxes = state.get(name.replace("cls_score", "bbox_pred"))
        if boxes is None:
            return "detectron2 or torchvision", None
        return ("torchvision", "first") if len(boxes) == 4 * len(state[name]) else ("detectron2", "last")
    return "unknown framework", None


def _layout(
    width: int, background: str, framework: str, categories: CategoryTable | None, stated: bool
) -> tuple[list[int], int | None, str]:
    """(row of each class, row of background, what is peculiar) of a tensor with ``width`` rows."""
    start, stop = int(background == "first"), width - int(background == "last")
    row = {"first": 0, "last": width - 1, "none": None}[background]
    plain = list(range(start, stop)), row, ""
    if categories is None or stop - start == categories.num_classes:
        return plain
    classes = categories.num_classes
    if framework.startswith("mmdet") and not stated:
        if width == classes + 2:
            return list(range(classes)), width - 1, ", with SeesawLoss's objectness"
        rows = _group_rows(width, categories)
        if rows is not None:
            return rows, 0, f", group softmax of {width - classes - 2} groups"
    if background == "first" and width == categories.ids[-1] + 1 and categories.ids[0] > 0:
        return categories.ids.tolist(), row, ", rows by category id"
    return plain


def _group_rows(width: int, categories: CategoryTable) -> list[int] | None:
    """Row of each class in group softmax as released (section 4): groups by train instances, helper rows first."""
    number = width - categories.num_classes - 2
    try:
        groups = groups_by_count(categories.instance_counts, group_edges(categories.bin_edges, number))
    except ValueError:
        return None
    rows = GroupSoftmaxClassifier(categories.num_classes, 1, groups)
    return rows.column_of_label.tolist() if len(rows.weight) == width else None
