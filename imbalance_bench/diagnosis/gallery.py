"""Validation images in which the recommended fix finds objects of the tail that the unchanged detector misses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from imbalance_bench import plotting
from imbalance_bench.categories import CategoryTable
from imbalance_bench.diagnosis.result import Diagnosis
from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.evaluation.examples import best, ground_truth
from imbalance_bench.experiments.run_folder import RunFolder

COUNT, LOOKED_AT = 6, 400
"""Number of images that are shown, and of images that are searched for them."""
FOLDER = "examples"


def drawn(folder: Path) -> list[Path]:
    """List the pictures that a diagnosis's folder has, the one with the most found first."""
    return sorted((folder / FOLDER).glob("*.png"))


def draw(diagnosis: Diagnosis) -> None:
    """Draw the pictures into the diagnosis's folder; where its runs are not, as in a copy, those there stay."""
    if not (diagnosis.folder / "val.json").exists():
        return
    for path in drawn(diagnosis.folder):
        path.unlink()
    for number, (image_id, pixels, truth, found) in enumerate(rescued(diagnosis), start=1):
        figure = plotting.contact_sheet([pixels], [truth], {name: [boxes] for name, boxes in found.items()})
        path = diagnosis.folder / FOLDER / f"{number} image {image_id}.png"
        plotting.save(figure, path, dpi=130)


def rescued(
    diagnosis: Diagnosis, count: int = COUNT
) -> list[tuple[int, np.ndarray, pd.DataFrame, dict[str, pd.DataFrame]]]:
    """Find images where the recommended fix finds the most tail objects beyond those of the unchanged detector.

    Returns:
        (image id, (h, w, 3) pixels, ground truth, best detections by run) of each; unreadable images are left out.
    """
    if diagnosis.recommended is None:
        return []
    categories = CategoryTable.from_annotations(diagnosis.folder / "categories.json")
    truth = ground_truth(diagnosis.folder / "val.json", categories)
    tail = set(categories.tail_labels)
    names = {"as it is": "baseline", diagnosis.recommended: diagnosis.recommended}
    runs = {
        shown: Detections.load(RunFolder(diagnosis.folder / diagnosis.summary["runs"][run]).detections)
        for shown, run in names.items()
    }
    holding = truth[truth["label"].isin(tail)]["image_id"].drop_duplicates().sort_values().tolist()[:LOOKED_AT]
    gains = []
    for image_id in holding:
        own = truth[truth["image_id"] == image_id]
        shown = {name: best(found, image_id, own, categories) for name, found in runs.items()}
        hits = [int((frame["correct"] & frame["label"].isin(tail)).sum()) for frame in shown.values()]
        if hits[1] > hits[0]:
            gains.append((hits[1] - hits[0], image_id, own, shown))
    gains.sort(key=lambda item: (-item[0], item[1]))
    pictures: list[tuple[int, np.ndarray, pd.DataFrame, dict[str, pd.DataFrame]]] = []
    folder = Path(diagnosis.summary["given"]["val_images"])
    for _, image_id, own, shown in gains:
        if len(pictures) == count:
            break
        try:
            with Image.open(folder / own["file_name"].iloc[0]) as file:
                pictures.append((image_id, np.asarray(file.convert("RGB")), own, shown))
        except (OSError, ValueError, Image.DecompressionBombError):
            continue
    return pictures
