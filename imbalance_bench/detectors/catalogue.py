"""The detectors of the suite: a record each, found by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from imbalance_bench.detectors import faster_rcnn, tiny
from imbalance_bench.errors import look_up
from imbalance_bench.schedule import Schedule


@dataclass(frozen=True)
class Detector:
    """A detector as mmdet configures it, and how it is trained.

    Attributes:
        name: on the command line.
        description: one line.
        model: (number of classes, classifier configuration) -> mmdet model configuration.
        train_pipeline: (flip probability) -> mmdet transforms.
        test_pipeline: mmdet transforms, ground truth loaded in the original image's frame.
        schedule: end-to-end training.
        tap_dims: width of the features that a classifier may read.
        num_workers: data loading processes.
    """

    name: str
    description: str
    model: Callable[[int, dict[str, Any]], dict[str, Any]]
    train_pipeline: Callable[[float], list[dict[str, Any]]]
    test_pipeline: list[dict[str, Any]]
    schedule: Schedule
    tap_dims: dict[str, int]
    num_workers: int = 0


def _record(module: Any) -> Detector:
    return Detector(
        name=module.NAME,
        description=module.__doc__.splitlines()[0],
        model=module.model,
        train_pipeline=module.train_pipeline,
        test_pipeline=module.TEST_PIPELINE,
        schedule=module.SCHEDULE,
        tap_dims=module.TAP_DIMS,
        num_workers=module.NUM_WORKERS,
    )


DETECTORS: dict[str, Detector] = {record.name: record for record in map(_record, (tiny, faster_rcnn))}


def get(name: str) -> Detector:
    """The record of a detector.

    Raises:
        InputError: an unknown name; the message holds the nearest one.
    """
    return look_up(DETECTORS, name, "detector")
