"""A split of a data set: annotations, and the folder of their images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Split:
    """A split: its annotations and the folder that their image names are relative to.

    Attributes:
        annotations: COCO- or LVIS-format file; of a converted split, the file or folder that was given.
        images: folder of the images.
        content: content of a COCO- or LVIS-format file, if the split is converted.
        notes: what the conversion left out or took for granted, one line each.
    """

    annotations: Path
    images: Path
    content: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()
