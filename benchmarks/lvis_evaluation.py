"""AP at LVIS's scale from arrays, against the official package and faster-coco-eval fed through JSON.

    python benchmarks/lvis_evaluation.py [--images 5000] [--detections 300] [--classes 1230]

Federated annotations like LVIS's: about ten boxes of five categories an image, twenty categories known to be absent,
two not annotated exhaustively. Of the detections, some are jittered boxes, some of judged categories, most of others.
What is timed: from arrays (ours) or a results file (the packages read what a detector has written) to the table of
all categories with its bins. Ground truth is read by ours once and by each package in its own way, inside its time.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import typer
from timing import Rows, alone, row, show

from imbalance_bench.categories import CategoryTable
from imbalance_bench.evaluation.average_precision import evaluate
from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.evaluation.ground_truth import GroundTruth
from imbalance_bench.evaluation.measures import AP

SIDE = 640


def generate(folder: Path, images: int, detections: int, classes: int) -> None:
    """Write annotations, the detections as arrays, and as a results file."""
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
             "not_exhaustive_category_ids": (present[:2] + 1).tolist()}
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
    found = Detections(image_ids, labels, np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1), scores)
    (folder / "annotations.json").write_text(json.dumps(content))
    found.save(folder / "detections.npz")
    corners = found.boxes.astype(np.float64)
    results = [
        {"image_id": image, "category_id": label + 1, "bbox": box, "score": score}
        for image, label, box, score in zip(
            found.image_ids.tolist(),
            found.labels.tolist(),
            np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1).tolist(),
            found.scores.astype(np.float64).tolist(),
            strict=True,
        )
    ]
    (folder / "results.json").write_text(json.dumps(results))


def ours(folder: Path, runs: int = 1) -> tuple[list[float], float]:
    """Seconds of each of several evaluations, the first with the reading of the ground truth; mean AP."""
    categories = CategoryTable.from_annotations(folder / "annotations.json")
    seconds, truth = [], None
    for _ in range(runs):
        detections = Detections.load(folder / "detections.npz")
        start = time.perf_counter()
        truth = truth or GroundTruth.read(folder / "annotations.json", categories, lvis_style=True)
        table = categories.frame().join(evaluate(detections, truth))
        metrics = AP.summary(table, categories)
        seconds.append(time.perf_counter() - start)
    return seconds, metrics["mAP"]


def faster(folder: Path) -> tuple[list[float], float]:
    """faster-coco-eval from files."""
    from faster_coco_eval import COCO, COCOeval_faster

    start = time.perf_counter()
    truth = COCO(str(folder / "annotations.json"))
    run = COCOeval_faster(truth, truth.loadRes(str(folder / "results.json")), iouType="bbox", lvis_style=True)
    run.params.maxDets, run.params.areaRng, run.params.areaRngLbl = [300], [[0.0, 1e10]], ["all"]
    run.evaluate()
    run.accumulate()
    precision = run.eval["precision"][:, :, :, 0, 0]
    seconds = time.perf_counter() - start
    return [seconds], float(pd.Series(precision.mean(axis=(0, 1))).where(lambda ap: ap >= 0).mean())


def official(folder: Path) -> tuple[list[float], float]:
    """The lvis package from files."""
    from imbalance_bench.evaluation.references import lvis_package

    with lvis_package() as lvis:
        start = time.perf_counter()
        truth = lvis.LVIS(str(folder / "annotations.json"))
        run = lvis.LVISEval(truth, lvis.LVISResults(truth, str(folder / "results.json"), 300), "bbox")
        run.params.area_rng, run.params.area_rng_lbl = [[0.0, 1e10]], ["all"]
        run.evaluate()
        run.accumulate()
        precision = run.eval["precision"][:, :, :, 0]
        seconds = time.perf_counter() - start
    return [seconds], float(pd.Series(precision.mean(axis=(0, 1))).where(lambda ap: ap >= 0).mean())


def measure(images: int = 5000, detections: int = 300, classes: int = 1230, repeats: int = 1) -> Rows:
    """Against each package; medians, each repetition in a process of its own."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        generate(folder, images, detections, classes)
        ((first, again, *_), ap), memory = alone(ours, folder, 2)
        _, memory_of_six = alone(ours, folder, 6)
        rows = []
        for name, package in (("faster-coco-eval from JSON", faster), ("official lvis from JSON", official)):
            runs = [alone(package, folder) for _ in range(repeats)]
            assert all(math.isclose(ap, their_ap, abs_tol=1e-9) for (_, their_ap), _ in runs), (ap, runs)
            theirs = float(np.median([seconds for ((seconds,), _), _ in runs]))
            note = (
                f"another run of the same images {again:.1f} s; memory {memory:,.0f} MiB, after six runs "
                f"{memory_of_six:,.0f} MiB, theirs {max(peak for _, peak in runs):,.0f} MiB"
            )
            case = f"{images:,} images x {detections} detections, {classes:,} classes"
            rows.append(row("LVIS evaluation", case, first, name, theirs, note))
    return rows


def main(images: int = 5000, detections: int = 300, classes: int = 1230, repeats: int = 1) -> None:
    """Evaluate in all ways, check that they agree, print."""
    show(measure(images, detections, classes, repeats))


if __name__ == "__main__":
    typer.run(main)
