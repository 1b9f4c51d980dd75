"""A diagnosis from files at the size of LVIS v1's validation set: seconds and memory of the command, on made data.

    python benchmarks/diagnose_predictions.py [--images 19809] [--detections 300] [--classes 1203]

Federated annotations: about ten boxes of five categories an image, twenty categories known to be absent. Of the
detections of an image, one in thirty is right, some more are on boxes of judged classes, a third is of judged classes,
and most scores are small, as a detector's are. Prints CPU seconds, which another load on the machine changes little.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import typer

SIDE = 640


def generate(folder: Path, images: int, detections: int, classes: int) -> None:
    """Write annotations and COCO results."""
    rng = np.random.default_rng(0)
    frequency = rng.zipf(1.3, 10 * classes) % classes
    counts = np.bincount(frequency, minlength=classes) * 70 + 1
    categories = [
        {"id": c + 1, "name": f"class {c}", "frequency": "rcf"[c % 3], "instance_count": int(counts[c]),
         "image_count": int(counts[c])} for c in range(classes)
    ]  # fmt: skip
    listed, boxes = [], []
    with (folder / "results.json").open("w") as file:
        file.write("[")
        for image in range(1, images + 1):
            present = np.unique(rng.choice(frequency, 5))
            absent = np.setdiff1d(rng.choice(classes, 20), present)
            labels = rng.choice(present, 10)
            corners = np.concatenate([rng.uniform(0, SIDE / 2, (10, 2)), rng.uniform(8, SIDE / 2, (10, 2))], axis=1)
            listed.append({"id": image, "height": SIDE, "width": SIDE, "neg_category_ids": (absent + 1).tolist(),
                           "not_exhaustive_category_ids": []})  # fmt: skip
            for label, box in zip(labels.tolist(), corners.round(2).tolist(), strict=True):
                boxes.append({"id": len(boxes) + 1, "image_id": image, "category_id": label + 1, "bbox": box,
                              "area": box[2] * box[3]})  # fmt: skip
            near = rng.integers(10, size=detections // 10)
            own = np.where(rng.random(len(near)) < 0.4, labels[near], rng.choice(present, len(near)))
            judged = rng.choice(np.concatenate([present, absent]), detections // 3 - len(near))
            others = rng.integers(classes, size=detections - len(near) - len(judged))
            found = np.concatenate([corners[near] * rng.normal(1, 0.06, (len(near), 4)).clip(0.5),
                                    rng.uniform(1, SIDE / 2, (len(judged) + len(others), 4))])  # fmt: skip
            scores = np.concatenate([rng.beta(1, 2, len(near)), rng.beta(0.4, 15, len(judged) + len(others))])
            rows = zip(np.concatenate([own, judged, others]).tolist(), found.round(2).tolist(),
                       scores.round(5).tolist(), strict=True)  # fmt: skip
            texts = [f'{{"image_id": {image}, "category_id": {label + 1}, "bbox": {box}, "score": {score}}}'
                     for label, box, score in rows]  # fmt: skip
            file.write(("" if image == 1 else ",") + ",".join(texts))
        file.write("]")
    (folder / "val.json").write_text(json.dumps({"images": listed, "annotations": boxes, "categories": categories}))


def main(images: int = 19_809, detections: int = 300, classes: int = 1203, folder: Path | None = None) -> None:
    """Make the data, unless they are in the folder already, and diagnose them in a process of its own."""
    with tempfile.TemporaryDirectory() as temporary:
        place = folder or Path(temporary)
        if not (place / "val.json").exists():
            place.mkdir(parents=True, exist_ok=True)
            generate(place, images, detections, classes)
        begin = time.monotonic()
        command = ["diagnose", "--predictions", place / "results.json", "--val-annotations", place / "val.json",
                   "--output", place / "out"]  # fmt: skip
        subprocess.run([sys.executable, Path(__file__).parents[1] / "cli.py", *command], check=True)
        spent = resource.getrusage(resource.RUSAGE_CHILDREN)
        page = (place / "out" / "report.html").stat().st_size / 2**20
        cpu = spent.ru_utime + spent.ru_stime
        print(
            f"{images:,} images x {detections} detections, {classes:,} classes: {cpu:.0f} s of CPU, "
            f"{time.monotonic() - begin:.0f} s, {spent.ru_maxrss / 1024:,.0f} MiB; page {page:.1f} MiB"
        )


if __name__ == "__main__":
    typer.run(main)
