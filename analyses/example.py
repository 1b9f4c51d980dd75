"""The bundled example of ``diagnose --example``: ``python -m analyses.example RUN`` makes it.

Annotations of emoji-lt-mini without masks, and the detections of a finished run as COCO results.
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path
from typing import Any

from imbalance_bench.categories import CategoryTable, read_json
from imbalance_bench.diagnosis.predictions.example import FILES, FOLDER
from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.experiments.run_folder import RunFolder
from imbalance_bench.runtime.files import write_json

_LEFT_OUT = {"annotations": ["segmentation"], "images": ["neg_category_ids", "not_exhaustive_category_ids"]}
"""Masks, and what LVIS's rules need: every class is judged in every image of the set."""


def slim(content: dict[str, Any]) -> dict[str, Any]:
    """Return annotations without ``_LEFT_OUT``."""
    kept = {
        part: [{key: value for key, value in entry.items() if key not in fields} for entry in content[part]]
        for part, fields in _LEFT_OUT.items()
    }
    return {**content, **kept}


def results(detections: Detections, category_ids: list[int]) -> list[dict[str, Any]]:
    """Return detections as COCO results, boxes to a tenth of a pixel."""
    sides = detections.boxes.astype(float)
    sides[:, 2:] -= sides[:, :2]
    columns = (detections.image_ids, detections.labels, sides.round(1), detections.scores)
    return [
        {"image_id": int(image), "category_id": category_ids[label], "bbox": box.tolist(), "score": round(float(s), 4)}
        for image, label, box, s in zip(*columns, strict=True)
    ]


def write(run: RunFolder, data: Path) -> None:
    """Write the example's files.

    Args:
        run: a finished run on the data set.
        data: the data set's folder of annotations.
    """
    for split in ("train", "val"):
        write_json(FILES[f"{split}_annotations"], slim(read_json(data / f"{split}.json")), compact=True)
    ids = CategoryTable.from_annotations(data / "train.json").ids.tolist()
    plain = FOLDER / "predictions.json"
    write_json(plain, results(Detections.load(run.detections), ids), compact=True)
    FILES["predictions"].write_bytes(gzip.compress(plain.read_bytes(), mtime=0))  # the same bytes each time
    plain.unlink()
    record = {key: run.record()[key] for key in ("settings", "provenance")}
    write_json(FOLDER / "record.json", record)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, default=Path("data/emoji-lt-mini/annotations"))
    arguments = parser.parse_args()
    write(RunFolder(arguments.run), arguments.data)
