"""A learning-rate schedule as plain numbers, for mmengine's Runner and for training on cached proposals."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Schedule:
    """A schedule of SGD with momentum: a linear warm-up, then steps to a tenth or a cosine (section 5.1).

    Attributes:
        epochs: passes over the training images.
        milestones: epochs after which the rate falls to a tenth (``policy="step"``).
        lr: peak learning rate at ``batch_size`` images.
        batch_size: number of images in one update.
        policy: ``"step"`` or ``"cosine"`` (down to lr / 100 over all iterations).
        warmup_iterations: length of the linear warm-up.
        warmup_ratio: learning rate at the start of the warm-up, as a share of ``lr``.
        momentum: momentum of SGD.
        weight_decay: weight of the L2 penalty.
        max_norm: gradients are clipped to this L2 norm.
    """

    epochs: int
    lr: float
    batch_size: int
    milestones: tuple[int, ...] = ()
    policy: str = "step"
    warmup_iterations: int = 500
    warmup_ratio: float = 1 / 3
    momentum: float = 0.9
    weight_decay: float = 1e-4
    max_norm: float = 35.0

    def __post_init__(self) -> None:
        if self.policy not in ("step", "cosine"):
            raise ValueError(f"expected policy 'step' or 'cosine', got {self.policy!r}")

    def stretched(self, factor: float) -> Schedule:
        """Return the same curve over ``factor`` times the epochs, for data sets of few or of many images."""
        milestones = tuple(round(factor * milestone) for milestone in self.milestones)
        return replace(self, epochs=max(1, round(factor * self.epochs)), milestones=milestones)

    def at_batch_size(self, batch_size: int) -> Schedule:
        """Return the schedule for another batch size; the learning rate scales linearly with it (section 5.1)."""
        return replace(self, batch_size=batch_size, lr=self.lr * batch_size / self.batch_size)

    def rate(self, iteration: int, iterations_per_epoch: int) -> float:
        """Compute the learning rate of an iteration, counted from 0."""
        factor = 1.0
        if iteration < self.warmup_iterations:
            factor = self.warmup_ratio + (1 - self.warmup_ratio) * iteration / self.warmup_iterations
        if self.policy == "cosine":
            progress = iteration / max(self.epochs * iterations_per_epoch, 1)
            return self.lr * factor * (0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2)
        return self.lr * factor * 0.1 ** sum(iteration >= epoch * iterations_per_epoch for epoch in self.milestones)

    def optim_wrapper(self, amp: bool = False) -> dict[str, Any]:
        """Return the settings of mmengine's optimizer wrapper."""
        return {
            "type": "AmpOptimWrapper" if amp else "OptimWrapper",
            "optimizer": {
                "type": "SGD",
                "lr": self.lr,
                "momentum": self.momentum,
                "weight_decay": self.weight_decay,
                "fused": True,  # one pass over the weights
            },
            "clip_grad": {"max_norm": self.max_norm, "norm_type": 2},
        }

    def param_scheduler(self, iterations_per_epoch: int) -> list[dict[str, Any]]:
        """Return the settings of mmengine's schedulers, which give the same curve as ``rate``."""
        iterations = self.epochs * iterations_per_epoch
        schedulers: list[dict[str, Any]] = []
        if self.warmup_iterations:
            schedulers.append(
                {
                    "type": "LinearLR",
                    "start_factor": self.warmup_ratio,
                    "by_epoch": False,
                    "begin": 0,
                    # mmengine reaches the full rate at end - 1.
                    "end": self.warmup_iterations + 1,
                }
            )
        if self.policy == "cosine":
            schedulers.append(
                {
                    "type": "CosineAnnealingLR",
                    "eta_min_ratio": 0.01,
                    "by_epoch": False,
                    "begin": 0,
                    "end": iterations,
                    "T_max": iterations,
                }
            )
        elif self.milestones:
            milestones = [epoch * iterations_per_epoch for epoch in self.milestones]
            schedulers.append({"type": "MultiStepLR", "by_epoch": False, "milestones": milestones, "gamma": 0.1})
        return schedulers

    def as_dict(self) -> dict[str, Any]:
        """Return the schedule as a dictionary of plain values, for records."""
        return asdict(self)
