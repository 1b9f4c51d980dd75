"""A step of end-to-end training on one CPU thread: ours against unchanged mmdet, on the same images and weights.

    python benchmarks/end_to_end.py [--dataset emoji-lt-small] [--steps 12]

Unchanged: the same configuration with mmdet's own parts, torchvision's RoIAlign (mmcv's ``use_torchvision``), PyTorch's
memory format, the C library's own handling of freed memory. Ours: what ``train_detector`` trains, in fp32, and in bf16
where the processor multiplies it. A step is loading a batch, forward, backward and update; the loss of the first must
agree, to float precision in fp32. After it rounding differences grow, as they do between any two machines.

The processes take their steps in turns, and the least CPU time of each counts: other programs only add to it.
"""

from __future__ import annotations

import logging
import multiprocessing
import time
from multiprocessing.connection import Connection
from pathlib import Path

import torch
import typer
from timing import Rows, row, show

from imbalance_bench import methods
from imbalance_bench.commands import options
from imbalance_bench.detectors.mmdet import catalogue
from imbalance_bench.runtime.devices import check_precision

WARM_UP = 3
MMDET = "mmdet as it comes"


def train(way: str, dataset: str, detector: str, data_dir: Path, turns: Connection) -> None:
    """Take a step in the way ``MMDET``, ``fp32`` or ``bf16`` whenever asked; answer with its CPU seconds and loss."""
    setup = options.setup(dataset, detector, data_dir, 0, "cpu")
    # Only now, with mmdet loaded in silence.
    from mmcv.ops import RoIAlign
    from mmdet.registry import MODELS
    from mmengine.dataset import pseudo_collate
    from mmengine.optim import build_optim_wrapper
    from torch.utils.data import DataLoader

    from imbalance_bench.detectors.mmdet import hosting
    from imbalance_bench.detectors.mmdet.building import build_detector
    from imbalance_bench.detectors.mmdet.precision import multiply_in
    from imbalance_bench.runtime.memory import keep_freed_memory

    logging.disable(logging.INFO)
    torch.set_num_threads(1)
    schedule = setup.detector.schedule
    settings = schedule.optim_wrapper()
    settings["optimizer"]["lr"] *= schedule.warmup_ratio
    torch.manual_seed(setup.seed)
    classifier = methods.get("baseline").build(setup.categories, setup.detector.tap_dims, None)
    model = build_detector(setup.detector, [classifier], setup.seed, pretrained=True)
    if way == MMDET:
        settings["optimizer"].pop("fused")
        config, weights = hosting.shipped(setup.detector.config), model.state_dict()
        setup.detector.change(config)
        hosting.drop_pretrained_backbone(config)
        for head in hosting.heads(config.roi_head.bbox_head):
            head.num_classes = setup.categories.num_classes
        model = MODELS.build(config)
        model.load_state_dict(weights)
        for module in model.modules():
            if isinstance(module, RoIAlign):
                module.use_torchvision = True
    else:
        keep_freed_memory()
        model.to(memory_format=torch.channels_last)
        if way == "bf16":
            multiply_in(model, torch.bfloat16)
    model.train()
    optimizer = build_optim_wrapper(model, settings)
    # Neither order nor flips are random here: all see the same images. RoIs are sampled by the same generator.
    batches = iter(DataLoader(setup.training_set(flip=0.0), schedule.batch_size, collate_fn=pseudo_collate))
    torch.manual_seed(setup.seed)
    while turns.recv():
        start = time.process_time()
        losses = model.train_step(next(batches), optimizer)
        turns.send((time.process_time() - start, float(losses["loss"].detach())))


def measure(
    dataset: str = "emoji-lt-small", detector: str = "tiny", data_dir: Path = Path("data"), steps: int = 12
) -> Rows:
    """Measure one row in fp32, and one in bf16."""
    precisions = ["fp32"] if check_precision("bf16", "cpu") else ["fp32", "bf16"]
    context, turns, seconds, first = multiprocessing.get_context("spawn"), {}, {}, {}
    for way in (MMDET, *precisions):
        turns[way], end = context.Pipe()
        context.Process(target=train, args=(way, dataset, detector, data_dir, end), daemon=True).start()
    for step in range(WARM_UP + steps):
        for way, connection in turns.items():
            connection.send(True)
            spent, loss = connection.recv()
            first.setdefault(way, loss)
            if step >= WARM_UP:
                seconds[way] = min(spent, seconds.get(way, spent))
    for connection in turns.values():
        connection.send(False)
    for way in precisions:
        assert abs(first[way] - first[MMDET]) < (1e-4 if way == "fp32" else 1e-2) * first[MMDET], first
    batch, theirs = catalogue.get(detector).schedule.batch_size, seconds[MMDET]
    return [
        row(
            "end-to-end training, CPU time",
            f"{detector} on {dataset}, one thread, {way}",
            seconds[way],
            MMDET,
            theirs,
            f"{batch / seconds[way]:.0f} images/s against {batch / theirs:.0f}; "
            f"first loss {first[way]:.6f} and {first[MMDET]:.6f}",
        )
        for way in precisions
    ]


def main(
    dataset: str = "emoji-lt-small", detector: str = "tiny", data_dir: Path = Path("data"), steps: int = 12
) -> None:
    """Train all ways and print the times."""
    show(measure(dataset, detector, data_dir, steps))


if __name__ == "__main__":
    typer.run(main)
