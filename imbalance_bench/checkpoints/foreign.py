"""Find the box classifier in a checkpoint of any framework by name and shape, and put its rows in category order.

The place of background is decided by ``frameworks``, the category of each row by ``label_order``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from imbalance_bench.categories import CategoryTable
from imbalance_bench.checkpoints import own as checkpoints
from imbalance_bench.checkpoints.formats import Checkpoint, Stored, values
from imbalance_bench.checkpoints.frameworks import BACKGROUNDS, WEIGHT, candidates, chosen
from imbalance_bench.checkpoints.label_order import LabelOrder, class_names, label_order
from imbalance_bench.runtime.equality import ByValue
from imbalance_bench.runtime.errors import InputError

if TYPE_CHECKING:
    from imbalance_bench.classifiers import Classifier


@dataclass(frozen=True, eq=False)
class FoundClassifier(ByValue):
    """A classifier found in a checkpoint; a cascade has one for each stage.

    Attributes:
        tensor: name of its weight, with its place in the file.
        stage: name of its head, which distinguishes the stages.
        framework: framework of the checkpoint, as far as it is known.
        width: K, number of rows of the tensor.
        background_row: row of the tensor that scores background; None if there is none.
        weights: (C + 1, d) rows in category order, background last (NaN if it has no row); single precision.
        biases: (C + 1,) biases, NaN if there are none.
        categories: the C given categories that the checkpoint knows; None if none were given: then rows are labels.
        notes: decisions about the classifier, one line each.
    """

    tensor: str
    stage: str
    framework: str
    width: int
    background_row: int | None
    weights: np.ndarray
    biases: np.ndarray
    categories: CategoryTable | None = None
    notes: tuple[str, ...] = ()


def find(
    checkpoint: Checkpoint,
    categories: CategoryTable | None = None,
    key: str | None = None,
    background: str | None = None,
    by: str = "names",
) -> list[FoundClassifier]:
    """Find the classifiers of a checkpoint, in the order of stages.

    Only their tensors are read. A checkpoint of this suite states its classifier; in any other the classifier is found
    by name. With ``categories`` widths other than C + 1 are supported too: the helper rows of group softmax (BAGS,
    C + 2 + N for N groups) and of SeesawLoss (C + 2), and rows by category id (torchvision's 91 for COCO).

    Args:
        checkpoint: result of ``formats.read``.
        categories: categories the classifier was trained on; without them every row is a class. Categories missing from
            the checkpoint's class names are left out, and so are classes missing from the categories.
        key: name of the tensor to take, in the state dict or with its place in the file.
        background: place of background: ``first``, ``last`` or ``none``; by default decided from the framework.
        by: source of the class of each row (``label_order``).

    Raises:
        InputError: no classifier is found, shapes do not fit each other or the categories, values are not numbers, no
            class name is a category's, or the place of background cannot be decided.
    """
    path = checkpoint.path
    if background not in (None, *BACKGROUNDS):
        raise InputError(f"option '--background' is '{background}', expected {', '.join(BACKGROUNDS)}")
    own = key is None and background is None and "classifier" in checkpoint.meta
    place, names = _names(checkpoint, key, own)
    state = checkpoint.states[place]
    if own:
        tensors = checkpoints.tensors({name: state[name] for name in names}, path)
        for name, tensor in tensors.items():
            if tensor.is_floating_point():
                values(tensor, place + name, path)
        content = {"state_dict": tensors, "meta": checkpoint.meta}
        classifiers = checkpoints.classifiers_of(content, path)
        found = [_own(checkpoint, stage, classifier, categories, by) for stage, classifier in classifiers.items()]
    else:
        found = [_foreign(checkpoint, place, name, categories, background, by) for name in names]
    if len(shapes := {tuple(classifier.weights.shape) for classifier in found}) > 1:
        raise InputError(f"{path}: its stages differ in shape: {sorted(shapes)}, expected one (C + 1, d) for all")
    return found


def _names(checkpoint: Checkpoint, key: str | None, own: bool) -> tuple[str, list[str]]:
    """Return the place of the first state dict with a classifier, and the names of its weights in order of stages.

    If the checkpoint is this suite's ``own``, these are the names of all tensors of the classifier.
    """
    for place, state in checkpoint.states.items():
        if key is not None:
            names = [name for name in state if key in (name, place + name)]
        elif own:
            names = list(filter(checkpoints.is_classifier, state))
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


def _own(
    checkpoint: Checkpoint, stage: str, classifier: Classifier, categories: CategoryTable | None, by: str
) -> FoundClassifier:
    """Return a classifier of this suite; its class knows the meaning of its rows."""
    from imbalance_bench.classifiers import LinearClassifier

    weights, biases = classifier.class_weights(), classifier.class_biases()
    width, row = len(weights), len(weights) - 1
    if isinstance(classifier, LinearClassifier):
        width, row = len(classifier.weight), int(classifier.rows()[-1])
    found = FoundClassifier(
        tensor=f"{stage}.fc_cls",
        stage=stage,
        framework=f"imbalance-bench, {type(classifier).__name__}",
        width=width,
        background_row=row if classifier.has_background_row else None,
        weights=weights.detach().numpy(),
        biases=biases.detach().numpy(),
    )
    if categories is None:
        return found
    labels = classifier.num_classes
    order = _order(checkpoint, categories, labels, ascending=True, by=by)
    if len(order.ids) != labels:
        raise _misfit(checkpoint, found.tensor, width, categories)
    arranged = _arranged(found, order, list(range(labels)), labels, categories)
    return replace(arranged, background_row=found.background_row)


def _foreign(
    checkpoint: Checkpoint, place: str, name: str, categories: CategoryTable | None, background: str | None, by: str
) -> FoundClassifier:
    """Return the classifier of another framework, with its rows in category order."""
    state, path = checkpoint.states[place], checkpoint.path
    weight = state[name]
    if weight.ndim != 2 or not len(weight) or not weight.shape[1]:
        what = ": ZeRO stage 3 leaves it empty and keeps the weights in other files, join them (zero_to_fp32.py)"
        sharded = _is_empty(weight) and any(_is_empty(tensor) for n, tensor in state.items() if n != name)
        raise InputError(
            f"{path}: field '{place + name}' has shape {tuple(weight.shape)}, expected (C + 1, d){what * sharded}"
        )
    weights = values(weight, place + name, path)
    sibling = re.sub(r"weight$", "bias", re.sub(r"_w$", "_b", name))
    bias = state.get(sibling) if sibling != name else None
    if bias is not None and tuple(bias.shape) != weights.shape[:1]:
        raise InputError(
            f"{path}: the bias of field '{place + name}' has shape {tuple(bias.shape)}, expected ({len(weight)},)"
        )
    biases = np.full(len(weight), np.nan, np.float32)
    if bias is not None:
        biases = values(bias, f"the bias of {place + name}", path)
    may_be, notes = candidates(checkpoint.meta, state, name)
    if background is not None:
        known = {framework for framework, at in may_be if at == background or len(may_be) == 1}
        may_be = [(known.pop() if len(known) == 1 else "unknown framework", background)]
    named = class_names(checkpoint.meta)
    counts = {len(named)} if named else set()
    counts |= {categories.num_classes} if categories is not None else set()
    if (one := chosen(may_be, len(weight), counts, categories.ids[-1] if categories is not None else 0)) is None:
        places = [at for at in BACKGROUNDS if at in dict(may_be).values()]
        raise InputError(
            f"{path}: nothing tells where background is in '{place + name}' ({len(weight)} rows), say so with "
            f"--background ({', '.join(places)})"
        )
    framework, at = one
    if len(weight) <= (at != "none"):
        raise InputError(
            f"{path}: field '{place + name}' has shape {tuple(weight.shape)}, expected (C + 1, d) (a detector of one "
            "class without a row for background says '--background none')"
        )
    stage = re.sub(r"^(?:ema_|module\.)+|[._]?(?:fc_cls|cls_score)?[._](?:weight|w)$", "", name) or "classifier"
    found = FoundClassifier(place + name, stage, framework, len(weight), None, weights, biases, notes=tuple(notes))
    if categories is not None:
        return _for_categories(checkpoint, found, at, categories, stated=background is not None, by=by)
    rows, row = _plain_rows(len(weight), at)
    if named is not None and len(named) == len(weight) and background is None and row is not None:
        raise InputError(
            f"{path}: field '{place + name}' has {len(weight)} rows and the checkpoint names {len(named)} classes, "
            f"expected {len(named)} + 1; '--background none' says that it has no row for background"
        )
    if background is None and named is None and row is not None:
        note = f"row {row} is taken for background's as {framework} has it; if it has none (EQL), '--background none'"
        found = replace(found, notes=(*found.notes, note))
    return _arranged(found, None, rows, row, None)


def _for_categories(
    checkpoint: Checkpoint, found: FoundClassifier, at: str, categories: CategoryTable, *, stated: bool, by: str
) -> FoundClassifier:
    """Return the classifier with the rows of the given categories; helper rows are left out.

    Raises:
        InputError: the number of rows does not fit.
    """
    ascending = found.framework.startswith(("detectron2", "torchvision"))
    plain, row = _plain_rows(found.width, at)
    if at == "first" and len(plain) != categories.num_classes and categories.ids[0] > 0:
        # torchvision's reference takes ids for labels, so that ids that nobody has are rows too.
        width = categories.ids[-1] + 1
        if found.width == width or (found.framework == "torchvision" and found.width > width):
            rows = categories.ids.tolist()
            return _arranged(found, LabelOrder(tuple(rows), ()), rows, row, categories, ", rows by category id")
    with_helpers = found.framework.startswith("mmdet") and not stated
    named = class_names(checkpoint.meta)
    for labels in (len(named) if named else 0, categories.num_classes):
        helpers, rows, what = found.width - labels, list(range(labels)), ""
        edges = _group_edges(categories, helpers - 2) if with_helpers and helpers - 2 <= labels else None
        if len(plain) != labels and not (with_helpers and (helpers == 2 or edges is not None)):
            continue
        order = _order(checkpoint, categories, labels, ascending=ascending, by=by)
        if len(order.ids) != labels:
            continue
        if len(plain) == labels:
            rows = plain
        elif helpers == 2:
            row, what = found.width - 1, ", with SeesawLoss's objectness"
        elif edges is not None:
            grouped = _group_rows(found.width, order, categories, edges)
            if grouped is None:
                continue
            rows, row, what = grouped, 0, f", group softmax of {helpers - 2} groups"
        return _arranged(found, order, rows, row, categories, what)
    raise _misfit(checkpoint, found.tensor, found.width, categories)


def _misfit(checkpoint: Checkpoint, tensor: str, width: int, categories: CategoryTable) -> InputError:
    none = "; '--background none' says that it has no row for background" * (width == categories.num_classes)
    return InputError(
        f"{checkpoint.path}: field '{tensor}' has {width} rows, expected {categories.num_classes} + 1: the training "
        f"categories have {categories.num_classes} entries{none}"
    )


def _order(checkpoint: Checkpoint, categories: CategoryTable, labels: int, *, ascending: bool, by: str) -> LabelOrder:
    """Return the category of each label; class names are ignored if their number differs from ``labels``."""
    named = class_names(checkpoint.meta)
    fits = named is not None and len(named) == labels
    order = label_order(categories.listed(), named if fits else None, checkpoint.path, by=by, ascending=ascending)
    if named is None or fits:
        return order
    # mmdet 1 writes COCO's 80 names whatever its detector was trained on.
    *_, note = order.notes
    note = note.rpartition(":")[0] + f": the checkpoint names {len(named)} classes, which its classifier does not have"
    return replace(order, notes=(note,))


def _arranged(
    found: FoundClassifier,
    order: LabelOrder | None,
    rows: list[int],
    background: int | None,
    categories: CategoryTable | None,
    peculiar: str = "",
) -> FoundClassifier:
    """Return the classifier with rows in category order, then background (a row of NaN if it has none).

    Args:
        found: classifier with weights and biases in the order of the file.
        order: category of each label; None: labels stay as they are.
        rows: row of each label.
        background: row of background.
        categories: categories to keep.
        peculiar: text added to the name of the framework.
    """
    if order is not None and categories is not None:
        row_of = {category_id: row for category_id, row in zip(order.ids, rows, strict=True) if category_id is not None}
        known = [label for label, category_id in enumerate(categories.ids.tolist()) if category_id in row_of]
        categories = categories.subset(known)
        rows = [row_of[category_id] for category_id in categories.ids.tolist()]
    weights, biases = (
        np.concatenate([a, np.full_like(a[:1], np.nan)])[[*rows, len(a) if background is None else background]]
        for a in (found.weights, found.biases)
    )
    return replace(
        found,
        framework=found.framework + peculiar,
        background_row=background,
        weights=weights,
        biases=biases,
        categories=categories,
        notes=found.notes + (order.notes if order else ()),
    )


def _plain_rows(width: int, background: str) -> tuple[list[int], int | None]:
    """Return (row of each label, row of background) of a classifier without helper rows."""
    start, stop = int(background == "first"), width - int(background == "last")
    return list(range(start, stop)), {"first": 0, "last": width - 1, "none": None}[background]


def _is_empty(tensor: Stored) -> bool:
    return 0 in tensor.shape


def _group_edges(categories: CategoryTable, groups: int) -> tuple[int, ...] | None:
    if groups < 1:
        return None
    from imbalance_bench.classifiers import group_edges

    try:
        return group_edges(categories.bin_edges, groups)
    except ValueError:
        return None


def _group_rows(width: int, order: LabelOrder, categories: CategoryTable, edges: tuple[int, ...]) -> list[int] | None:
    """Return the row of each label in the released group softmax (section 4); None if the width does not fit.

    Groups are by train instances, and the helper rows come first.
    """
    from imbalance_bench.classifiers import GroupSoftmaxClassifier, groups_by_count

    labels = len(order.ids)
    known = np.array([category_id for category_id in order.ids if category_id is not None], dtype=np.int64)
    if len(known) < labels:
        return None
    groups = groups_by_count(categories.instance_counts[categories.labels_of(known)], edges)
    rows = GroupSoftmaxClassifier(labels, 1, groups)
    return rows.column_of_label.tolist() if len(rows.weight) == width else None
