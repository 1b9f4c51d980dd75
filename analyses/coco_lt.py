"""The counts of Figure 6: a balanced set before and after the COCO-LT recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from imbalance_bench.categories import CategoryTable
from imbalance_bench.datasets import prepared
from imbalance_bench.datasets.coco_lt import aligned_targets, sample_long_tail
from imbalance_bench.datasets.emoji_profile import PROFILES, Profile

EMBEDDED = "emoji-balanced-small"


def profiles(data_dir: Path) -> tuple[pd.DataFrame, tuple[str, str], str]:
    """Return the counts of COCO and COCO-LT if coco-lt is prepared, else of the embedded balanced set and its sample.

    Args:
        data_dir: folder of data sets.

    Returns:
        One row for each category (columns ``available``, ``target``, ``instance_count``), the names of the two sets, a
        title.

    Raises:
        InputError: coco-lt exists, but is damaged.
    """
    folder = data_dir / "coco-lt"
    if prepared.read_record(folder) is not None:
        return prepared.read_table(folder), ("COCO train2017", "COCO-LT"), ""
    title = f"the recipe of COCO-LT on {EMBEDDED} (COCO itself is not prepared here)"
    return sampled_profile(PROFILES[EMBEDDED]), (EMBEDDED, "its sample"), title


def sampled_profile(profile: Profile, seed: int = 0) -> pd.DataFrame:
    """Apply the COCO-LT recipe to the labels of an embedded set; no image of the set is drawn.

    Returns:
        One row for each class: ``available``, ``target``, ``instance_count``; ``attrs['images']`` is the number of
        sampled images.
    """
    content = label_content(profile.train_labels(seed), profile.classes)
    available = CategoryTable.from_annotations(content).instance_counts
    targets = aligned_targets(available)
    sample = sample_long_tail(content, targets, seed)
    counts = CategoryTable.from_annotations(sample).instance_counts
    frame = pd.DataFrame({"available": available, "target": targets, "instance_count": counts})
    frame.attrs["images"] = len(sample["images"])
    return frame


def label_content(image_labels: list[np.ndarray], classes: int) -> dict[str, Any]:
    """Return COCO-format annotations in which only image and category are meaningful."""
    pairs = [(image, int(label)) for image, labels in enumerate(image_labels) for label in labels]
    return {
        "images": [{"id": image} for image in range(len(image_labels))],
        "categories": [{"id": label, "name": str(label)} for label in range(classes)],
        "annotations": [
            {"id": number, "image_id": image, "category_id": label, "bbox": [0, 0, 1, 1]}
            for number, (image, label) in enumerate(pairs)
        ],
    }
