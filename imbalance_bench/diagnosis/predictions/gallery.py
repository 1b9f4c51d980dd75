"""Pictures of tail objects that a detector confuses or does not find: which ones, and how they are drawn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from imbalance_bench.diagnosis.predictions.inputs import Inputs
from imbalance_bench.evaluation.error_analysis import FOREGROUND_IOU, Errors
from imbalance_bench.evaluation.matching import all_ious
from imbalance_bench.plotting import WRONG, use_style

PICTURES = 6
CANDIDATES = 60
"""Objects that are listed, as some images cannot be read."""
CORNERS = ["x1", "y1", "x2", "y2"]
AROUND = 1.0
"""Margin around an object, in its longer side."""
LEAST = 160
"""Shortest side of a picture's piece of the image, in pixels."""


def choose(inputs: Inputs, errors: Errors) -> pd.DataFrame:
    """List tail objects whose best detection is of another class, or that no detection is on, in turns.

    Each class comes before any comes again; of a class, larger objects first.

    Returns:
        Columns ``image_id``, ``file_name``, ``credit`` (author and licence, as far as the annotations tell), ``name``,
        ``x1 y1 x2 y2`` of the object, ``taken_by`` (empty: no detection), ``score``, and ``t_x1``.. of that detection.
    """
    truth, found, categories = inputs.truth, inputs.found, inputs.truth.categories
    lost = errors.counted & np.isin(truth.labels, categories.tail_labels) & (errors.takers != truth.labels)
    rows = np.flatnonzero(lost)
    frame = pd.DataFrame({"row": rows, "label": truth.labels[rows], "area": truth.boxes[rows, 2:].prod(axis=1),
                          "confused": errors.takers[rows] >= 0})  # fmt: skip
    frame = frame.sort_values("area", ascending=False, kind="stable")
    frame["turn"] = frame.groupby(["confused", "label"]).cumcount()
    chosen = frame.sort_values(["turn", "label"], kind="stable").head(CANDIDATES)
    listed = {image["id"]: image for image in inputs.content["images"]}
    licences = {entry.get("id"): entry.get("name") for entry in _objects(inputs.content, "licenses")}
    records = []
    for row in chosen["row"]:
        image_id = int(truth.image_ids[truth.images[row]])
        image, box = listed[image_id], truth.boxes[row]
        record = {
            "image_id": image_id,
            "file_name": image.get("file_name", ""),
            "credit": _credit(image, licences),
            "name": categories.names[truth.labels[row]],
            **dict(zip(CORNERS, [box[0], box[1], box[0] + box[2], box[1] + box[3]], strict=True)),
        }
        inside = np.flatnonzero(found.image_ids == image_id)
        on_it = inside[all_ious(found, inside, truth, np.array([row]))[:, 0] >= FOREGROUND_IOU]
        if len(on_it):
            best = on_it[found.scores[on_it].argmax()]
            record |= {"taken_by": categories.names[found.labels[best]], "score": float(found.scores[best])}
            record |= {f"t_{name}": float(value) for name, value in zip(CORNERS, found.boxes[best], strict=True)}
        records.append(record)
    columns = ["image_id", "file_name", "credit", "name", *CORNERS, "taken_by", "score", *(f"t_{c}" for c in CORNERS)]
    table = pd.DataFrame(records, columns=columns)
    return table.assign(taken_by=table["taken_by"].fillna(""))


def pictures(examples: pd.DataFrame, folder: Path, count: int = PICTURES) -> Iterator[tuple[Figure, str]]:
    """Draw examples, each with its caption; images that cannot be read are left out."""
    shown = 0
    for _, row in examples.iterrows():
        if shown == count:
            return
        try:
            with Image.open(folder / row["file_name"]) as file:
                piece, corner = _piece(file, row[CORNERS].to_numpy(dtype=float))
        except (OSError, ValueError, Image.DecompressionBombError):
            continue
        shown += 1
        yield _draw(piece, corner, row), _caption(row)


def _piece(file: Image.Image, box: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """Return the pixels around a box, and their upper left corner in the image."""
    side = max((1 + 2 * AROUND) * max(box[2] - box[0], box[3] - box[1]), LEAST) / 2
    x, y = (box[:2] + box[2:]) / 2
    left, top = max(0, int(x - side)), max(0, int(y - side))
    right, bottom = min(file.width, int(x + side) + 1), min(file.height, int(y + side) + 1)
    if right <= left or bottom <= top:
        raise ValueError("the box lies outside of the image")
    return np.asarray(file.convert("RGB").crop((left, top, right, bottom))), (left, top)


def _draw(piece: np.ndarray, corner: tuple[float, float], row: pd.Series) -> Figure:
    use_style()
    figure, axis = plt.subplots(figsize=(2.6, 2.6 * min(2, piece.shape[0] / piece.shape[1])), layout="constrained")
    axis.imshow(piece)
    axis.set_axis_off()
    shown = [("", "#009e73", "-")] + [("t_", WRONG, "--")] * (row["score"] == row["score"])
    for prefix, colour, style in shown:
        x1, y1, x2, y2 = (float(row[f"{prefix}{name}"]) for name in CORNERS)
        place = (x1 - corner[0], y1 - corner[1])
        axis.add_patch(Rectangle(place, x2 - x1, y2 - y1, fill=False, ec=colour, lw=1.8, ls=style))
    return figure


def _caption(row: pd.Series) -> str:
    what = "no detection is on it"
    if row["taken_by"]:
        what = f"detected as {row['taken_by']} (score {row['score']:.2f}, dashed)"
    credit = f"; {row['credit']}" if row["credit"] else ""
    return f"{row['name']}: {what}. {row['file_name']}{credit}"


def _credit(image: Mapping[str, Any], licences: Mapping[Any, Any]) -> str:
    """Return source and licence of an image, as its annotations state them."""
    source = next((image[name] for name in ("flickr_url", "coco_url", "url") if isinstance(image.get(name), str)), "")
    licence = licences.get(image.get("license"))
    return ", ".join(str(part) for part in (source, licence) if part)


def _objects(content: Mapping[str, Any], field: str) -> list[Mapping[str, Any]]:
    records = content.get(field)
    return [record for record in records if isinstance(record, Mapping)] if isinstance(records, list) else []
