"""End-to-end training of a detector with a hosted classifier, through mmengine's Runner."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.models.detectors import TwoStageDetector
from mmengine import dist
from mmengine.dataset import BaseDataset, DefaultSampler, pseudo_collate
from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader, Sampler

from imbalance_bench.categories import CategoryTable
from imbalance_bench.checkpoints import own as checkpoints
from imbalance_bench.detectors.mmdet.detector import Detector
from imbalance_bench.detectors.mmdet.hooks import ClassifierHook
from imbalance_bench.detectors.mmdet.passes import box_heads
from imbalance_bench.detectors.mmdet.precision import multiply_in
from imbalance_bench.runtime.devices import check_precision, resolve_precision
from imbalance_bench.runtime.memory import keep_freed_memory
from imbalance_bench.runtime.processes import log_file, on_main, per_process
from imbalance_bench.runtime.progress import Advance, Reporter, logged_to
from imbalance_bench.runtime.seeds import epoch_seed
from imbalance_bench.runtime.signals import deferred
from imbalance_bench.schedule import Schedule
from imbalance_bench.training.divergence import check_losses, check_weights
from imbalance_bench.training.resuming import WHOLE_FILES, ResumableLoop, StopHook, latest_checkpoint
from imbalance_bench.training.trackers import TRACKERS

_STEM = ("backbone.conv1.", "backbone.bn1.", "backbone.layer1.")
SCOPES: dict[str, Callable[[str], bool]] = {
    "all": lambda name: True,
    "all but stem": lambda name: not name.startswith(_STEM),
    "head": lambda name: name.startswith("roi_head.bbox_head."),
    "classifier": checkpoints.is_classifier,
}
"""Which parameters are trained, by their names."""


def train_detector(
    detector: Detector,
    model: TwoStageDetector,
    dataset: BaseDataset,
    schedule: Schedule,
    folder: Path,
    seed: int,
    *,
    sampler: Sampler[int] | None = None,
    scope: str = "all",
    precision: str = "auto",
    track: str | None = None,
    reporter: Reporter | None = None,
    categories: CategoryTable | None = None,
    after_epoch: Callable[[int], object] | None = None,
) -> TwoStageDetector:
    """Train with a checkpoint each epoch; after an interruption the same call continues, with the same result.

    Several processes share each batch of the schedule and train as one process does, except that each draws flips and
    RoIs with its own seed. Batch norm is SyncBN on GPUs. On CPUs torch has no SyncBN: each process normalises over its
    own images, and the running statistics of the main process are kept.

    With one process, SIGTERM and Ctrl-C save after the current iteration and raise ``Stopped``. With several processes
    they lose the current epoch, and so does a kill in both cases.

    Args:
        detector: its record.
        model: initial weights; trained in place.
        dataset: training images.
        schedule: how long and how fast.
        folder: takes checkpoints and logs.
        seed: of order, flips and sampled RoIs; each epoch has its own.
        sampler: order of images; uniform without one.
        scope: what is trained, of ``SCOPES``; the rest is frozen, its batch norm in evaluation mode.
        precision: ``fp32``, ``bf16``, ``fp16`` or ``auto`` (``devices.resolve_precision``).
        track: one of ``TRACKERS``; takes the training curves beside the log file.
        reporter: shows progress.
        categories: of the training images; each epoch's checkpoint stores them and the classifier's configuration.
        after_epoch: is called by every process with the number of an epoch (from 1) before its checkpoint is written.

    Raises:
        InputError: training diverged, or the device does not compute in this precision.
    """
    reporter = reporter or Reporter()
    precision = resolve_precision(precision, get_device())
    if warning := check_precision(precision, get_device()):
        reporter.say(f"  {warning}", style="yellow")
    if precision == "bf16":
        multiply_in(model, torch.bfloat16)
    keep_freed_memory()
    # Channels side by side: a tenth faster, on a CPU and on a GPU.
    model.to(memory_format=torch.channels_last)
    loader = DataLoader(
        dataset,
        batch_size=per_process(schedule.batch_size, dist.get_world_size()),
        sampler=sampler or DefaultSampler(dataset, shuffle=True, seed=seed),
        num_workers=detector.num_workers,
        collate_fn=pseudo_collate,
    )
    # Some backbones freeze their first stages only here; processes must know before they agree on what is trained.
    model.train()
    if scope != "all":
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(parameter.requires_grad and SCOPES[scope](name))
    log = log_file(folder / "console.log")
    latest = on_main(lambda: latest_checkpoint(folder, reporter.say))
    iterations = schedule.epochs * len(loader)
    # Several processes are asked at different iterations: they end at once, and go on from the last epoch.
    stopping = nullcontext(lambda: None) if dist.is_distributed() else deferred()
    with stopping as asked, reporter.task(f"training the detector, {schedule.epochs} epochs", iterations) as advance:
        hooks: list[Hook] = [
            EpochSeedHook(seed),
            MeanLossHook(),
            ClassifierHook(),
            ProgressHook(advance, reporter),
            DivergenceHook(),
            StopHook(asked, reporter.say),
        ]
        if scope != "all":
            hooks.append(FrozenNormHook())
        if after_epoch is not None:
            hooks.append(AfterEpochHook(after_epoch))
        if categories is not None:
            hooks.append(MetaHook(checkpoints.meta_of(box_heads(model)[0].fc_cls, categories)))
        with logged_to(log):
            runner = Runner(
                model=model,
                work_dir=str(folder),
                train_dataloader=loader,
                train_cfg={"type": ResumableLoop, "max_epochs": schedule.epochs},
                optim_wrapper=schedule.optim_wrapper(amp=precision == "fp16"),
                param_scheduler=schedule.param_scheduler(len(loader)),
                default_hooks=_DEFAULT_HOOKS,
                custom_hooks=hooks,
                resume=latest is not None,
                load_from=latest and str(latest),
                randomness={"seed": seed},
                visualizer=_visualizer(track),
                default_scope="mmdet",
                **_distribution(),
                experiment_name=f"{folder.name}-{uuid.uuid4().hex[:8]}",
            )
            runner.train()
    return model.to("cpu", memory_format=torch.contiguous_format).eval()


def _distribution() -> dict[str, Any]:
    """Return the Runner's settings for several processes; empty for one process."""
    if not dist.is_distributed():
        return {}
    on_gpus = get_device() == "cuda"
    wrapper: dict[str, Any] = {"type": "MMDistributedDataParallel", "broadcast_buffers": False}
    return {
        # The processes have met already, so any launcher's name will do.
        "launcher": "pytorch",
        "cfg": {
            "sync_bn": "torch" if on_gpus else None,
            "model_wrapper_cfg": wrapper if on_gpus else wrapper | {"device_ids": None},
        },
    }


