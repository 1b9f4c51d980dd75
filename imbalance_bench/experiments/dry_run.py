"""A dry run of a detector at full size on generated data: whether it builds, loads, trains and detects; its cost."""

from __future__ import annotations

import resource
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from mmdet.registry import MODELS
from mmengine.hub import get_config
from mmengine.logging import MessageHub
from mmengine.registry import init_default_scope

from imbalance_bench.datasets.generated import generate
from imbalance_bench.detectors.mmdet.detector import Detector
from imbalance_bench.detectors.mmdet.source import TwoStageSource
from imbalance_bench.experiments.benchmark import BASELINE, Benchmark
from imbalance_bench.experiments.setup import Setup
from imbalance_bench.runtime.progress import Reporter, logged_to
from imbalance_bench.schedule import Schedule


@dataclass(frozen=True)
class Trial:
    """Numbers of a dry run.

    Attributes:
        parameters: of the detector, in millions.
        classifier_parameters: of all its classifiers, in millions.
        iterations: of training.
        precision: of training.
        seconds_per_iteration: median, without the first where there are more.
        seconds_per_test_image: proposals, scores, suppression, masks and AP.
        seconds_per_cached_image: of the training part of the proposal cache, that BAGS was trained on.
        memory: peak in GiB: the GPU's where there is one, else the process's.
        machine: GPU or processor.
    """

    parameters: float
    classifier_parameters: float
    iterations: int
    precision: str
    seconds_per_iteration: float
    seconds_per_test_image: float
    seconds_per_cached_image: float
    memory: float
    machine: str


def shipped_checkpoint(detector: Detector, path: Path) -> Path:
    """Save mmdet's own model of a detector's configuration, initialised at random: a stand-in for one from COCO."""
    init_default_scope("mmdet")
    config = get_config(f"mmdet::{detector.config}.py").model
    config.backbone.pop("init_cfg", None)
    with logged_to(None):
        model = MODELS.build(config)
        model.init_weights()
    torch.save({"state_dict": model.state_dict()}, path)
    return path


def try_detector(
    detector: Detector,
    folder: Path,
    *,
    classes: int = 1230,
    size: tuple[int, int] = (800, 1333),
    iterations: int = 3,
    batch_size: int = 1,
    precision: str = "auto",
    pretrained: Path | None = None,
    reporter: Reporter | None = None,
) -> Trial:
    """Train a few iterations, cache proposals, train BAGS on them, evaluate both: every path that a real run takes.

    Args:
        detector: its record.
        folder: takes generated images, checkpoints and the cache.
        classes: C.
        size: height and width of the generated images.
        iterations: of end-to-end training.
        batch_size: images of an iteration; the learning rate scales with it.
        precision: of end-to-end training, as of ``Benchmark``.
        pretrained: checkpoint to start from; otherwise, at paper scale, a random model of mmdet's configuration.
        reporter: shows progress, and what was loaded of the checkpoint.

    Raises:
        InputError: the checkpoint does not fit.
    """
    reporter = reporter or Reporter()
    dataset = generate(folder / "data", classes, iterations * batch_size, 2, size)
    own = detector.schedule.at_batch_size(batch_size)
    schedule = Schedule(epochs=1, lr=own.lr, batch_size=batch_size)
    if pretrained is None and detector.scale == "paper":
        pretrained = shipped_checkpoint(detector, folder / "shipped.pth")
    setup = Setup(dataset, detector, reporter=reporter)
    bench = Benchmark(setup, folder / "work", schedule=schedule, precision=precision, pretrained=pretrained, views=1)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    baseline, bags = bench.run(BASELINE), bench.run("bags")
    spent = MessageHub.get_current_instance().get_scalar("train/time").data[0].tolist()
    source = setup.load_detector(bags.checkpoint)
    assert isinstance(source, TwoStageSource)
    sizes = {name: parameter.numel() / 1e6 for name, parameter in source.model.named_parameters()}
    return Trial(
        parameters=sum(sizes.values()),
        classifier_parameters=sum(count for name, count in sizes.items() if ".fc_cls." in name),
        iterations=len(spent),
        precision=baseline.record()["settings"]["precision"],
        seconds_per_iteration=statistics.median(spent[1:] or spent),
        seconds_per_test_image=baseline.record()["provenance"]["seconds"]["evaluate"] / 2,
        seconds_per_cached_image=bags.record()["provenance"]["seconds"]["train"] / (iterations * batch_size),
        memory=_peak_memory(),
        machine=bags.record()["provenance"]["machine"],
    )


def _peak_memory() -> float:
    """Return the peak memory in GiB."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
