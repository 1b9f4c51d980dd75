"""Readers of other tools' formats: a folder or file becomes a split for training and one for validation.

A reader returns COCO-format content and notes; ``prepare_splits`` checks and writes it, so that nothing is written if
something is wrong. As in ``coco_format``, what cannot be understood is an error, which names its place and counts the
others of its kind; what is odd but harmless is counted, with the first places. None of this needs torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from imbalance_bench.datasets.formats import roboflow, voc, yolo
from imbalance_bench.datasets.formats.conversion import SPLITS, files_below
from imbalance_bench.datasets.split import Split
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.progress import Reporter


class Reader(Protocol):
    """Reads some of the splits ``train`` and ``val``; see each format's ``read``."""

    def __call__(self, root: Path, reporter: Reporter, splits: Sequence[str] = SPLITS) -> dict[str, Split]:
        """Read them."""


FORMATS: dict[str, Reader] = {"yolo": yolo.read, "voc": voc.read, "roboflow": roboflow.read}
"""Reader of each format in which somebody's own data set can be, from its folder or file."""


def recognise(path: Path) -> str | None:
    """Return the format of a data set, by what its folder holds; None for a file that is no ``data.yaml``.

    Raises:
        InputError: a folder without any of them.
    """
    if not path.is_dir():
        return "yolo" if path.suffix.lower() in (".yaml", ".yml") else None
    if any(path.glob(f"*/{roboflow.FILE}")):
        return "roboflow"
    if any(path.glob("*.yaml")) or any(path.glob("*.yml")):
        return "yolo"
    if any((folder / voc.MAIN).is_dir() for folder in (path, *path.iterdir())) or files_below(path, (".xml",)):
        return "voc"
    raise InputError(
        f"{path}: holds no data.yaml of YOLO, no XML files of VOC and no {roboflow.FILE} of Roboflow: expected one of "
        "these, or an annotation file"
    )


def read_split(path: Path, name: str, reporter: Reporter) -> Split:
    """Read one split of a data set in whatever form: YOLO, VOC, Roboflow's export, or an annotation file.

    Args:
        path: a ``data.yaml``, a folder, or a COCO- or LVIS-format file.
        name: ``train`` or ``val``.
        reporter: shows progress.

    Raises:
        InputError: there is no such split, or it is malformed; annotation files are not read here.
    """
    if (path / roboflow.FILE).is_file():
        return Split(path / roboflow.FILE, path)
    form = recognise(path)
    if form is None:
        return Split(path, path.parent)
    return FORMATS[form](path, reporter, (name,))[name]
