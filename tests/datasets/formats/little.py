"""A little data set, written in several formats; coordinates are whole pixels."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

NAMES = ("kite", "ladle", "chair")
"""Not in alphabetical order, as YOLO's need not be."""

Box = tuple[str, int, int, int, int]
Images = dict[str, tuple[int, int, list[Box]]]
"""By name: width, height and boxes (name, x, y, width, height) of an image."""

LITTLE: dict[str, Images] = {
    "train": {
        "a": (64, 48, [("kite", 0, 0, 64, 48), ("chair", 10, 20, 7, 9)]),
        "b": (50, 80, [("ladle", 3, 5, 11, 30), ("kite", 20, 40, 30, 40), ("kite", 1, 1, 1, 1)]),
        "c": (32, 32, [("chair", 0, 30, 32, 2)]),
    },
    "val": {
        "d": (40, 40, [("kite", 5, 6, 20, 10)]),
        "e": (97, 33, [("ladle", 50, 3, 13, 17), ("chair", 2, 2, 90, 30)]),
    },
}


def image(path: Path, width: int, height: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(path)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def yolo_row(name: str, x: int, y: int, w: int, h: int, width: int, height: int) -> str:
    fractions = ((x + w / 2) / width, (y + h / 2) / height, w / width, h / height)
    return " ".join([str(NAMES.index(name)), *(f"{value:.6f}" for value in fractions)])


def write_yolo(root: Path) -> Path:
    """In ultralytics' layout: ``images/train``, ``labels/train``, and the same for ``val``."""
    for split, images in LITTLE.items():
        for stem, (width, height, boxes) in images.items():
            image(root / "images" / split / f"{stem}.png", width, height)
            rows = [yolo_row(*box, width, height) for box in boxes]
            write(root / "labels" / split / f"{stem}.txt", "\n".join(rows))
    names = "\n".join(f"  {number}: {name}" for number, name in enumerate(NAMES))
    return write(root / "data.yaml", f"train: images/train\nval: images/val\nnames:\n{names}\n")


def xml(stem: str, width: int, height: int, boxes: list[Box], extra: str = "") -> str:
    """Corners count from 1, and the last pixel is inside."""
    objects = "".join(
        f"<object><name>{name}</name><difficult>0</difficult><bndbox><xmin>{x + 1}</xmin><ymin>{y + 1}</ymin>"
        f"<xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox>{extra}</object>"
        for name, x, y, w, h in boxes
    )
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return f"<annotation><filename>{stem}.png</filename>{size}{objects}</annotation>"


def write_voc(root: Path) -> Path:
    """With split lists."""
    for split, images in LITTLE.items():
        for stem, (width, height, boxes) in images.items():
            image(root / "JPEGImages" / f"{stem}.png", width, height)
            write(root / "Annotations" / f"{stem}.xml", xml(stem, width, height, boxes))
        write(root / "ImageSets" / "Main" / f"{split}.txt", "\n".join(images))
    return root


def coco(images: Images) -> dict[str, Any]:
    numbered = list(enumerate(images.items(), start=1))
    boxes = [(number, box) for number, (_, (_, _, boxes)) in numbered for box in boxes]
    return {
        "categories": [{"id": number, "name": name} for number, name in enumerate(NAMES, start=1)],
        "images": [{"id": n, "file_name": f"{stem}.png", "width": w, "height": h} for n, (stem, (w, h, _)) in numbered],
        "annotations": [
            {"id": number, "image_id": image_id, "category_id": 1 + NAMES.index(name), "bbox": list(box)}
            for number, (image_id, (name, *box)) in enumerate(boxes, start=1)
        ],
    }


def write_coco(root: Path, file: str = "_annotations.coco.json", val: str = "valid", **fields: Any) -> Path:
    """As Roboflow: a folder a split, the annotations beside the images."""
    for split, images in LITTLE.items():
        folder = root / (val if split == "val" else split)
        for stem, (width, height, _) in images.items():
            image(folder / f"{stem}.png", width, height)
        write(folder / file, json.dumps(coco(images) | fields))
    return root


def boxes_of(content: Any) -> list[tuple[str, str, list[float]]]:
    """Image, name and box of every object, in an order that no format changes."""
    stems = {image["id"]: Path(image["file_name"]).stem for image in content["images"]}
    names = {category["id"]: category["name"] for category in content["categories"]}
    return sorted((stems[a["image_id"]], names[a["category_id"]], a["bbox"]) for a in content["annotations"])
