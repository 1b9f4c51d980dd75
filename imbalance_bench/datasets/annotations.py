"""The images and boxes of a COCO- or LVIS-format file, as detectors read them; labels are the CategoryTable's."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from imbalance_bench.categories import read_json
from imbalance_bench.datasets.coco_format import image_path, missing_files, stuff_map_path
from imbalance_bench.runtime.errors import InputError


def image_records(
    annotations: str | Path,
    images: str | Path,
    category_ids: Sequence[int] | np.ndarray,
    *,
    keep_labels: Iterable[int] | None = None,
    stuff_maps: str | Path | None = None,
) -> list[dict[str, Any]]:
    """Return one record for each image, in the order of image ids.

    A box without width or height is left out; a crowd region has the ``ignore_flag`` 1.

    Args:
        annotations: COCO or LVIS format.
        images: folder that the file's image names are relative to.
        category_ids: C ids; label j is ``category_ids[j]``, other annotations are left out.
        keep_labels: annotations of other labels are left out; None keeps all.
        stuff_maps: folder of the stuff maps, PNG files with the images' names.

    Returns:
        Records in mmdet's words: ``img_id``, ``img_path``, ``height``, ``width``, ``instances`` (of ``bbox`` in xyxy,
        ``bbox_label``, ``ignore_flag``, and ``mask`` where there is one), and ``seg_map_path`` with stuff maps.
    """
    content = read_json(annotations)
    label_of_id = {int(category_id): label for label, category_id in enumerate(category_ids)}
    kept = None if keep_labels is None else set(keep_labels)
    boxes: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for annotation in content["annotations"]:
        label = label_of_id.get(annotation["category_id"])
        if label is None or (kept is not None and label not in kept):
            continue
        x, y, w, h = annotation["bbox"]
        if w <= 0 or h <= 0:
            continue
        instance = {
            "bbox": [x, y, x + w, y + h],
            "bbox_label": label,
            "ignore_flag": int(bool(annotation.get("iscrowd", 0))),
        }
        if annotation.get("segmentation"):
            instance["mask"] = annotation["segmentation"]
        boxes[annotation["image_id"]].append(instance)
    return [
        {
            "img_id": image["id"],
            # An absolute path is taken as it is, as everywhere.
            "img_path": os.path.join(images, image_path(image, str(annotations))),
            "height": image["height"],
            "width": image["width"],
            "instances": boxes[image["id"]],
            **(
                {}
                if stuff_maps is None
                else {"seg_map_path": f"{stuff_maps}/{stuff_map_path(image, str(annotations))}"}
            ),
        }
        for image in sorted(content["images"], key=lambda image: image["id"])
    ]


def check_records(records: Sequence[dict[str, Any]], annotations: str | Path) -> None:
    """Check that there is an image, and that images and stuff maps exist.

    Raises:
        InputError: what is missing.
    """
    if not records:
        raise InputError(f"{annotations}: field 'annotations' leaves no image with a box, expected at least one")
    for field, what in (("img_path", "images"), ("seg_map_path", "stuff maps")):
        files = [record[field] for record in records if field in record]
        if missing := missing_files(files, Path(), f"{what} of {annotations}"):
            raise InputError(f"{missing}; 'datasets prepare' can leave images out with --skip-missing")
