"""Fixes tried on somebody's detector: its own classifier is the baseline, its proposals are cached once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mmdet.models.detectors import TwoStageDetector

from imbalance_bench.checkpoints import own as checkpoints
from imbalance_bench.detectors.mmdet.from_config import ForeignDetector
from imbalance_bench.experiments.benchmark import Benchmark
from imbalance_bench.experiments.run_folder import RunFolder
from imbalance_bench.experiments.tuning import FixedDetector
from imbalance_bench.proposals import store as proposals
from imbalance_bench.proposals.store import ProposalSet
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.progress import logged_to
from imbalance_bench.training.end_to_end import build_detector, load_features


@dataclass
class GivenDetector(FixedDetector):
    """Runs on a user's detector.

    Attributes:
        beside: runs on the same detector, whose training images classifiers are fitted to as well.
    """

    beside: Benchmark | None = None

    def given(self) -> TwoStageDetector:
        """Of the user's checkpoint."""
        assert self.pretrained is not None
        assert isinstance(self.detector, ForeignDetector)
        return adopt(self.detector, self.pretrained)

    def proposals(self, detector_run: RunFolder, split: str, tap: str) -> list[ProposalSet]:
        """Those of the training images of both."""
        own = super().proposals(detector_run, split, tap)
        if split != "train" or self.beside is None:
            return own
        theirs = self.beside.proposals(self.beside.folder_of("baseline"), split, tap)
        return [proposals.concatenate(parts) for parts in zip(theirs, own, strict=True)]


def adopt(detector: ForeignDetector, path: Path) -> TwoStageDetector:
    """The detector of its user's checkpoint, its heads hosting its classifiers, in evaluation mode.

    Raises:
        InputError: the checkpoint's tensors are not those of the configured model.
    """
    state = checkpoints.load(path)["state_dict"]
    state = {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
    stock = detector.stock_classifier(detector.num_classes, detector.tap_dims["fc"])
    named = {"state_dict": state, "meta": {"classifier": stock.config()}}
    classifiers = list(checkpoints.classifiers_of(named, path).values())
    with logged_to(None):
        model = build_detector(detector, classifiers)
    try:
        load_features(model, state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{path}: field 'state_dict' is not of the model of {detector.config}: {reason}") from error
    for classifier in classifiers:
        if any(not value.isfinite().all() for value in classifier.state_dict().values() if value.is_floating_point()):
            raise InputError(f"{path}: the classifier holds values that are NaN or infinite, expected numbers")
    return model.eval()
