"""COCO JSON as Roboflow exports it: a folder a split, with ``_annotations.coco.json`` beside the images.

The placeholder class of these files is left out by ``datasets.placeholder``: 'prepare custom' may be given them, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from imbalance_bench.datasets.formats.conversion import SPLITS, VALIDATION, validation_name
from imbalance_bench.datasets.split import Split
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.progress import Reporter

FILE = "_annotations.coco.json"


def read(root: Path, reporter: Reporter, splits: Sequence[str] = SPLITS) -> dict[str, Split]:
    """Find splits in the folder of an export.

    Raises:
        InputError: a split is missing, or the export is in another format.
    """
    known = [name for name in ("train", *VALIDATION) if (root / name / FILE).is_file()]
    if "train" in splits and "train" not in known:
        yaml = root / "data.yaml"
        hint = f"; a YOLO export is read by 'datasets prepare yolo --root {yaml}'" if yaml.is_file() else ""
        raise InputError(f"{root / 'train' / FILE}: no such file, expected Roboflow's export as COCO JSON{hint}")
    found = {"train": Split(root / "train" / FILE, root / "train")} if "train" in splits else {}
    if "val" in splits:
        val, notes = validation_name(known, str(root))
        found["val"] = Split(root / val / FILE, root / val, notes=notes)
    return found
