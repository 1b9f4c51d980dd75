"""A small world: annotations with gaps in the ids, file names in folders, and detections on them in every format."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from imbalance_bench.categories import CategoryTable
from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.evaluation.ground_truth import GroundTruth

NAMES = {3: "traffic light", 7: "Dog", 12: "bus"}
FILES = {40: "val/000000000040.jpg", 41: "val/b.jpg", 7: "val/c.d.jpg"}
SIZES = {40: (64, 32), 41: (100, 80), 7: (128, 64)}
"""Width and height."""
BOXES = [
    (40, 3, [4, 4, 20, 16]), (40, 7, [30, 8, 30, 20]), (41, 7, [10, 10, 50, 40]), (41, 12, [40, 50, 50, 25]),
    (7, 12, [8, 8, 64, 32]), (7, 3, [80, 16, 40, 40]), (7, 7, [20, 44, 30, 18]),
]  # fmt: skip
"""Image, category, and box as x, y, width, height."""
ANNOTATIONS: dict[str, Any] = {
    "images": [{"id": i, "file_name": f, "width": SIZES[i][0], "height": SIZES[i][1]} for i, f in FILES.items()],
    "categories": [{"id": i, "name": n} for i, n in NAMES.items()],
    "annotations": [
        {"id": n, "image_id": i, "category_id": c, "bbox": b} for n, (i, c, b) in enumerate(BOXES, start=1)
    ],
}
SCORES = [0.875, 0.75, 0.5, 0.96875, 0.25, 0.625, 0.125]
RESULTS: list[dict[str, Any]] = [
    {"image_id": i, "category_id": c, "bbox": [x + 0.5, y, w, h - 0.25], "score": s}
    for (i, c, (x, y, w, h)), s in zip(BOXES, SCORES, strict=True)
]
"""A detection near each box. All numbers are exact in half precision."""
TABLE = CategoryTable.from_annotations(ANNOTATIONS)
TRUTH = GroundTruth.read(ANNOTATIONS, TABLE)


def corners(result: dict[str, Any]) -> list[float]:
    """x1, y1, x2, y2."""
    x, y, w, h = result["bbox"]
    return [x, y, x + w, y + h]


def label(result: dict[str, Any]) -> int:
    """Place of the category."""
    return [*NAMES].index(result["category_id"])


def by_image() -> dict[int, dict[str, list[Any]]]:
    """Boxes, scores and labels from 0 of each image, in the order of the annotations."""
    images: dict[int, dict[str, list[Any]]] = {i: {"boxes": [], "scores": [], "labels": []} for i in FILES}
    for result in RESULTS:
        own = images[result["image_id"]]
        own["boxes"].append(corners(result))
        own["scores"].append(result["score"])
        own["labels"].append(label(result))
    return images


def write(path: Path, content: Any) -> Path:
    """Write bytes as they are, text, or anything else as JSON."""
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def expected() -> Detections:
    """What every file of the results says."""
    return Detections(
        [r["image_id"] for r in RESULTS], [label(r) for r in RESULTS], np.array([corners(r) for r in RESULTS]),
        np.array(SCORES),
    )  # fmt: skip


def same(found: Detections, atol: float = 0) -> None:
    """Assert that detections are the expected ones, in their order."""
    ours = expected()
    assert found.image_ids.tolist() == ours.image_ids.tolist()
    assert found.labels.tolist() == ours.labels.tolist()
    np.testing.assert_allclose(found.boxes, ours.boxes, rtol=0, atol=atol)
    assert found.scores.tolist() == ours.scores.tolist()
