"""COCO-LT: a long-tailed sample of balanced annotations (section 7.4.1 and Figure 6 of the paper).

The paper sorts the categories of COCO and of LVIS by train instances. Each COCO category gets the count of the LVIS
category at its rank, and that many instances are sampled. As many instances of a sampled image as possible are used;
an instance is ignored only if its category has more than its target. The text leaves open, and we decided:

- Images are drawn at random, for the category of fewest targets first. Tail images are then rich in head instances
  that count too, and fewer images are needed than in the opposite order.
- An ignored instance is marked ``iscrowd``, as COCO marks what is neither an object to find nor background. It is
  counted nowhere. Detectors whose assigner has ``ignore_iof_thr`` skip proposals on it; others see background there.
- The counts of LVIS come from the anchors in ``emoji_profile``; their sum is within 2 percent of the real one.

A second recipe, ``coco-lt-simcal``, samples in the same way with a given list of targets and its own bin edges.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from imbalance_bench.categories import CategoryTable
from imbalance_bench.datasets.emoji_profile import lvis_counts_by_rank
from imbalance_bench.runtime.errors import InputError


def aligned_targets(instance_counts: np.ndarray) -> np.ndarray:
    """Return the (C,) target of each category: the LVIS v0.5 count at its rank.

    The category at rank k of C (0 is the largest, ties in label order) takes rank round(1229 k / (C - 1)) of 1,230.

    Args:
        instance_counts: (C,) train instances.
    """
    order = np.argsort(-np.asarray(instance_counts), kind="stable")
    targets = np.empty(len(order), dtype=np.int64)
    targets[order] = lvis_counts_by_rank(len(order))
    return targets


def read_targets(path: Path, categories: CategoryTable) -> np.ndarray:
    """Read (C,) targets from a CSV file with columns ``id`` or ``name``, and ``instance_count``.

    Raises:
        InputError: the file is unreadable, lacks these columns, or has not one whole number for each category.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not readable as CSV ({error})") from error
    key = "id" if rows and "id" in rows[0] else "name"
    if not rows or key not in rows[0] or "instance_count" not in rows[0]:
        raise InputError(f"{path}: expected a CSV file with columns 'id' or 'name', and 'instance_count'")
    keys = [str(category_id) for category_id in categories.ids] if key == "id" else list(categories.names)
    counts = {row[key]: row["instance_count"] or "" for row in rows}
    for name in keys:
        if not counts.get(name, "").isdecimal() or len(counts[name]) > 12:
            found = f"is {counts[name]!r:.40}" if name in counts else "is missing"
            raise InputError(f"{path}: field 'instance_count' of category {name} {found}, expected a whole number")
    targets = np.array([int(counts[name]) for name in keys], dtype=np.int64)
    if not targets.any():
        raise InputError(f"{path}: field 'instance_count' is 0 for every category, expected some to sample")
    return targets


def sample_long_tail(content: Mapping[str, Any], targets: np.ndarray, seed: int) -> dict[str, Any]:
    """Sample images so that each category has exactly ``min(target, available)`` instances.

    For each category, the one with the smallest target first, images with the category are drawn until its target is
    met. Every instance in a drawn image counts for its own category. Instances beyond a target are marked ``iscrowd``;
    the instances of the images drawn first are used, chosen at random within an image. Boxes without area are left
    out. The result depends only on ids and the seed, not on the order of the file.

    Args:
        content: COCO- or LVIS-format annotations, checked.
        targets: (C,) number of instances by ascending category id.
        seed: seed of the draw.

    Returns:
        The content with the drawn images, their annotations (both by id) and all categories.
    """
    generator = np.random.default_rng(seed)
    images = sorted(content["images"], key=lambda image: image["id"])
    boxes = sorted((a for a in content["annotations"] if min(a["bbox"][2:]) > 0), key=lambda a: a["id"])
    objects = [box for box in boxes if not box.get("iscrowd")]
    category_ids = np.array(sorted(category["id"] for category in content["categories"]))
    image_ids = np.array([image["id"] for image in images])
    place = np.searchsorted(image_ids, [box["image_id"] for box in objects])  # (A,) index of the image
    label = np.searchsorted(category_ids, [box["category_id"] for box in objects])  # (A,)

    # One random order for images and one for instances, whichever category asks.
    image_key, object_key = generator.permutation(len(images)), generator.permutation(len(objects))
    remaining = np.minimum(targets, np.bincount(label, minlength=len(category_ids)))
    drawn, used = np.zeros(len(images), dtype=bool), np.zeros(len(objects), dtype=bool)
    for category in np.argsort(targets, kind="stable"):
        if remaining[category] == 0:
            continue
        held = np.bincount(place[label == category], minlength=len(images)) * ~drawn
        candidates = np.flatnonzero(held)
        candidates = candidates[np.argsort(image_key[candidates])]
        enough = np.searchsorted(np.cumsum(held[candidates]), remaining[category]) + 1
        new = np.zeros(len(images), dtype=bool)
        new[candidates[:enough]] = True
        offered = np.flatnonzero(new[place])
        offered = offered[np.lexsort((object_key[offered], image_key[place[offered]], label[offered]))]
        counts = np.bincount(label[offered], minlength=len(category_ids))
        position = np.arange(len(offered)) - np.repeat(np.cumsum(counts) - counts, counts)  # within its category
        used[offered[position < remaining[label[offered]]]] = True
        remaining = np.maximum(remaining - counts, 0)
        drawn |= new

    kept_images = set(image_ids[drawn].tolist())
    used_ids = {box["id"] for box, keep in zip(objects, used.tolist(), strict=True) if keep}
    return {
        **content,
        "images": [image for image in images if image["id"] in kept_images],
        "annotations": [
            box if box["id"] in used_ids else {**box, "iscrowd": 1} for box in boxes if box["image_id"] in kept_images
        ],
    }
