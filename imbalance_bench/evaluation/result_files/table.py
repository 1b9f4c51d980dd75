"""Detections in a table or a list of objects, one a row: what each column is, by its name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import pandas as pd

from imbalance_bench.evaluation import coco_results
from imbalance_bench.evaluation.coco_results import MISSING, Place
from imbalance_bench.evaluation.result_files.found import Column, Form, Rows
from imbalance_bench.runtime.errors import InputError, first

NAMES = {
    "image_ids": ("imageid", "imgid", "image", "img"),
    "image_names": ("filename", "imagename", "imgname", "imagepath", "imgpath", "imagefile", "filepath", "file",
                    "path"),
    "class_ids": ("categoryid", "classid", "labelid", "clsid", "category", "class", "label", "cls"),
    "class_names": ("categoryname", "classname", "labelname", "name"),
    "scores": ("score", "confidence", "conf", "probability", "prob"),
}  # fmt: skip
"""Names of columns, in lower case without signs, by what they hold; the first that a table has counts."""
CORNERS: tuple[tuple[tuple[str, str, str, str], Form], ...] = (
    (("x1", "y1", "x2", "y2"), "xyxy"),
    (("xmin", "ymin", "xmax", "ymax"), "xyxy"),
    (("left", "top", "right", "bottom"), "xyxy"),
    (("xcenter", "ycenter", "width", "height"), "cxcywh"),
    (("cx", "cy", "w", "h"), "cxcywh"),
    (("x", "y", "w", "h"), "xywh"),
    (("x", "y", "width", "height"), "xywh"),
    (("left", "top", "width", "height"), "xywh"),
    (("xmin", "ymin", "width", "height"), "xywh"),
    (("xmin", "ymin", "w", "h"), "xywh"),
)
"""Names of the four columns of a box, also with ``bbox`` or ``box`` before each."""
WHOLE: tuple[tuple[str, Form], ...] = (
    ("bboxxyxy", "xyxy"), ("boxxyxy", "xyxy"), ("xyxy", "xyxy"), ("bboxxywh", "xywh"), ("boxxywh", "xywh"),
    ("xywh", "xywh"), ("bbox", "xywh"), ("box", "xywh"), ("boundingbox", "xywh"),
)  # fmt: skip
"""Names of one column of four numbers; ``bbox`` is COCO's."""
WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,18}(\.0+)?")
MASKS = "segmentation"
"""Name of the column of masks."""
UNREAD = ("scores", "allscores", "classscores", "probabilities", "probs", "logits")
"""Names of columns of the scores of all classes, which are not read but said."""
SEEN = 1_000
"""Number of objects whose fields are looked at to tell what there is."""


@dataclass(frozen=True)
class Table:
    """Rows and columns of whatever file.

    Attributes:
        kind: the format, in words.
        source: name of the file, for messages.
        names: names of the columns.
        column: returns the values of a column.
        place: names the place of a row.
        has_masks: its field ``segmentation``, if any, holds run-length encoded masks.
    """

    kind: str
    source: str
    names: Sequence[str]
    column: Callable[[str], Sequence[Any]]
    place: Place
    has_masks: bool = False


def of_objects(content: list[dict[str, Any]], source: str, place: Place | None = None, kind: str = "") -> Rows:
    """Read a list of objects, one a detection.

    Args:
        content: the objects.
        source: name of the file, for messages.
        place: names the place of an object; None: its place in the list.
        kind: the format, in words; empty: told by the fields.

    Raises:
        InputError: it holds other things, or a field is missing in all objects.
    """

    def in_list(row: int) -> str:
        return f"{source}: results[{row}]"

    coco_results.check_objects(content, place or in_list)
    if not content:
        none = Column("image_id", [])
        return Rows("an empty list", in_list, none, none, image_ids=none, class_ids=none)
    names = [name for name in dict.fromkeys(chain.from_iterable(content[:SEEN])) if isinstance(name, str)]
    is_coco = {"image_id", "category_id", "score"} <= {*names}
    kind = kind or ("COCO results" if is_coco else _sink(names) or "a list of detections")

    def column(name: str) -> list[Any]:
        return coco_results.column(content, name)

    return rows(Table(kind, source, names, column, place or in_list, has_masks=True))


