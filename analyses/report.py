"""Tables and figures of one benchmark on disk, from its finished runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from analyses import detections, figures, per_category, tables
from imbalance_bench.categories import CategoryTable
from imbalance_bench.datasets.registry import DataSet
from imbalance_bench.evaluation.detection import Detections
from imbalance_bench.files import write_text
from imbalance_bench.methods import METHODS
from imbalance_bench.runs import RunFolder

COMPARED = ("baseline", "bags")
"""Runs that the weight-norm figure and the contact sheet show, if not others are named."""


def write_table1(root: Path, bin_names: Sequence[str], folder: Path) -> list[Path]:
    """Table 1 as CSV (fractions, with provenance) and as Markdown (percent)."""
    frame = tables.table1(root)
    text = tables.markdown(tables.shown(frame, [*tables.AP_COLUMNS, *tables.ACC_COLUMNS]))
    csv, markdown = folder / "table1.csv", folder / "table1.md"
    write_text(csv, frame.to_csv(index=False))
    write_text(markdown, f"{text}\n\n{tables.caption(bin_names, frame)}\n")
    return [csv, markdown]


def draw_weight_norms(root: Path, categories: CategoryTable, path: Path, runs: Sequence[str] = COMPARED) -> Path:
    """Figure 1/3: weight norm against rank."""
    frames = {_title(name): per_category.read(RunFolder(root / name).per_category) for name in runs}
    return figures.save(figures.weight_norms(frames, categories.bin_names, f"{root.parent.parent.name}"), path)


def draw_ap_by_bin(root: Path, categories: CategoryTable, path: Path) -> Path:
    """AP of every finished run in every bin."""
    frame = tables.table1(root)
    names = [
        f"{title} ({variant})" if variant else title
        for title, variant in zip(frame["title"], frame["variant"], strict=True)
    ]
    return figures.save(figures.ap_by_bin(frame, names, categories.bin_names, root.parent.parent.name), path)


def draw_detections(root: Path, dataset: DataSet, path: Path, runs: Sequence[str] = COMPARED, images: int = 6) -> Path:
    """Contact sheet of the validation images with most tail objects: ground truth and what each run finds."""
    categories = dataset.categories()
    truth = detections.ground_truth(dataset.val_annotations, categories)
    found = {name: Detections.load(RunFolder(root / name).detections) for name in runs}
    chosen = detections.images_with_most_tail(truth, images)
    of_image = [truth[truth["image_id"] == image_id] for image_id in chosen]
    pictures = []
    for boxes in of_image:
        with Image.open(dataset.val_images / boxes["file_name"].iloc[0]) as picture:
            pictures.append(np.asarray(picture.convert("RGB")))
    best = {
        _title(name): [detections.best(d, i, boxes, categories) for i, boxes in zip(chosen, of_image, strict=True)]
        for name, d in found.items()
    }
    title = (
        f"{dataset.name}: the {images} validation images with most objects of bins 1 and 2; of each run the best "
        "detections,\nas many as there are objects: blue where class and place (IoU >= .5) are right, orange where not"
    )
    return figures.save(figures.contact_sheet(pictures, of_image, best, title), path, dpi=130)


def _title(run: str) -> str:
    """Title of a run folder's method, with its variant."""
    for name in sorted(METHODS, key=len, reverse=True):
        if run == name:
            return METHODS[name].title
        if run.startswith(f"{name}-") and run.removeprefix(f"{name}-") in METHODS[name].variants:
            return f"{METHODS[name].title} ({run.removeprefix(f'{name}-')})"
    return run
