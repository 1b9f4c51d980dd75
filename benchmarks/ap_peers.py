"""One evaluation by one package in its own process: seconds, mean AP, and peak memory.

    python benchmarks/ap_peers.py FOLDER PACKAGE json|arrays

prints them as JSON. The timed part begins with files (``json``), or with annotations and detections in memory
(``arrays``). It ends with the AP of each category; ours ends with the table of all categories and its bins. With
arrays, all packages hold the same: annotations as ``json.load`` returns them or as columns made from them, detections
as columns. hotcoco makes both from columns, ours holds its ``GroundTruth``. vernier reads federated ground truth only
from JSON; the official package reads ground truth and results only from JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

AREAS = [0.0, 1e10]
Prepared = Callable[[], float]
"""What is timed: returns the mean AP."""


def ours(folder: Path, arrays: bool) -> Prepared:
    """Evaluate with this package."""
    from imbalance_bench.categories import CategoryTable
    from imbalance_bench.evaluation import result_files
    from imbalance_bench.evaluation.average_precision import evaluate
    from imbalance_bench.evaluation.detections import Detections
    from imbalance_bench.evaluation.ground_truth import GroundTruth
    from imbalance_bench.evaluation.measures import AP

    def read() -> tuple[GroundTruth, CategoryTable]:
        categories = CategoryTable.from_annotations(folder / "annotations.json")
        return GroundTruth.read(folder / "annotations.json", categories, lvis_style=True), categories

    def run(found: Detections, truth: GroundTruth, categories: CategoryTable) -> float:
        return float(AP.summary(categories.frame().join(evaluate(found, truth)), categories)["mAP"])

    if arrays:
        truth, categories = read()
        columns = _columns(folder)
        return lambda: run(Detections(**columns), truth, categories)

    def from_files() -> float:
        truth, categories = read()
        return run(result_files.read(folder / "results.json", truth), truth, categories)

    return from_files


def hotcoco(folder: Path, arrays: bool) -> Prepared:
    """Evaluate with hotcoco, the engine that ours uses; it receives all detections."""
    from hotcoco import COCO, COCOeval

    def run(truth: COCO, found: COCO) -> float:
        evaluation = COCOeval(truth, found, "bbox", lvis_style=True)
        evaluation.params.max_dets = [300]
        evaluation.params.area_rng, evaluation.params.area_rng_lbl = [AREAS], ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
        return _mean(evaluation.eval["precision"][:, :, :, 0, 0])

    if not arrays:

        def from_files() -> float:
            truth = COCO(str(folder / "annotations.json"))
            return run(truth, truth.load_res(str(folder / "results.json")))

        return from_files
    content = _content(folder)
    boxes = content.pop("annotations")
    images, categories, found = content["images"], content["categories"], _columns(folder)
    columns = [np.array([entry[field] for entry in boxes]) for field in ("image_id", "category_id", "bbox")]
    del boxes

    def from_arrays() -> float:
        truth = COCO.from_arrays(images, categories, *columns)
        return run(truth, truth.load_res(_matrix(found)))

    return from_arrays


def _like_pycocotools(coco: Any, run: Callable[[Any, str | np.ndarray], float], folder: Path, arrays: bool) -> Prepared:
    """Prepare a package with pycocotools' interface: ground truth from a path or a dictionary, results as (N, 7)."""
    if not arrays:
        return lambda: run(coco(str(folder / "annotations.json")), str(folder / "results.json"))
    content, found = _content(folder), _columns(folder)
    return lambda: run(coco(content), _matrix(found))


def ultrafast(folder: Path, arrays: bool) -> Prepared:
    """Evaluate with ultrafast-pycocotools."""
    from ultrafast_pycocotools import COCO, COCOeval

    def run(truth: COCO, results: str | np.ndarray) -> float:
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox", lvis_style=True)
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [AREAS], ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
        return _mean(evaluation.eval["precision"][:, :, :, 0, 0])

    return _like_pycocotools(COCO, run, folder, arrays)


