"""The bundled example: 36 validation images of emoji-lt-mini, and what a tiny Faster R-CNN detects in them.

``record.json`` says how the detector was trained; ``analyses/example.py`` makes the files again.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
FILES = {
    "predictions": FOLDER / "predictions.json.gz",
    "val_annotations": FOLDER / "val.json",
    "train_annotations": FOLDER / "train.json",
}
"""Options of ``diagnose`` that the example gives."""