def _visualizer(track: str | None) -> dict[str, Any]:
    backends = [{"type": "LocalVisBackend"}]
    if track is not None:
        backends.append({"type": TRACKERS[track][0]})
    return {"type": "Visualizer", "vis_backends": backends}


# Two checkpoints are kept, the one before the last for a disk that damages it.
_DEFAULT_HOOKS: dict[str, Any] = {
    "logger": {"type": "LoggerHook", "interval": 20},
    "checkpoint": {"type": "CheckpointHook", "interval": 1, "max_keep_ckpts": 2, "backend_args": WHOLE_FILES},
}


class EpochSeedHook(Hook):
    """A hook that seeds all random generators by (seed, epoch, rank), so that a resumed run gives the same result."""

    priority = "VERY_HIGH"

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def before_train_epoch(self, runner: Runner) -> None:
        """Set the seeds before the workers of the data loader start, which take their seeds from them."""
        seed = epoch_seed(self.seed, runner.epoch, runner.rank)
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - mmdet's transforms draw from the global generator
        torch.manual_seed(seed)


class MetaHook(Hook):
    """A hook that gives the checkpoints of epochs the same metadata as that of the finished run."""

    def __init__(self, meta: dict[str, Any]) -> None:
        self.meta = meta

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Add the metadata to mmengine's own."""
        checkpoint["meta"] |= self.meta


class AfterEpochHook(Hook):
    """A hook that calls a function with the number of each epoch, before mmengine writes the epoch's checkpoint."""

    def __init__(self, after_epoch: Callable[[int], object]) -> None:
        self.after_epoch = after_epoch

    def after_train_epoch(self, runner: Runner) -> None:
        """Call the function."""
        self.after_epoch(runner.epoch + 1)


class FrozenNormHook(Hook):
    """A hook that keeps the statistics of batch norm layers that are not trained."""

    def __init__(self) -> None:
        self.epoch: int | None = None

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Set frozen batch norm to evaluation mode in the first iteration of an epoch or of a resumed run."""
        if runner.epoch != self.epoch:
            self.epoch = runner.epoch
            for module in runner.model.modules():
                frozen = not any(parameter.requires_grad for parameter in module.parameters())
                if isinstance(module, nn.modules.batchnorm._BatchNorm) and frozen:
                    module.eval()


class MeanLossHook(Hook):
    """A hook that replaces the logged losses by their mean over processes."""

    priority = "HIGHEST"

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Average the losses before the other hooks read them."""
        dist.all_reduce_dict(outputs, "mean")


class ProgressHook(Hook):
    """A hook that advances the progress bar each iteration, and reports the end of each epoch."""

    def __init__(self, advance: Advance, reporter: Reporter) -> None:
        self.advance, self.reporter = advance, reporter

    def before_train(self, runner: Runner) -> None:
        """Set the progress bar to the iteration from which the run starts or resumes."""
        self.advance(runner.iter)
        self.end_epoch = self.reporter.epochs(runner.max_epochs, runner.iter / len(runner.train_dataloader))

    def before_train_epoch(self, runner: Runner) -> None:
        """Start a new list of losses for the epoch."""
        self.losses: list[float] = []

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Add the loss and advance the progress bar by one."""
        self.losses.append(float(outputs["loss"]))
        self.advance(1, note=f"loss {self.losses[-1]:.3f}")

    def after_train_epoch(self, runner: Runner) -> None:
        """Report the mean loss of the epoch."""
        self.end_epoch(runner.epoch + 1, sum(self.losses) / len(self.losses))


class DivergenceHook(Hook):
    """A hook that checks the losses of every iteration, and the weights before every checkpoint.

    mmdet's CheckInvalidLossHook names neither the loss nor the iteration, and checkpoints can be saved between its
    checks. Other hooks have already copied the losses from the GPU, so these checks cost no extra time.
    """

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Check the losses."""
        losses = {name: float(value) for name, value in outputs.items() if "loss" in name}
        check_losses(losses, runner.iter + 1, runner.epoch + 1, self._kept(runner))

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Check the weights."""
        iteration, epoch = checkpoint["meta"]["iter"], runner.epoch + 1
        check_weights(checkpoint["state_dict"], iteration, epoch, self._kept(runner))

    @staticmethod
    def _kept(runner: Runner) -> str:
        if runner.epoch == 0:
            return "no epoch was finished before"
        return f"{runner.work_dir}: the checkpoint after epoch {runner.epoch} is kept"
