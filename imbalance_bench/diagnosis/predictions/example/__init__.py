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


def example_files() -> dict[str, Path]:
    """Return the files of the bundled example: a small detector on 36 validation images, 12 classes.

    Returns:
        ``predictions``, ``annotations`` (of validation) and ``train_annotations``, as ``diagnose`` takes them.

    Example:
        >>> sorted(example_files())
        ['annotations', 'predictions', 'train_annotations']
    """
    return {"annotations" if name == "val_annotations" else name: path for name, path in FILES.items()}
