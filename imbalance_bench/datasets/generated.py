"""LVIS-format data of any size from random numbers, to try a detector at paper scale without LVIS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from imbalance_bench.datasets.emoji_profile import lvis_counts_by_rank
from imbalance_bench.datasets.registry import DataSet
from imbalance_bench.runtime.files import write_json

STUFF_CLASSES = 182
"""Of COCO's stuff maps; 255 is ignored there."""
OBJECTS = 12
"""An image, about LVIS's."""


def generate(
    folder: Path, classes: int, train_images: int, val_images: int, size: tuple[int, int], seed: int = 0
) -> DataSet:
    """Generate a data set of coloured boxes on noise with polygons, negatives and stuff maps; it teaches nothing.

    Classes are drawn with LVIS's long-tailed counts by rank; with few images most classes do not occur.

    Args:
        folder: folder where images and annotations are written.
        classes: number of classes C; their ids are 1, 3, 5, ...
        train_images: number of training images, which have stuff maps.
        val_images: number of validation images.
        size: height and width of every image.
        seed: seed of the draw.
    """
    generator = np.random.default_rng(seed)
    ids = 1 + 2 * np.arange(classes)
    counts = generator.permutation(lvis_counts_by_rank(classes))
    categories = [{"id": int(category_id), "name": f"class {category_id}"} for category_id in ids]
    for split, images in (("train", train_images), ("val", val_images)):
        objects = generator.choice(ids, (images, OBJECTS), p=counts / counts.sum())
        content = _draw(folder, split, objects, ids, size, generator) | {"categories": categories}
        write_json(folder / f"{split}.json", content, compact=True)
    return DataSet(
        name=f"generated-{classes}",
        description=f"{classes:,} classes of noise",
        train_annotations=folder / "train.json",
        train_images=folder / "train",
        val_annotations=folder / "val.json",
        val_images=folder / "val",
        lvis_style=True,
        attribution="random numbers",
        bin_edges=(1, 2, 4),
        stuff_maps=folder / "stuff",
        photographs=False,
    )


def _draw(
    folder: Path,
    split: str,
    objects: np.ndarray,
    ids: np.ndarray,
    size: tuple[int, int],
    generator: np.random.Generator,
) -> dict[str, Any]:
    """Draw and annotate the images of a split; ``objects`` holds the (images, objects) category ids."""
    height, width = size
    records: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for name in (split, "stuff"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for image_id, chosen in enumerate(objects):
        pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
        extents = np.exp(generator.uniform(np.log(16), np.log(0.6 * min(size)), (OBJECTS, 2))).round()
        corners = (generator.random((OBJECTS, 2)) * ([width, height] - extents)).round()
        for (x, y), (w, h), category_id in zip(corners.tolist(), extents.tolist(), chosen.tolist(), strict=True):
            pixels[int(y) : int(y + h), int(x) : int(x + w)] = generator.integers(0, 256, 3)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": category_id,
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
                }
            )
        Image.fromarray(pixels).save(folder / split / f"{image_id}.jpg")
        if split == "train":
            stuff = generator.integers(0, STUFF_CLASSES, (height // 32 + 1, width // 32 + 1), dtype=np.uint8)
            whole = np.kron(stuff, np.ones((32, 32), dtype=np.uint8))[:height, :width]
            Image.fromarray(whole).save(folder / "stuff" / f"{image_id}.png")
        negatives = sorted(set(generator.choice(ids, 20).tolist()) - set(chosen.tolist()))
        records.append(
            {
                "id": image_id,
                "file_name": f"{image_id}.jpg",
                "height": height,
                "width": width,
                "neg_category_ids": negatives,
                "not_exhaustive_category_ids": [],
            }
        )
    return {"images": records, "annotations": annotations}
