"""Objects365 v2: COCO-format files whose image names state more folders than there are once archives are unpacked.

The names are ``images/v1/patch8/objects365_v1_00420917.jpg``; an archive ``patch8.tar.gz`` unpacks to ``patch8/``, and
some tools move all images into one folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imbalance_bench.categories import field_of, read_json
from imbalance_bench.datasets import coco_format
from imbalance_bench.datasets.split import Split
from imbalance_bench.runtime.progress import Reporter


def convert(splits: Mapping[str, Split], reporter: Reporter) -> dict[str, Split]:
    """Name the images as they lie on disk: as stated, by the last two parts of the name, or by the last one.

    Raises:
        InputError: a file is not of COCO's format.
    """
    converted = {}
    for key, split in splits.items():
        with reporter.task(f"finding the images of {split.annotations.name}", 1) as advance:
            converted[key] = _named_as_on_disk(split)
            advance()
    return converted


def _named_as_on_disk(split: Split) -> Split:
    source = str(split.annotations)
    content = read_json(split.annotations)
    images: list[dict[str, Any]] = field_of(content, "images", list, source)
    stated = [str(field_of(image, "file_name", str, source)) for image in images]
    ways = [stated, *(["/".join(name.split("/")[-parts:]) for name in stated] for parts in (2, 1))]
    best = min(ways, key=lambda names: len(coco_format.absent_files(names, split.images)))
    if best == stated:
        return split
    renamed = [{**image, "file_name": name} for image, name in zip(images, best, strict=True)]
    note = f"{len(images):,} images are named as they lie on disk: {best[0]}, in the file {stated[0]}"
    return Split(split.annotations, split.images, {**content, "images": renamed}, (note,))
