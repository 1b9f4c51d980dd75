"""What trainings start from: a detector of other classes, a backbone of ImageNet, or random weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imbalance_bench.datasets.registry import DataSet
from imbalance_bench.detectors.mmdet import backbones, catalogue
from imbalance_bench.detectors.mmdet.detector import Detector
from imbalance_bench.runtime.errors import InputError

if TYPE_CHECKING:
    from mmdet.models.detectors import TwoStageDetector

SCRATCH, CHECKPOINT, BACKBONE = "scratch", "checkpoint", "backbone"


@dataclass(frozen=True)
class FirstWeights:
    """The weights that a training starts from.

    Attributes:
        name: as a run's record has it: ``scratch``, ``checkpoint``, ``backbone``, or the set of the pretraining.
        file: where they are; None if they are random.
    """

    name: str = SCRATCH
    file: Path | None = None

    def load(self, model: TwoStageDetector) -> str:
        """Load the file into a detector; return one line that says what was loaded.

        Raises:
            InputError: the file does not fit the detector.
        """
        from imbalance_bench.detectors.mmdet.building import load_pretrained

        assert self.file is not None, "random weights are not loaded"
        return (backbones.load if self.name == BACKBONE else load_pretrained)(model, self.file)


def backbone_of(detector: Detector) -> FirstWeights:
    """Return the backbone weights that are found on this machine, or random weights."""
    file = detector.backbone and backbones.find(detector.backbone)
    return FirstWeights(BACKBONE, file) if file else FirstWeights()


def check_options(
    detector: Detector | None, pretrained: Path | None, backbone_weights: Path | None, scratch: bool
) -> None:
    """Check the options that name first weights; None stands for a detector that is not trained.

    Raises:
        InputError: a file that is not there, two starts at once, or a detector that takes no backbone weights.
    """
    given = [("--pretrained", pretrained), ("--backbone-weights", backbone_weights)]
    named = [option for option, file in given if file is not None] + ["--from-scratch"] * scratch
    if len(named) > 1:
        raise InputError(f"options {' and '.join(named)}: expected one start")
    for option, file in given:
        if file is not None and not file.is_file():
            raise InputError(f"{file}: no such file, expected weights ('{option}')")
    if backbone_weights is not None and (detector is None or detector.backbone is None):
        name = "this detector" if detector is None else f"'{detector.name}'"
        raise InputError(f"option '--backbone-weights': there are none for the backbone of {name}")


def warning_of(start: FirstWeights, detector: Detector, dataset: DataSet) -> str | None:
    """Return a warning about random weights and what to do instead; None if the start is fine."""
    if start.name == CHECKPOINT or (dataset.pretraining is not None and start.name != SCRATCH):
        return None
    trained = f"{detector.name} starts from random weights on {dataset.name}"
    if detector.scale == "tiny":
        if not dataset.photographs:
            return None
        better = catalogue.for_photographs(detector.framework)
        return f"{trained}, and is made for drawn images: expect a low AP; better take --detector {better.name}"
    if start.name == BACKBONE:
        return None
    files = f"--backbone-weights FILE takes torchvision's {detector.backbone}"
    if detector.scale == "paper":
        files = f"--pretrained FILE takes mmdet's checkpoint of {detector.config}, {files}"
    return f"{trained}: expect far less AP; {files}"
