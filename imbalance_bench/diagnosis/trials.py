"""Runs on the user's detector: its own classifier is the baseline, its proposals are cached once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from imbalance_bench.classifiers import SoftmaxClassifier
from imbalance_bench.detectors.port import TAPS, UserDetector
from imbalance_bench.diagnosis.inputs import Given, Inputs
from imbalance_bench.experiments.benchmark import BASELINE, Benchmark
from imbalance_bench.experiments.run_folder import RunFolder
from imbalance_bench.experiments.setup import Setup
from imbalance_bench.methods import Method
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.progress import Reporter


def open_benches(given: Given, inputs: Inputs, folder: Path, reporter: Reporter) -> tuple[Benchmark, Benchmark]:
    """Create two benchmarks: on all chosen training images, measured on validation; and one to choose settings."""
    finished = inputs.detector.adopt
    tuning, final = (
        Setup(data, inputs.detector, seed=given.seed, reporter=reporter) for data in (inputs.tuning, inputs.final)
    )
    chosen_by = Benchmark(tuning, folder, pretrained=given.checkpoint, finished=finished, views=1, fixed=False)
    return replace(chosen_by, setup=final, also=chosen_by), chosen_by


def fitting(
    bench: Benchmark, detector: UserDetector, tried: Sequence[Method], asked: bool
) -> tuple[list[Method], list[str]]:
    """Return the methods whose classifier can take the place of the detector's own, and remarks on the others.

    Args:
        bench: whose categories and annotations they are built with.
        detector: the user's.
        tried: methods of the catalogue.
        asked: the user named them.

    Raises:
        InputError: a method that the user named does not fit; the message says why.
    """
    setup, fit = bench.setup, list[Method]()
    start = SoftmaxClassifier(setup.categories.num_classes, 1)
    left: dict[str, list[str]] = {}
    for method in tried:
        try:
            dims, train = dict.fromkeys(TAPS, 1), setup.dataset.train_annotations
            built = method.candidate.build(setup.categories, dims, start, train)
            missing = [tap for tap in built.taps if tap not in detector.tap_dims]
            reason = f"it reads {missing[0]}, which is not there" if missing else detector.refusal(built)
        except InputError:  # the data do not suit it, which its run says
            reason = None
        if reason is None:
            fit.append(method)
        elif asked:
            raise InputError(f"'{method.name}' cannot be tried on {detector.source}: {reason}")
        else:
            left.setdefault(reason, []).append(method.name)
    return fit, [f"not tried: {', '.join(names)}: {reason}" for reason, names in left.items()]


def cache_proposals(bench: Benchmark, tuning: Benchmark) -> RunFolder:
    """Measure the unchanged detector, and cache the proposals for all later runs; return its run folder."""
    plain = [SoftmaxClassifier(1, 1)] * bench.setup.detector.num_stages
    for one in (tuning, bench):  # the second is fitted to the images of the first, too
        one.cache(one.run(BASELINE)).make("train", plain)
    return bench.folder(BASELINE)