def of_frame(frame: pd.DataFrame, source: str, *, text: bool) -> Rows:
    """Read a table, one detection a row.

    Args:
        frame: the table.
        source: name of the file, for messages.
        text: its cells are text, as of a CSV file.

    Raises:
        InputError: a column is missing.
    """
    numeric = {*NAMES["scores"], *chain.from_iterable(names for names, _ in CORNERS)}

    def column(name: str) -> list[Any]:
        cells, plain = frame[name], _plain(name)
        if not text:
            return [value.tolist() if hasattr(value, "tolist") else value for value in cells.tolist()]
        if _without_box(plain) in numeric:
            return _or_text(cells, pd.to_numeric(cells, errors="coerce"))
        if plain in (*NAMES["image_ids"], *NAMES["class_ids"]):
            return [_whole_or_text(cell) for cell in cells.tolist()]
        return [_list_of(cell) for cell in cells.tolist()] if plain in dict(WHOLE) else cells.tolist()

    def place(row: int) -> str:
        return f"{source}: row {row + 1}"

    names = [*map(str, frame.columns)]
    kind = _sink(names) or ("a table (CSV)" if text else "a table (Parquet)")
    return rows(Table(kind, source, names, column, place))


def _sink(names: Sequence[str]) -> str:
    """Return what supervision's sinks are called if these are their fields, else nothing."""
    return "supervision's sink" if {"x_min", "class_id", "confidence", "tracker_id"} <= {*names} else ""


def rows(table: Table) -> Rows:
    """Find the columns of a table by their names.

    Raises:
        InputError: there is none for the images, the classes, the scores or the boxes.
    """
    named: dict[str, str] = {}
    for name in table.names:
        named.setdefault(_plain(name), name)
    found: dict[str, Column] = {}
    for role, names in NAMES.items():
        for name in names:
            if name in named and role not in found:
                column = Column(named[name], table.column(named[name]))
                if not len(column.cells) or any(cell not in (MISSING, None, "") for cell in column.cells):
                    found[role] = column
    boxes, form = _boxes(table, named)
    for role, what in (("image", "images (image_id, file_name)"), ("class", "classes (category_id, class_name)")):
        if not {f"{role}_ids", f"{role}_names"} & {*found}:
            raise _lacking(table, f"the {what}")
    if "scores" not in found:
        raise _lacking(table, "the scores (score, confidence)")
    masks = Column(MASKS, table.column(MASKS)) if table.has_masks and MASKS in table.names else None
    unread = [named[name] for name in UNREAD if name in named]
    if MASKS in table.names and masks is None:
        unread.append(MASKS)
    if boxes is None and masks is None:
        raise _lacking(table, "the boxes (x1, y1, x2, y2, or bbox)")
    return Rows(
        table.kind,
        table.place,
        found["scores"],
        boxes or Column("bbox", [MISSING] * len(found["scores"].cells)),
        image_ids=found.get("image_ids"),
        image_names=found.get("image_names"),
        class_ids=found.get("class_ids"),
        class_names=found.get("class_names"),
        masks=masks,
        form=form,
        notes=(f"not read: {first(unread)}",) if unread else (),
    )


def _boxes(table: Table, named: dict[str, str]) -> tuple[Column | None, Form]:
    """Return the column of boxes and what its numbers are."""
    for prefix in ("", "bbox", "box"):
        for names, form in CORNERS:
            if all(prefix + name in named for name in names):
                own = [named[prefix + name] for name in names]
                return Column(", ".join(own), [*zip(*map(table.column, own), strict=True)]), form
    for name, form in WHOLE:
        if name in named:
            values = table.column(named[name])
            if values and isinstance(values[0], dict):
                return _of_box_objects(named[name], values)
            return Column(named[name], values), form
    return None, "xywh"


def _of_box_objects(field: str, values: Sequence[Any]) -> tuple[Column, Form]:
    """Read boxes that are objects with four fields; one that is not becomes its own value, which is refused later."""
    own = {_plain(name): name for name in values[0] if isinstance(name, str)}
    for names, form in CORNERS:
        if all(name in own for name in names):
            fields = [own[name] for name in names]
            return Column(
                field, [[v.get(name) for name in fields] if isinstance(v, dict) else v for v in values]
            ), form  # fmt: skip
    return Column(field, values), "xyxy"


def _lacking(table: Table, what: str) -> InputError:
    return InputError(f"{table.source}: no field for {what}, found {first(table.names, 12) or 'none'}")


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())


def _without_box(name: str) -> str:
    return re.sub(r"^b?box(?=.)", "", name)


def _whole_or_text(cell: Any) -> Any:
    return int(cell.partition(".")[0]) if isinstance(cell, str) and WHOLE_NUMBER.fullmatch(cell) else cell


def _or_text(cells: pd.Series, values: pd.Series) -> list[Any]:
    """Return values, and the text of the cell where there is none."""
    found: list[Any] = (values if values.notna().all() else values.astype(object).where(values.notna(), cells)).tolist()
    return found


def _list_of(cell: Any) -> Any:
    """Read a cell that holds a list; anything else stays as it is."""
    try:
        found = json.loads(cell) if isinstance(cell, str) and len(cell) < 1_000 else cell
    except (ValueError, RecursionError):
        return cell
    return found if isinstance(found, list) else cell
