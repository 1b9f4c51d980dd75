"""Training images held out to choose hyper-parameters; the tried classifiers are not fitted to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from imbalance_bench.datasets import coco_format
from imbalance_bench.runtime.errors import InputError

HELD_OUT = 0.2
"""Share of the training images."""


def hold_out(
    content: Mapping[str, Any], rng: np.random.Generator, share: float = HELD_OUT
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split annotations by image into (fitting, held out), at random; each class with images keeps one for fitting.

    Args:
        content: content of a COCO- or LVIS-format file.
        rng: random generator of the draw.
        share: fraction of the annotated images that is held out.

    Raises:
        InputError: there are too few images.
    """
    annotated = sorted({a["image_id"] for a in coco_format.objects(content)})
    held = set(rng.permutation(annotated)[: round(share * len(annotated))].tolist())
    of_class: dict[int, set[int]] = {}
    for annotation in coco_format.objects(content):
        of_class.setdefault(annotation["category_id"], set()).add(annotation["image_id"])
    for _, holders in sorted(of_class.items()):
        if holders <= held:
            held.discard(min(holders))
    if not held or len(held) == len(annotated):
        raise InputError(f"{len(annotated)} annotated training images are too few to hold some out")
    every = {image["id"] for image in content["images"]}
    return coco_format.without_images(content, held), coco_format.without_images(content, every - held)
