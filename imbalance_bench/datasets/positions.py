"""The positions of the boxes of each class in their images."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from imbalance_bench.categories import CategoryTable, read_json


def box_centres(annotations: Path, categories: CategoryTable) -> tuple[np.ndarray, np.ndarray]:
    """Return (N,) labels and (N, 2) box centres x, y divided by image width and height, without crowd regions."""
    content = read_json(annotations)
    sizes = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    boxes = [record for record in content["annotations"] if not record.get("iscrowd")]
    corners = np.array([record["bbox"] for record in boxes], dtype=np.float64).reshape(-1, 4)
    image = np.array([sizes[record["image_id"]] for record in boxes], dtype=np.float64).reshape(-1, 2)
    labels = categories.labels_of([record["category_id"] for record in boxes])
    return labels, (corners[:, :2] + corners[:, 2:] / 2) / image
