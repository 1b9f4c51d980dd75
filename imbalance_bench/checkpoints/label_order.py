"""The category of each label of a detector: one rule for every command.

If the checkpoint has class names, they decide. Otherwise labels number the categories of the annotation file as the
training framework does: mmdet, maskrcnn-benchmark and Detectron in the order of the file (``getCatIds`` of
pycocotools), detectron2 by ascending id. Only some files list their categories by ascending id.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imbalance_bench.categories import CategoryTable
from imbalance_bench.runtime.errors import InputError, first

LABEL_ORDERS = ("names", "file")


@dataclass(frozen=True)
class LabelOrder:
    """The meaning of a detector's labels.

    Attributes:
        ids: (L,) category id of each label; None if the annotations lack the class.
        notes: how the ids were found and what is left out, one line each.
    """

    ids: tuple[int | None, ...]
    notes: tuple[str, ...]


def class_names(meta: Mapping[Any, Any]) -> tuple[str, ...] | None:
    """Return class names in label order if a checkpoint holds them (mmdet 3, mmdet 1 and 2, this suite), else None.

    Args:
        meta: ``meta`` of the checkpoint.
    """
    stated, own = meta.get("dataset_meta"), meta.get("categories")
    for place, key in ((own, "names"), (stated, "classes"), (stated, "CLASSES"), (meta, "CLASSES")):
        classes = place.get(key) if isinstance(place, Mapping) else None
        if isinstance(classes, str):
            # A tuple of one class without its comma.
            return (classes,)
        if isinstance(classes, (list, tuple)) and classes and all(isinstance(name, str) for name in classes):
            return tuple(classes)
    return None


def label_order(
    listed: Sequence[tuple[int, str]],
    classes: Sequence[str] | None,
    path: Path,
    *,
    by: str = "names",
    ascending: bool = False,
) -> LabelOrder:
    """Return the category of each label of a checkpoint.

    Names are compared exactly, or without case, spaces and signs if this finds more of them: mmdet 1 writes
    ``traffic_light`` for COCO's ``traffic light``.

    Args:
        listed: (id, name) of each category in the order of the annotation file; names that are ids are ignored.
        classes: result of ``class_names``, one name for each label.
        path: path of the checkpoint, for messages.
        by: ``names``, or ``file``: use the order of the file even if the checkpoint's names have another order. mmdet
            numbers classes by the file it trains on, whatever the order of the names in its configuration.
        ascending: whether labels without names go by ascending id.

    Raises:
        InputError: no name is a category's, or ``by`` is unknown.
    """
    if by not in LABEL_ORDERS:
        raise InputError(f"option '--label-order' is '{by}', expected {' or '.join(LABEL_ORDERS)}")
    ids = [category_id for category_id, _ in listed]
    named = classes is not None and any(name != str(category_id) for category_id, name in listed)
    repeated = named and classes is not None and (_repeats(classes) or _repeats([name for _, name in listed]))
    if classes is None or not named or repeated:
        why = "the checkpoint names no classes" if classes is None else "the annotations name no classes"
        why = "names are there more than once" if repeated else why
        if ascending:
            ids.sort()
        order = "of ascending ids" if ascending else "in which the annotations list the categories"
        return LabelOrder(tuple(ids), (f"labels are taken in the order {order}: {why}",))

    places = max((_places(listed, classes, key) for key in (str, _plain)), key=lambda places: len(places))
    if not places:
        raise InputError(
            f"{path}: none of its {len(classes)} class names ({first(classes, 5)}) is among the {len(listed)} training "
            f"categories ({first([name for _, name in listed], 5)}), expected the annotations it was trained on"
        )
    notes = []
    in_file = [label for category_id, _ in listed for label in [places.get(category_id)] if label is not None]
    of_label = {label: category_id for category_id, label in places.items()}
    if in_file != sorted(in_file):
        if by == "file":
            known = iter([category_id for category_id in ids if category_id in places])
            of_label = {label: next(known) for label in sorted(of_label)}
            notes.append("labels are taken in the order in which the annotations list the categories, as asked")
        else:
            notes.append(
                "labels are taken by the checkpoint's class names, which the annotations list in another order; if the "
                "detector was trained on this very file with mmdet, '--label-order file' is right"
            )
    lacking = [name for label, name in enumerate(classes) if label not in of_label]
    unknown = [name for category_id, name in listed if category_id not in places]
    if lacking:
        notes.append(f"{len(lacking)} classes of the checkpoint are not among the categories: {first(lacking, 5)}")
    if unknown:
        notes.append(f"{len(unknown)} categories that the checkpoint does not know are left out: {first(unknown, 5)}")
    return LabelOrder(tuple(of_label.get(label) for label in range(len(classes))), tuple(notes))


def labels_by_id(ids: Sequence[int], rows: int, first: int | None) -> LabelOrder | None:
    """Return the category of each label where there are more labels than categories, as torchvision has them.

    Its reference training takes category ids for labels, so that there is a label for each id up to the highest. Its
    dense heads count background, which no box is labelled with, as label 0.

    Args:
        ids: of the categories.
        rows: number of labels.
        first: number of the first label.

    Returns:
        An id for each label, one that no category has for labels of no category; None where the number is another one.

    Example:
        >>> labels_by_id([2, 4], rows=4, first=1).ids, labels_by_id([7, 5], rows=3, first=0).ids
        ((1, 2, 3, 4), (0, 5, 7))
    """
    if first is None or rows <= len(ids):
        return None
    left = rows - len(ids)
    note = f"{left} of {rows} labels are of no category and have no AP"
    if rows == max(ids) + 1 - first and min(ids) >= first:
        return LabelOrder(tuple(range(first, first + rows)), (f"labels are taken for category ids: {note}",))
    if first == 0 and left == 1:
        nobody = min(0, min(ids) - 1)
        return LabelOrder((nobody, *sorted(ids)), (f"labels after 0 are taken in the order of ascending ids: {note}",))
    return None


def check_labels(categories: CategoryTable, meta: Mapping[Any, Any], path: Path) -> None:
    """Check that a checkpoint's labels are those of a data set: 0..C-1 in ascending order of category id.

    Args:
        categories: categories of the data set, as many as the checkpoint has classes.
        meta: ``meta`` of the checkpoint.
        path: path of the checkpoint, for the message.

    Raises:
        InputError: the labels mean other categories, or the same ones in another order.
    """
    names = class_names(meta)
    names = names if names is not None and len(names) == categories.num_classes else None
    order = label_order(categories.listed(), names, path, ascending="classifier" in meta)
    for label, (theirs, ours) in enumerate(zip(order.ids, categories.ids.tolist(), strict=True)):
        if theirs != ours:
            meant = names[label] if names is not None else f"category {theirs}, the file's next"
            raise InputError(
                f"{path}: its label {label} is {meant}, expected {categories.names[label]}: labels of this data set go "
                "by ascending id ('diagnose' and 'weight-norms' take any order)"
            )


def _places(listed: Sequence[tuple[int, str]], classes: Sequence[str], key: Any) -> dict[int, int]:
    """Return the label of each category named in the checkpoint; empty if ``key`` makes two names equal."""
    label_of = {key(name): label for label, name in enumerate(classes)}
    keys = {key(name) for _, name in listed}
    if len(label_of) < len(classes) or len(keys) < len(listed):
        return {}
    return {category_id: label_of[key(name)] for category_id, name in listed if key(name) in label_of}


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", " ", name).strip().casefold()


def _repeats(names: Sequence[str]) -> bool:
    return len(set(names)) < len(names)
