"""Training of BAGS on a cache larger than memory: rate, peak memory, and growth of the cost.

    python benchmarks/large_cache.py [--gigabytes 10] [--iterations 0] [--folder DIR]

The cache is generated: 512 RoIs of 1,024 features an image in half precision, LVIS's 1,230 classes by their train
instances. It is written and read by the code that detectors use. The alternative is the usual memory-mapped array,
indexed by the rows of a batch; both train the same classifier on the same batches, each in its own process.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from timing import Rows, alone, row, show

from imbalance_bench.bins import LVIS_BIN_EDGES, bin_index
from imbalance_bench.classifiers import GroupSoftmaxClassifier
from imbalance_bench.datasets.emoji_profile import lvis_counts_by_rank
from imbalance_bench.proposals import store as proposals
from imbalance_bench.proposals.proposal_set import ImageProposals
from imbalance_bench.proposals.shards import ShardedRows
from imbalance_bench.schedule import Schedule
from imbalance_bench.training.on_cache import train_classifier

ROIS, DIM, CLASSES, BATCH = 512, 1024, 1230, 16
LVIS_IMAGES = 57_263
"""Training images of LVIS v0.5."""


def generate(folder: Path, images: int, classes: int = CLASSES) -> None:
    """Generate a shard of a number of images; features of a class lie around a point of their own."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.from_numpy(lvis_counts_by_rank(classes)).double()
    centres = torch.randn(classes + 1, DIM, generator=generator).half()
    noise = torch.randn(1 << 16, DIM, generator=generator).half()
    with proposals.Writer(folder, {"generated": images}) as writer:
        for image_id in range(images):
            foreground = torch.multinomial(weights, ROIS // 4, replacement=True, generator=generator)
            labels = torch.cat([foreground, torch.full((ROIS - len(foreground),), classes)])
            start = int(torch.randint(len(noise) - ROIS, (1,), generator=generator))
            features = centres[labels] + noise[start : start + ROIS]
            none = torch.zeros(ROIS, dtype=torch.bool)
            writer.add(ImageProposals(image_id, features, labels, torch.zeros(ROIS, 4), none, torch.ones(4)))
    proposals.assemble(folder)


class MappedRows(ShardedRows):
    """The alternative: files mapped into memory, rows of a batch picked by their numbers."""

    def tensor(self, spans: list[slice], device: str = "cpu") -> torch.Tensor:  # type: ignore[override]
        """Return the rows as a tensor, as ``ShardedRows.tensor`` does."""
        shards = [np.memmap(path, self.dtype, "r").reshape(-1, self.dim) for path in self.files]
        starts = np.cumsum([0, *map(len, shards)])
        parts = []
        for span in spans:
            numbers = np.arange(span.start, span.stop)
            shard = int(np.searchsorted(starts, span.start, side="right")) - 1
            parts.append(np.array(shards[shard][numbers - starts[shard]]))
        return torch.from_numpy(np.concatenate(parts)).to(device)


def train(folder: Path, mapped: bool, iterations: int, classes: int = CLASSES) -> tuple[float, int]:
    """Return seconds and number of proposals of one epoch, or of its first ``iterations``."""
    part = proposals.read(folder, verify=False)
    if iterations:
        part = replace(part, image_ids=part.image_ids[: iterations * BATCH])
    if mapped:
        (stored,) = part.features
        counts = np.diff(stored._starts).tolist()
        part = replace(part, features=(MappedRows(stored.files, counts, stored.dim, stored.dtype),))
    groups = bin_index(lvis_counts_by_rank(classes), LVIS_BIN_EDGES).tolist()
    classifier = GroupSoftmaxClassifier(classes, DIM, groups)
    schedule = Schedule(epochs=1, lr=0.01, batch_size=BATCH)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    # What torch imports with its first optimizer is not counted.
    train_classifier(classifier, replace(part, image_ids=part.image_ids[:1]), schedule, seed=0, device=device)
    start = time.perf_counter()
    (loss,) = train_classifier(classifier, part, schedule, seed=0, device=device)
    seconds = time.perf_counter() - start
    assert np.isfinite(loss)
    return seconds, int(part.offsets[part.num_images])


def measure(gigabytes: float = 10, iterations: int = 0, folder: Path | None = None, curves: bool = True) -> Rows:
    """Measure the large cache against the memory-mapped one; with ``curves`` also time by proposals and by classes."""
    rows = []
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        images = round(gigabytes * 2**30 / (ROIS * DIM * 2))
        path = Path(temporary) / "train"
        start = time.perf_counter()
        generate(path, images)
        written = time.perf_counter() - start
        (seconds, count), memory = alone(train, path, False, iterations)
        (theirs, _), their_memory = alone(train, path, True, iterations)
        epoch = seconds / count * LVIS_IMAGES * ROIS
        note = (
            f"{count / seconds:,.0f} proposals/s; memory {memory:,.0f} MiB, mapped {their_memory:,.0f} MiB; an epoch "
            f"at LVIS size {epoch / 60:.0f} min; written at {images * ROIS / written:,.0f} proposals/s"
        )
        case = f"{gigabytes:g} GiB, {images:,} images x {ROIS} x {DIM}, {iterations or 'all'} iterations"
        rows.append(row("large cache", case, seconds, "memory-mapped rows", theirs, note))
        for part in (1, 2, 4, 8) if curves else ():
            seconds, _ = train(path, False, part * 4)
            rows.append(row("cost by proposals", f"{part * 4 * BATCH * ROIS}", seconds))
    for classes in (150, 300, 600, 1200) if curves else ():
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            generate(Path(temporary) / "train", 8 * BATCH, classes)
            seconds, _ = train(Path(temporary) / "train", False, 0, classes)
            rows.append(row("cost by classes", f"{classes}", seconds))
    return rows


def main(
    gigabytes: Annotated[float, typer.Option(help="Size of the generated cache.")] = 10,
    iterations: Annotated[int, typer.Option(help="Iterations to train, 0 for a whole epoch.")] = 0,
    folder: Annotated[Path | None, typer.Option(help="Where it is generated, and removed again.")] = None,
) -> None:
    """Generate a cache, train both ways and print the results."""
    show(measure(gigabytes, iterations, folder))


if __name__ == "__main__":
    typer.run(main)
