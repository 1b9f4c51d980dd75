"""What BAGS' loss costs against plain softmax cross-entropy over as many logits, forward and backward.

    python benchmarks/bags_loss.py [--rois 1024] [--repeats 100]

1,230 classes with LVIS's counts in the paper's four groups, 1,236 logits; a quarter of the RoIs is foreground, drawn by
the classes' train instances (as in training) or evenly over the classes (the worst case: every group is active).
"""

from __future__ import annotations

import torch
import typer
from timing import in_turns
from torch.nn import functional

from imbalance_bench.categories import LVIS_BIN_EDGES, bin_index
from imbalance_bench.classifiers import GroupSoftmaxClassifier
from imbalance_bench.datasets.emoji_profile import lvis_counts_by_rank
from imbalance_bench.runs import provenance

CLASSES = 1230


def main(rois: int = 1024, repeats: int = 100) -> None:
    """Print both times and their ratio."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    counts = torch.from_numpy(lvis_counts_by_rank(CLASSES))
    classifier = GroupSoftmaxClassifier(CLASSES, 1, bin_index(counts.numpy(), LVIS_BIN_EDGES).tolist()).to(device)
    width = len(classifier.weight)
    print(f"{rois} RoIs, {width} logits, {provenance()['machine']}, {torch.get_num_threads()} threads")
    for drawn, weights in (("by train instances", counts.double()), ("evenly", torch.ones(CLASSES))):
        foreground = torch.multinomial(weights, rois, replacement=True)
        labels = torch.where(torch.rand(rois) < 0.75, CLASSES, foreground).to(device)
        logits = torch.randn(rois, width, device=device, requires_grad=True)

        def ours(logits: torch.Tensor = logits, labels: torch.Tensor = labels) -> None:
            logits.grad = None
            sum(classifier.loss(logits, labels).values()).backward()  # type: ignore[union-attr]

        def theirs(logits: torch.Tensor = logits, labels: torch.Tensor = labels) -> None:
            logits.grad = None
            functional.cross_entropy(logits, labels).backward()

        bags, softmax = in_turns(ours, theirs, repeats)
        print(
            f"  foreground drawn {drawn}: BAGS {1e3 * bags:.2f} ms, softmax {1e3 * softmax:.2f} ms, "
            f"ratio {bags / softmax:.2f}"
        )


if __name__ == "__main__":
    typer.run(main)
