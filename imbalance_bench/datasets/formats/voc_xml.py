"""One XML file of Pascal VOC: the size of its image, and its objects."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import Any

from imbalance_bench.datasets.formats.conversion import read_bytes

CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class Object:
    """An object of an image.

    Attributes:
        name: name of its class.
        box: x, y, width and height in pixels from 0.
        difficult: whether it is marked so.
        from_zero: whether a corner is at 0, where VOC counts from 1.
    """

    name: str
    box: tuple[float, float, float, float]
    difficult: bool
    from_zero: bool


@dataclass(frozen=True)
class Annotation:
    """What an XML file says of an image.

    Attributes:
        file_name: name of the image; empty if it is not stated.
        size: (width, height) of the image; None if they are not stated.
        objects: its objects.
    """

    file_name: str
    size: tuple[int, int] | None
    objects: tuple[Object, ...]


class _Builder(ET.TreeBuilder):
    """Refuses a document type, in which entities can be declared that grow to gigabytes."""

    def doctype(self, *_: Any) -> None:
        raise ValueError("has a DOCTYPE, expected none")


def parse(path: str) -> Annotation | str:
    """Read an XML file; what is malformed in it is returned as text that begins with its path.

    Raises:
        InputError: the disk cannot read it.
    """
    try:
        return _annotation(ET.fromstring(read_bytes(path) or b"", ET.XMLParser(target=_Builder())))
    except ET.ParseError as error:
        return f"{path}: not readable as XML ({error})"
    except (LookupError, ValueError) as error:  # also of an encoding that is not known
        return f"{path}: {error}"


def _annotation(tree: ET.Element) -> Annotation:
    if tree.tag != "annotation":
        raise ValueError(f"is <{tree.tag:.20}>, expected <annotation>")
    sides = [tree.findtext(f"size/{side}", "").strip() for side in ("width", "height")]
    known = all(side.isdecimal() and 0 < len(side) < 8 and int(side) for side in sides)
    return Annotation(
        file_name=tree.findtext("filename", "").strip().replace("\\", "/").rpartition("/")[2],
        size=(int(sides[0]), int(sides[1])) if known else None,
        objects=tuple(_object(item, f"object {number}") for number, item in enumerate(tree.findall("object"), start=1)),
    )


def _object(item: ET.Element, where: str) -> Object:
    name = item.findtext("name", "").strip()
    if not name:
        raise ValueError(f"{where} has no name, expected that of a class")
    corners = []
    for corner in CORNERS:
        text = item.findtext(f"bndbox/{corner}", "").strip()
        try:
            corners.append(float(text))
        except ValueError:
            corners.append(math.nan)
        if not math.isfinite(corners[-1]):
            raise ValueError(f"{where} ({name:.40}): field 'bndbox/{corner}' is '{text:.20}', expected a number")
    left, top = (corner - 1 if corner >= 1 or corner < 0 else 0.0 for corner in corners[:2])
    return Object(
        name=name,
        box=(left, top, corners[2] - left, corners[3] - top),
        difficult=item.findtext("difficult", "").strip().lower() in ("1", "true"),
        from_zero=any(0 <= corner < 1 for corner in corners[:2]),
    )
