"""The cost of BAGS' loss against softmax cross-entropy over the same number of logits, forward and backward.

    python benchmarks/bags_loss.py [--repeats 100]

1,230 classes with LVIS's counts in the paper's four groups, 1,236 logits; a quarter of the RoIs is foreground, drawn by
the classes' train instances (as in training) or evenly over the classes (the worst case: every group is active). 1,024
RoIs are two images' of LVIS training, 8,192 a whole batch's.
"""

from __future__ import annotations

import itertools

import torch
import typer
from timing import Rows, in_turns, row, show
from torch.nn import functional

from imbalance_bench.bins import LVIS_BIN_EDGES, bin_index
from imbalance_bench.classifiers import GroupSoftmaxClassifier
from imbalance_bench.datasets.emoji_profile import lvis_counts_by_rank
from imbalance_bench.runtime.memory import keep_freed_memory

CLASSES = 1230


def measure(sizes: tuple[int, ...] = (1024, 8192), repeats: int = 100) -> Rows:
    """Measure one row for each number of RoIs and each way of drawing the foreground."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    keep_freed_memory()  # as in training, for both
    torch.manual_seed(0)
    counts = torch.from_numpy(lvis_counts_by_rank(CLASSES))
    classifier = GroupSoftmaxClassifier(CLASSES, 1, bin_index(counts.numpy(), LVIS_BIN_EDGES).tolist()).to(device)
    width = len(classifier.weight)
    rows = []
    drawings = (("by train instances", counts.double()), ("evenly", torch.ones(CLASSES)))
    for rois, (drawn, weights) in itertools.product(sizes, drawings):
        foreground = torch.multinomial(weights, rois // 4, replacement=True)
        labels = torch.cat([foreground, torch.full((rois - len(foreground),), CLASSES)]).to(device)
        logits = torch.randn(rois, width, device=device, requires_grad=True)

        def ours(logits: torch.Tensor = logits, labels: torch.Tensor = labels) -> None:
            logits.grad = None
            sum(classifier.loss(logits, labels).values()).backward()  # type: ignore[union-attr]

        def theirs(logits: torch.Tensor = logits, labels: torch.Tensor = labels) -> None:
            logits.grad = None
            functional.cross_entropy(logits, labels).backward()

        case = f"{width} logits on {device}, foreground {drawn}, {rois:,} RoIs"
        bags, softmax = in_turns(ours, theirs, repeats)
        rows.append(row("BAGS loss", case, bags, "softmax cross-entropy", softmax, "forward and backward"))
    return rows


def main(repeats: int = 100) -> None:
    """Print both times and their ratio."""
    show(measure(repeats=repeats))


if __name__ == "__main__":
    typer.run(main)