def vernier(folder: Path, arrays: bool) -> Prepared:
    """Evaluate with vernier on all processors; its public evaluator also measures small, medium and large boxes."""
    from vernier._core import Breakdown, evaluate_bbox_grid
    from vernier.instance import CocoDataset

    def run(results: bytes | np.ndarray) -> float:
        truth = CocoDataset.from_lvis_json((folder / "annotations.json").read_bytes())
        grid = evaluate_bbox_grid(
            truth, results, parity_mode="strict", max_dets_per_image=300, use_cats=True,
            area_ranges=Breakdown.from_ranges("area", [("all", *AREAS)]), num_threads=os.cpu_count(),
        )  # fmt: skip
        return _mean(grid.accumulate([300]).precision[:, :, :, 0, 0])

    if not arrays:
        return lambda: run((folder / "results.json").read_bytes())
    found = _columns(folder)
    return lambda: run(_matrix(found))


def faster(folder: Path, arrays: bool) -> Prepared:
    """Evaluate with faster-coco-eval."""
    from faster_coco_eval import COCO, COCOeval_faster

    def run(truth: COCO, results: str | np.ndarray) -> float:
        evaluation = COCOeval_faster(truth, truth.loadRes(results), iouType="bbox", lvis_style=True)
        evaluation.params.maxDets = [300]
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [AREAS], ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
        return _mean(evaluation.eval["precision"][:, :, :, 0, 0])

    return _like_pycocotools(COCO, run, folder, arrays)


def official(folder: Path, arrays: bool) -> Prepared:
    """Evaluate with the official lvis package, which reads files."""
    from imbalance_bench.evaluation.references import lvis_package

    def from_files() -> float:
        with lvis_package() as lvis:
            truth = lvis.LVIS(str(folder / "annotations.json"))
            run = lvis.LVISEval(truth, lvis.LVISResults(truth, str(folder / "results.json"), 300), "bbox")
            run.params.area_rng, run.params.area_rng_lbl = [AREAS], ["all"]
            run.evaluate()
            run.accumulate()
        return _mean(run.eval["precision"][:, :, :, 0])

    return from_files


PEERS: dict[str, tuple[Callable[[Path, bool], Prepared], str, tuple[str, ...]]] = {
    "ours": (ours, "imbalance_bench", ("arrays", "json")),
    "hotcoco": (hotcoco, "hotcoco", ("arrays", "json")),
    "ultrafast-pycocotools": (ultrafast, "ultrafast_pycocotools", ("arrays", "json")),
    "vernier": (vernier, "vernier", ("arrays", "json")),
    "faster-coco-eval": (faster, "faster_coco_eval", ("arrays", "json")),
    "official lvis": (official, "lvis", ("json",)),
}
"""Of each the function, the module that it needs, and what it takes."""


def _content(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "annotations.json").read_text())
    return content


def _columns(folder: Path) -> dict[str, np.ndarray]:
    """Return the fields of our ``Detections``; labels are category ids minus 1."""
    with np.load(folder / "detections.npz") as archive:
        return {name: archive[name] for name in archive}


def _matrix(found: dict[str, np.ndarray]) -> np.ndarray:
    """Return (D, 7) image, x, y, width, height, score, category id."""
    matrix = np.empty((len(found["scores"]), 7))
    matrix[:, 0], matrix[:, 5], matrix[:, 6] = found["image_ids"], found["scores"], found["labels"] + 1
    matrix[:, 1:5] = found["boxes"]
    matrix[:, 3:5] -= matrix[:, 1:3]
    return matrix


def _mean(precision: np.ndarray) -> float:
    """Average (IoUs, recall levels, categories) precision, without categories that have no ground truth (-1)."""
    ap = precision.mean(axis=(0, 1))
    return float(ap[ap > -1].mean())


def measure(folder: Path, name: str, source: str) -> dict[str, float]:
    """Return ``seconds``, ``ap`` and ``mib``, the peak memory of this process."""
    run = PEERS[name][0](folder, source == "arrays")
    start = time.perf_counter()
    ap = run()
    seconds = time.perf_counter() - start
    # Not getrusage's maximum, which a process inherits from the one that started it.
    (peak,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return {"seconds": seconds, "ap": ap, "mib": int(peak.split()[1]) / 1024}


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), *sys.argv[2:])))
