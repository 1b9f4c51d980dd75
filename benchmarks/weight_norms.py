"""Weight norms of a one-gigabyte checkpoint: only the classifier's tensors are read.

    python benchmarks/weight_norms.py [--gigabytes 1]

The alternative loads the whole checkpoint with ``torch.load(weights_only=True)`` and takes the norms of ``fc_cls``.
Each runs in its own process, whose memory includes torch itself.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import typer
from timing import Rows, alone, row, show

from imbalance_bench.checkpoints import foreign as foreign_classifiers
from imbalance_bench.checkpoints.formats import read

CLASSES, DIM = 1230, 1024


def make(path: Path, gigabytes: float) -> None:
    """Write a checkpoint of mmdet's structure: a classifier among large tensors."""
    state = {f"backbone.layer{n}.weight": torch.zeros(1 << 24) for n in range(round(gigabytes * 16))}
    state["roi_head.bbox_head.fc_cls.weight"] = torch.randn(CLASSES + 1, DIM)
    state["roi_head.bbox_head.fc_cls.bias"] = torch.randn(CLASSES + 1)
    torch.save({"meta": {}, "state_dict": state}, path)


def ours(path: Path) -> tuple[float, float]:
    """Time our package; return seconds and the sum of the norms."""
    start = time.perf_counter()
    (classifier,) = foreign_classifiers.find(read(path))
    total = float(np.linalg.norm(classifier.weights, axis=1).sum())
    return time.perf_counter() - start, total


def theirs(path: Path) -> tuple[float, float]:
    """Time the alternative; return seconds and the sum of the norms."""
    start = time.perf_counter()
    weight = torch.load(path, weights_only=True, map_location="cpu")["state_dict"]["roi_head.bbox_head.fc_cls.weight"]
    total = float(weight.norm(dim=1).sum())
    return time.perf_counter() - start, total


def nothing(path: Path) -> tuple[float, float]:
    """Read nothing: the memory of the process is that of the imports."""
    return 0.0, 0.0


def measure(gigabytes: float = 1) -> Rows:
    """Measure one row, with the memory of both above that of the imports."""
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "checkpoint.pth"
        make(path, gigabytes)
        (_, _), imports = alone(nothing, path)
        (seconds, total), memory = alone(ours, path)
        (their_seconds, their_total), their_memory = alone(theirs, path)
    assert abs(total - their_total) < 1e-3 * their_total
    note = f"memory over the imports {memory - imports:,.0f} MiB, whole {their_memory - imports:,.0f} MiB"
    return [
        row("weight norms", f"{gigabytes:g} GiB checkpoint", seconds, "torch.load of the whole", their_seconds, note)
    ]


def main(gigabytes: float = 1) -> None:
    """Print times, memory and their ratio."""
    show(measure(gigabytes))


if __name__ == "__main__":
    typer.run(main)
