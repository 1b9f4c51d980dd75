"""End-to-end training of a tiny detector: ours against unchanged mmdet, on the same images from the same weights.

    python benchmarks/end_to_end.py [--dataset emoji-lt-small] [--iterations 15] [--repeats 3]

Unchanged: torchvision's RoIAlign (mmcv's ``use_torchvision``), PyTorch's memory format, the C library's own handling
of freed memory, two loading processes. Ours: ``train_detector``'s settings. The loss of the first iteration must agree
to float precision; after it rounding differences grow, as they do between any two machines.
"""

from __future__ import annotations

import logging
import statistics
import time
from pathlib import Path
from typing import Any

import torch
import typer
from timing import Rows, alone, row, show

from imbalance_bench import methods
from imbalance_bench.commands import options
from imbalance_bench.detectors.mmdet import catalogue

WARM_UP = 3


def train(as_it_comes: bool, dataset: str, detector: str, data_dir: Path, iterations: int) -> tuple[float, float]:
    """Return seconds per iteration (median), and the loss of the first iteration."""
    bench = options.benchmark(dataset, detector, data_dir, Path("work_dirs"), seed=0, device="cpu")
    # Only now, with mmdet loaded in silence.
    from mmcv.ops import RoIAlign
    from mmengine.dataset import pseudo_collate
    from mmengine.optim import build_optim_wrapper
    from torch.utils.data import DataLoader

    from imbalance_bench.runtime.memory import keep_freed_memory
    from imbalance_bench.training.end_to_end import build_detector

    logging.disable(logging.INFO)
    method = methods.get("baseline")
    schedule = bench.schedule_of(method)
    torch.manual_seed(bench.setup.seed)
    classifier = method.build(bench.setup.categories, bench.setup.detector.tap_dims, None)
    model = build_detector(bench.setup.detector, [classifier], bench.setup.seed).train()
    loading: dict[str, Any] = {"num_workers": bench.setup.detector.num_workers}
    if as_it_comes:
        loading = {"num_workers": 2, "persistent_workers": True}
        for module in model.modules():
            if isinstance(module, RoIAlign):
                module.use_torchvision = True
    else:
        keep_freed_memory()
        model.to(memory_format=torch.channels_last)
    optimizer = build_optim_wrapper(model, schedule.optim_wrapper())
    # Neither order nor flips are random here: both see the same images. RoIs are sampled by the same generator.
    images = bench.setup.training_set(flip=0.0)
    batches = iter(DataLoader(images, schedule.batch_size, collate_fn=pseudo_collate, **loading))
    torch.manual_seed(bench.setup.seed)
    first, seconds = None, []
    for _ in range(WARM_UP + iterations):
        start = time.perf_counter()
        losses = model.train_step(next(batches), optimizer)
        seconds.append(time.perf_counter() - start)
        first = first or float(losses["loss"].detach())
    return statistics.median(seconds[WARM_UP:]), first


def measure(
    dataset: str = "emoji-lt-small",
    detector: str = "tiny",
    data_dir: Path = Path("data"),
    iterations: int = 15,
    repeats: int = 3,
) -> Rows:
    """Measure one row; both run in turns, each in its own process."""
    runs = [alone(train, way, dataset, detector, data_dir, iterations)[0] for _ in range(repeats) for way in (0, 1)]
    (ours, loss), (theirs, their_loss) = [
        (statistics.median(seconds for seconds, _ in runs[way::2]), runs[way][1]) for way in (0, 1)
    ]
    assert abs(loss - their_loss) < 1e-4 * their_loss, (loss, their_loss)
    batch = catalogue.get(detector).schedule.batch_size
    note = f"{batch / ours:.0f} images/s against {batch / theirs:.0f}; first loss {loss:.6f} and {their_loss:.6f}"
    return [row("end-to-end training", f"{detector} on {dataset}", ours, "mmdet as it comes", theirs, note)]


def main(
    dataset: str = "emoji-lt-small",
    detector: str = "tiny",
    data_dir: Path = Path("data"),
    iterations: int = 15,
    repeats: int = 3,
) -> None:
    """Train both ways and print the times."""
    show(measure(dataset, detector, data_dir, iterations, repeats))


if __name__ == "__main__":
    typer.run(main)
