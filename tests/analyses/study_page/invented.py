"""Run folders of a study that nobody trained: detections are boxes of the ground truth, moved, missed and confused."""

import json
from pathlib import Path

import numpy as np

from imbalance_bench.datasets.registry import DataSet
from imbalance_bench.evaluation import per_category
from imbalance_bench.evaluation.average_precision import evaluate
from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.evaluation.ground_truth import GroundTruth
from imbalance_bench.evaluation.measures import ACCURACY, AP
from imbalance_bench.methods import parse
from imbalance_bench.runtime.files import json_text, sha256

SKILLS = {
    "baseline": (0.15, 0.8), "x2-cls": (0.3, 0.8), "bags": (0.6, 0.75), "reweight-cls": (0.65, 0.8),
    "tau-norm": (0.35, 0.6), "focal-cls:fixed": (0.3, 0.5), "rfs": (0.4, 0.8),
}  # fmt: skip
"""Share of tail and head objects that a run names right."""


def write_study(dataset: DataSet, work: Path, seeds: tuple[int, ...], detections: bool, skills=SKILLS) -> Path:
    """Write the runs of a study; return ``work/<dataset>/tiny``."""
    categories = dataset.categories()
    truth = GroundTruth.read(dataset.val_annotations, categories, lvis_style=dataset.lvis_style)
    root = work / dataset.name / "tiny"
    for seed in seeds:
        for place, (name, skill) in enumerate(skills.items()):
            run, rng = parse(name), np.random.default_rng([seed, place])
            folder = root / f"seed{seed}" / run.folder
            folder.mkdir(parents=True)
            found = invented(truth, skill, rng)
            table = categories.frame(background=True).join(evaluate(found, truth))
            right = np.where(np.isin(table.index, categories.tail_labels), *skill)
            table["weight_norm"] = 1 + right * np.log10(1 + table["instance_count"]) * rng.uniform(0.9, 1.1, len(table))
            table["proposals"] = [*(4 * table["val_instances"].iloc[:-1]), 5000]
            table["correct"] = (right * table["proposals"]).astype(int)
            table["accuracy"] = table["correct"] / table["proposals"]
            table = table.reindex(columns=per_category.COLUMNS).assign(bias=0.0)
            (folder / "per_category.csv").write_text(table.to_csv())
            sums = {}
            if detections:
                found.save(folder / "detections.npz")
                sums = {"detections.npz": sha256(folder / "detections.npz")}
            record = {
                "settings": {
                    "dataset": dataset.name, "bin_edges": list(categories.bin_edges), "detector": "tiny", "seed": seed,
                    "annotations_sha256": [sha256(dataset.train_annotations), sha256(dataset.val_annotations)],
                    "method": run.method.name, "variant": run.variant, "schedule": {"epochs": 2}, "precision": None,
                },
                "provenance": {
                    "date": f"2026-01-0{1 + seed}T00:00:00+00:00", "command": "made up <b>here</b>", "machine": "none",
                    "python": "3.11.7", "versions": {"numpy": "2"}, "seconds": {"train": 1.0 + place},
                },
                "metrics": AP.summary(table, categories) | ACCURACY.summary(table, categories),
                "sha256": sums,
            }  # fmt: skip
            (folder / "record.json").write_text(json_text(json.loads(json_text(record))))
    return root


def invented(truth: GroundTruth, skill: tuple[float, float], rng: np.random.Generator) -> Detections:
    """Detections of all boxes, named right by skill, else as a class of the head; and of as many other places."""
    tail = np.isin(truth.labels, truth.categories.tail_labels)
    right = rng.random(len(tail)) < np.where(tail, *skill)
    labels = np.where(right, truth.labels, rng.choice(truth.categories.head_labels, len(tail)))
    corners = np.hstack([truth.boxes[:, :2], truth.boxes[:, :2] + truth.boxes[:, 2:]])
    corners = corners + rng.normal(0, 0.06, corners.shape) * truth.boxes[:, 2:].repeat(2, axis=1)
    stray = rng.uniform(0, 90, (len(tail), 2))
    boxes = np.vstack([corners, np.hstack([stray, stray + 14])])
    scores = np.concatenate([rng.beta(5, 2, len(tail)), rng.beta(2, 5, len(tail))])
    images = truth.image_ids[truth.images]
    every = np.concatenate([labels, rng.integers(0, truth.categories.num_classes, len(tail))])
    return Detections(np.concatenate([images, images]), every, boxes.astype(np.float32), scores.astype(np.float32))
