"""Checks of images against their annotations: do they exist, can they be read, do they have the annotated size?

An image is checked as training reads it. mmcv's OpenCV turns an image by the EXIF orientation of its JPEG or PNG file,
so height and width can be swapped. The header of a file shows nearly every problem. Files whose header is not enough
are decoded, and so is a sample of the others.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from imbalance_bench.datasets import coco_format
from imbalance_bench.runtime.errors import InputError, first
from imbalance_bench.runtime.files import kind_of
from imbalance_bench.runtime.progress import Advance
from imbalance_bench.runtime.waiting import in_threads

SAMPLE = 100
"""Images of a split that are decoded whatever their headers say."""

_FLAGS = {
    "color": ("IMREAD_COLOR",),
    "grayscale": ("IMREAD_GRAYSCALE",),
    "unchanged": ("IMREAD_UNCHANGED",),
    "color_ignore_orientation": ("IMREAD_COLOR", "IMREAD_IGNORE_ORIENTATION"),
    "grayscale_ignore_orientation": ("IMREAD_GRAYSCALE", "IMREAD_IGNORE_ORIENTATION"),
}
"""OpenCV's words for mmcv's."""
PLAIN = "plain pillow"
"""Backend of detectors outside of mmdet: Pillow alone, in RGB, which does not look at EXIF."""
_END = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND\xaeB\x60\x82"}
_TURNED = (5, 6, 7, 8)
"""EXIF orientations that swap height and width; 2, 3 and 4 mirror, or turn by half."""


@dataclass(frozen=True)
class Reader:
    """The way a detector's pipeline decodes images: ``PLAIN``, or options of mmcv's ``imfrombytes``.

    Attributes:
        backend: ``PLAIN``, ``cv2``, ``pillow``, ``turbojpeg`` or ``tifffile``.
        flag: ``color``, ``color_ignore_orientation``, ...
    """

    backend: str = "cv2"
    flag: str = "color"

    @property
    def turns(self) -> bool:
        """Whether the reader follows EXIF orientation."""
        return self.backend in ("cv2", "pillow") and self.flag in ("color", "grayscale")

    def size(self, path: Path) -> tuple[int, int]:
        """Decode an image and return its (height, width).

        Raises:
            ValueError: the image cannot be decoded; the message is the reason.
        """
        content = path.read_bytes()
        try:
            if self.backend == PLAIN:
                image = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
            elif self.backend == "cv2":  # what mmcv calls, without loading mmcv, and torch with it
                import cv2

                flag = sum(getattr(cv2, name) for name in _FLAGS[self.flag])
                image = cv2.imdecode(np.frombuffer(content, np.uint8), flag)
            else:
                from mmcv.image.io import imfrombytes

                image = imfrombytes(content, flag=self.flag, backend=self.backend)
        except Exception as error:
            raise ValueError(" ".join(str(error).split())[:80]) from error
        if image is None:
            raise ValueError(f"no image that {self.backend} reads")
        height, width = image.shape[:2]
        return height, width


@dataclass(frozen=True)
class Seen:
    """The result of reading an image file: its size, or the reason why it cannot be read.

    Attributes:
        size: (height, width) as read; None if the file cannot be read.
        orientation: EXIF orientation, if the reader follows it; else 1.
        problem: reason why the file cannot be read.
    """

    size: tuple[int, int] | None = None
    orientation: int = 1
    problem: str = ""


def look(path: Path, reader: Reader, decode: bool = False) -> Seen:
    """Return size or problem of an image file; its pixels are read only on request or if its header is not enough.

    A JPEG or PNG file without its end marker is decoded by Pillow, which, unlike OpenCV, refuses half an image.
    """
    seen = Seen()
    try:
        with path.open("rb") as file:
            length = os.fstat(file.fileno()).st_size
            start = file.read(512)
            file.seek(max(length - 12, 0))
            end = file.read()
            if kind := kind_of(start):
                return Seen(problem=kind)
            try:
                with Image.open(file) as image:
                    seen = _of_header(image, reader)
                    whole = end.endswith(_END.get(str(image.format), b""))
                    if not whole:
                        image.load()
                    # Only these say in their header or their end whether they are whole.
                    settled = (image.format in _END and whole) or _is_whole_webp(length, start)
                    settled &= seen.orientation == 1 or image.format in ("JPEG", "MPO")
            except Exception as error:
                if "truncated" in str(error):
                    return Seen(problem="truncated")
                settled = False  # perhaps OpenCV knows it
        if settled and not decode:
            return seen
        return Seen(reader.size(path), seen.orientation)
    except IsADirectoryError:
        return Seen(problem="a folder")
    except OSError as error:
        return Seen(problem=error.strerror or str(error))
    except ValueError as error:
        return Seen(problem=str(error))


def _is_whole_webp(length: int, start: bytes) -> bool:
    return start[:4] == b"RIFF" and start[8:12] == b"WEBP" and length >= int.from_bytes(start[4:8], "little") + 8


def _of_header(image: Image.Image, reader: Reader) -> Seen:
    """Return size and orientation of an image that Pillow has opened but not decoded."""
    width, height = image.size
    orientation = 1
    if reader.turns and (stored := image.info.get("exif")):
        exif = Image.Exif()  # ``getexif`` decodes a PNG file, and looks at XMP, which OpenCV does not
        exif.load(stored)
        orientation = exif.get(ExifTags.Base.Orientation, 1)
    if orientation in _TURNED:
        height, width = width, height
    return Seen((height, width), orientation if orientation in range(2, 9) else 1)


@dataclass(frozen=True)
class Images:
    """The result of the check of an annotation file's images.

    Attributes:
        content: the annotations, without the images that were left out.
        skipped: reason why each image was left out, by image id.
        notes: what is unusual but harmless, one line each.
    """

    content: dict[str, Any]
    skipped: dict[int, str]
    notes: tuple[str, ...]


def checked(
    content: Mapping[str, Any],
    folder: Path,
    source: str,
    *,
    skip: bool = False,
    verify: bool = False,
    reader: Reader | None = None,
    advance: Advance | None = None,
    hint: str = "; '--skip-missing' goes without them",
) -> Images:
    """Check the images of an annotation file against the annotations.

    If only width and height are swapped, or the boxes reach beyond the annotated size but not beyond the image, the
    boxes belong to the image and a note is made. Any other size means that the boxes belong to another picture.

    Args:
        content: checked annotations.
        folder: folder that image names are relative to.
        source: path of the annotations, for messages.
        skip: leave out images that are missing, cannot be read, or show another picture.
        verify: decode all images, not only a sample.
        reader: way in which the detector decodes images; None: mmdet's default.
        advance: function called with the number of images checked since the last call.
        hint: advice for the message.

    Raises:
        InputError: images are missing, cannot be read or show another picture, and ``skip`` is not set; or no annotated
            image is left.
    """
    reader = reader or Reader()
    absent = coco_format.missing_images(content, folder)
    there = [image for image in content["images"] if image["id"] not in absent]
    seen = _look_at_all(there, folder, reader, verify, advance)
    broken = {i: f"{path} ({found.problem})" for i, (path, found) in seen.items() if found.size is None}
    others, notes = _of_another_size(content, seen)
    name, many = Path(source).name, f"{len(content['images']):,}"
    lines = [
        f"{len(which):,} of {many} images of {name} {what}: {first(list(which.values()))}"
        for which, what in (
            (absent, "are missing"),
            (broken, "cannot be read"),
            (others, "are not of the annotated size"),
        )
        if which
    ]
    if lines and not skip:
        guess = coco_format.guess_missing(next(iter(absent.values())), folder) if absent else ""
        raise InputError(f"{folder}: {'; '.join(lines)}{guess}{hint}")
    skipped = {**absent, **broken, **others}
    kept = coco_format.without_images(content, skipped) if skipped else dict(content)
    if not coco_format.objects(kept):
        raise InputError(f"{folder}: no annotated image of {name} is left: {'; '.join(lines)}")
    return Images(kept, skipped, (*lines, *notes))


def _look_at_all(
    images: list[dict[str, Any]], folder: Path, reader: Reader, verify: bool, advance: Advance | None
) -> dict[int, tuple[str, Seen]]:
    """Return (path, result of reading) of each image, by image id."""
    step = max(1, len(images) // SAMPLE)
    paths = [coco_format.image_path(image, "images") for image in images]

    numbered = list(enumerate(paths))
    found = in_threads(lambda pair: look(folder / pair[1], reader, verify or pair[0] % step == 0), numbered, advance)
    return {image["id"]: pair for image, pair in zip(images, zip(paths, found, strict=True), strict=True)}


def _of_another_size(
    content: Mapping[str, Any], seen: Mapping[int, tuple[str, Seen]]
) -> tuple[dict[int, str], list[str]]:
    """Return (images whose boxes belong to another picture, notes on other images of unusual size or orientation)."""
    annotated = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    turned, swapped, other, mirrored = "turned by EXIF orientation", "swapped", "other", "mirrored"
    odd: dict[str, dict[int, str]] = {turned: {}, swapped: {}, other: {}, mirrored: {}}
    for image_id, (path, found) in seen.items():
        if found.size is None:
            continue
        (height, width), (stated_height, stated_width) = found.size, annotated[image_id]
        text = f"{path} is {width} x {height}, annotated {stated_width} x {stated_height}"
        if (height, width) == (stated_width, stated_height) != (stated_height, stated_width):
            odd[turned if found.orientation in _TURNED else swapped][image_id] = text
        elif (height, width) != (stated_height, stated_width):
            odd[other][image_id] = text
        elif found.orientation != 1 and (found.orientation not in _TURNED or height == width):
            odd[mirrored][image_id] = path
    ill: dict[int, str] = {}
    notes: list[str] = []
    for kind in (turned, swapped, other):
        which = odd[kind]
        beyond_annotated, beyond_image = _reaching_beyond(content, which, annotated, seen)
        if beyond_image or not (beyond_annotated or kind == swapped):
            ill |= {i: f"{text} ({turned})" if kind == turned else text for i, text in which.items()}
        elif which:
            what = "have width and height swapped in the file" if kind == swapped else "are not of the annotated size"
            examples = first(list(which.values()))
            notes.append(f"{len(which):,} images {what}, but their boxes fit the images: {examples}")
    if odd[mirrored]:
        notes.append(
            f"{len(odd[mirrored]):,} images are turned or mirrored by EXIF orientation when they are read, and their "
            f"boxes taken to be of the turned image: {first(list(odd[mirrored].values()))}"
        )
    return ill, notes


def _reaching_beyond(
    content: Mapping[str, Any],
    images: Mapping[int, Any],
    annotated: Mapping[int, tuple[int, int]],
    seen: Mapping[int, tuple[str, Seen]],
) -> tuple[int, int]:
    """Count the boxes of the given images that reach beyond (the annotated size, the size that was read)."""
    counts = [0, 0]
    for annotation in coco_format.objects(content) if images else ():
        image_id = annotation["image_id"]
        if image_id in images:
            sizes = annotated[image_id], seen[image_id][1].size
            for number, size in enumerate(sizes):
                counts[number] += size is not None and coco_format.reaches_beyond(annotation["bbox"], *size)
    return counts[0], counts[1]
