"""Where in its images the boxes of each class are."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from imbalance_bench.categories import CategoryTable, read_json


def box_centres(annotations: Path, categories: CategoryTable) -> tuple[np.ndarray, np.ndarray]:
    """(N,) labels and (N, 2) centres x, y over width and height of their image; crowd regions are left out."""
    content = read_json(annotations)
    sizes = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    boxes = [record for record in content["annotations"] if not record.get("iscrowd")]
    corners = np.array([record["bbox"] for record in boxes], dtype=np.float64).reshape(-1, 4)
    image = np.array([sizes[record["image_id"]] for record in boxes], dtype=np.float64).reshape(-1, 2)
    labels = categories.labels_of([record["category_id"] for record in boxes])
    return labels, (corners[:, :2] + corners[:, 2:] / 2) / image
