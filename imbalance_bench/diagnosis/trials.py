"""Runs on the user's detector: its own classifier is the baseline, its proposals are cached once."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from mmdet.models.detectors import TwoStageDetector

from imbalance_bench.checkpoints import own as checkpoints
from imbalance_bench.classifiers import SoftmaxClassifier
from imbalance_bench.detectors.mmdet.from_config import ForeignDetector
from imbalance_bench.diagnosis.inputs import Given, Inputs
from imbalance_bench.experiments.benchmark import BASELINE, Benchmark
from imbalance_bench.experiments.run_folder import RunFolder
from imbalance_bench.experiments.setup import Setup
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.progress import Reporter, logged_to
from imbalance_bench.training.end_to_end import build_detector, load_features


def open_benches(given: Given, inputs: Inputs, folder: Path, reporter: Reporter) -> tuple[Benchmark, Benchmark]:
    """Create two benchmarks: on all chosen training images, measured on validation; and one to choose settings."""
    finished = partial(adopt, inputs.detector)
    tuning, final = (
        Setup(data, inputs.detector, seed=given.seed, reporter=reporter) for data in (inputs.tuning, inputs.final)
    )
    chosen_by = Benchmark(tuning, folder, pretrained=given.checkpoint, finished=finished, views=1, fixed=False)
    return replace(chosen_by, setup=final, also=chosen_by), chosen_by


def cache_proposals(bench: Benchmark, tuning: Benchmark) -> RunFolder:
    """Measure the unchanged detector, and cache the proposals for all later runs; return its run folder."""
    plain = [SoftmaxClassifier(1, 1)] * bench.setup.detector.num_stages
    for one in (tuning, bench):  # the second is fitted to the images of the first, too
        one.cache(one.run(BASELINE)).make("train", plain)
    return bench.folder(BASELINE)


def adopt(detector: ForeignDetector, path: Path) -> TwoStageDetector:
    """Build the detector of the user's checkpoint, with its classifiers in heads of this package, in evaluation mode.

    Raises:
        InputError: the checkpoint's tensors do not fit the configured model, or are not finite.
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
