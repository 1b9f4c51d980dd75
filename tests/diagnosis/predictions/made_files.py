"""Annotations and detections that are made: a class loses boxes to another, is not found, or has low scores."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

SIDE = 640
NAMES = {3: "person", 5: "forklift", 8: "<script>alert(1)</script> $x_^$"}


def annotations(names: Mapping[int, str], counts: Sequence[int], images: int, seed: int = 0) -> dict[str, Any]:
    """COCO format, ``counts`` boxes of each class, which do not overlap."""
    rng = np.random.default_rng(seed)
    listed = [{"id": i, "file_name": f"{i}.jpg", "height": SIDE, "width": SIDE} for i in range(1, images + 1)]
    labels = rng.permutation(np.repeat([*names], counts))
    entries = []
    for number, category in enumerate(labels.tolist()):
        image, cell = number % images + 1, number // images
        x, y = 80 * (cell % 8), 80 * (cell // 8)
        side = int(rng.integers(30, 70))
        entries.append({"id": number + 1, "image_id": image, "category_id": category, "bbox": [x, y, side, side]})
    return {
        "images": listed, "annotations": entries, "categories": [{"id": i, "name": n} for i, n in names.items()],
    }  # fmt: skip


def detections(
    val: Mapping[str, Any], *, right: Mapping[int, float], taken_by: Mapping[int, int] = {},
    scores: Mapping[int, float] = {}, noise: int = 60, seed: int = 1,
) -> list[dict[str, Any]]:  # fmt: skip
    """COCO results: a share ``right`` of each class's boxes is found, the others as ``taken_by`` or not at all.

    Scores of right detections lie around ``scores``.
    """
    rng = np.random.default_rng(seed)
    found = []
    for entry in val["annotations"]:
        category = entry["category_id"]
        x, y, w, h = entry["bbox"]
        box = [round(x + float(rng.normal(0, 1)), 2), round(y + float(rng.normal(0, 1)), 2), w, h]
        named = category if rng.random() < right[category] else taken_by.get(category)
        if named is not None:
            score = np.clip(rng.normal(scores.get(category, 0.7), 0.1), 0.02, 0.99)
            found.append({"image_id": entry["image_id"], "category_id": named, "bbox": box, "score": round(score, 4)})
    ids = [category["id"] for category in val["categories"]]
    for _ in range(noise):
        place = rng.uniform(0, SIDE - 40, 2).round(1).tolist()
        image, category = int(rng.integers(1, len(val["images"]) + 1)), int(rng.choice(ids))
        score = round(float(rng.beta(1, 12)) * 0.3, 4)
        found.append({"image_id": image, "category_id": category, "bbox": [*place, 40, 40], "score": score})
    return found


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path
