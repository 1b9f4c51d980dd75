"""AP at LVIS's scale by our package and by other packages, from the same arrays and from the same JSON.

    python benchmarks/lvis_evaluation.py [--images 5000] [--detections 300] [--classes 1230]

Federated annotations like LVIS's: about ten boxes of five categories an image, twenty categories known to be absent,
two not annotated exhaustively. Of the detections, some are jittered boxes, some of judged categories, most of others.
``ap_peers.py`` describes the timed part. Missing packages are left out: pip install ultrafast-pycocotools
vernier.
"""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import typer
from ap_peers import PEERS
from timing import Rows, row, show

SLOW = 20.0
"""Seconds."""
SIDE = 640


def generate(folder: Path, images: int, detections: int, classes: int) -> None:
    """Write annotations, and detections as arrays and as a results file."""
    rng = np.random.default_rng(0)
    frequency = rng.zipf(1.3, 10 * classes) % classes
    content: dict[str, Any] = {"images": [], "annotations": [], "categories": []}
    content["categories"] = [{"id": c + 1, "name": f"c{c}", "frequency": "rcf"[c % 3]} for c in range(classes)]
    columns = []
    for image_id in range(1, images + 1):
        present = np.unique(rng.choice(frequency, 5))
        absent = np.setdiff1d(rng.choice(classes, 20), present)
        labels = rng.choice(present, 10)
        corners, sides = rng.uniform(0, SIDE / 2, (10, 2)), rng.uniform(8, SIDE / 2, (10, 2))
        boxes = np.concatenate([corners, sides], axis=1)
        content["images"].append(
            {"id": image_id, "height": SIDE, "width": SIDE, "neg_category_ids": (absent + 1).tolist(),
             "not_exhaustive_category_ids": (np.unique(labels)[:2] + 1).tolist()}
        )  # fmt: skip
        for label, box in zip(labels.tolist(), boxes.tolist(), strict=True):
            number = len(content["annotations"]) + 1
            content["annotations"].append(
                {"id": number, "image_id": image_id, "category_id": label + 1, "bbox": box, "area": box[2] * box[3],
                 "segmentation": [[box[0], box[1], box[0] + box[2], box[1], box[0], box[1] + box[3]]]}
            )  # fmt: skip
        near = rng.integers(10, size=detections // 3)
        far = rng.uniform(0, SIDE / 2, (detections - len(near), 4))
        judged = rng.choice(np.concatenate([present, absent]), len(far) // 2)
        columns.append(
            (
                np.full(detections, image_id),
                np.concatenate([labels[near], judged, rng.integers(classes, size=len(far) - len(judged))]),
                np.concatenate([boxes[near] * rng.normal(1, 0.08, (len(near), 4)).clip(0.5), far + 1]),
                rng.random(detections),
            )
        )
    image_ids, labels, boxes, scores = (np.concatenate(column) for column in zip(*columns, strict=True))
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    (folder / "annotations.json").write_text(json.dumps(content))
    np.savez(folder / "detections.npz", image_ids=image_ids, labels=labels, boxes=corners, scores=scores)
    results = [
        {"image_id": image, "category_id": label + 1, "bbox": box, "score": score}
        for image, label, box, score in zip(
            image_ids.tolist(),
            labels.tolist(),
            np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1).tolist(),
            scores.tolist(),
            strict=True,
        )
    ]
    (folder / "results.json").write_text(json.dumps(results))


def alone(folder: Path, name: str, source: str) -> dict[str, float]:
    """Run ``ap_peers.measure`` in its own process."""
    script = Path(__file__).with_name("ap_peers.py")
    done = subprocess.run([sys.executable, script, folder, name, source], stdout=subprocess.PIPE, text=True, check=True)
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def measure(images: int = 5000, detections: int = 300, classes: int = 1230, repeats: int = 5) -> Rows:
    """Measure ours against each installed package: the least seconds and MiB of some repetitions, in turns.

    The least, because other work on the machine only adds time. Runs of ``SLOW`` seconds or more are not repeated.
    """
    best: dict[tuple[str, str], dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        generate(folder, images, detections, classes)
        for repeat in range(repeats):
            for name, (_, module, sources) in PEERS.items():
                if importlib.util.find_spec(module) is None:
                    if repeat == 0:
                        print(f"{name}: not installed, left out", flush=True)
                    continue
                for source in sources:
                    before = best.get((source, name))
                    if before is None or before["seconds"] < SLOW:
                        now = alone(folder, name, source)
                        best[source, name] = {key: min(now[key], (before or now)[key]) for key in now}
    rows = []
    for (source, name), theirs in best.items():
        own = best[source, "ours"]
        assert math.isclose(own["ap"], theirs["ap"], abs_tol=1e-9), (name, source, own, theirs)
        if name != "ours":
            case = f"{images:,} images x {detections} detections, {classes:,} classes, from {source}"
            runs = f"least of {repeats}" if theirs["seconds"] < SLOW else f"least of {repeats}, theirs once"
            note = f"memory {own['mib']:,.0f} MiB, theirs {theirs['mib']:,.0f} MiB; {runs}"
            rows.append(row("LVIS evaluation", case, own["seconds"], name, theirs["seconds"], note))
    return rows


def main(images: int = 5000, detections: int = 300, classes: int = 1230, repeats: int = 5) -> None:
    """Evaluate in all ways, check that they agree, and print the results."""
    show(measure(images, detections, classes, repeats))


if __name__ == "__main__":
    typer.run(main)
