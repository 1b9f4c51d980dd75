"""A run that trains an mmdet detector end to end: its first weights, its images, and its trainer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from imbalance_bench.classifiers import Classifier
from imbalance_bench.datasets.sampling import IMAGE_FACTORS, RepeatFactorSampler
from imbalance_bench.detectors.mmdet.annotation_dataset import AnnotationDataset, image_labels
from imbalance_bench.detectors.mmdet.building import build_detector, load_features
from imbalance_bench.detectors.mmdet.detector import Detector
from imbalance_bench.detectors.mmdet.source import TwoStageSource
from imbalance_bench.experiments.curve import kept_weights
from imbalance_bench.experiments.run_folder import RunFolder
from imbalance_bench.methods import Run
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.processes import log_file, on_main
from imbalance_bench.runtime.progress import logged_to
from imbalance_bench.training.end_to_end import train_detector

if TYPE_CHECKING:
    from imbalance_bench.experiments.benchmark import Benchmark


def train(
    bench: Benchmark,
    run: Run,
    classifiers: Sequence[Classifier],
    folder: RunFolder,
    start: Mapping[str, Tensor] | None,
) -> TwoStageSource:
    """Train a run's detector in its folder.

    Args:
        bench: whose run it is.
        run: one that trains more than its classifier.
        classifiers: as they begin, one a stage.
        folder: takes checkpoints and logs.
        start: the tensors of the run that it goes on from; None where it starts from the benchmark's first weights.

    Raises:
        InputError: data or first weights do not fit, training diverged, or the detector is none of mmdet's.
    """
    setup, detector, first_weights = bench.setup, bench.setup.detector, bench.first_weights
    if not isinstance(detector, Detector):
        raise InputError(f"'{run}' trains more than the classifier, which is done with mmdet's detectors alone")
    on_main(lambda: setup.checked_data)
    keep = setup.categories.tail_labels if run.sees_tail_alone else None
    with logged_to(log_file(folder.path / "console.log")):
        dataset = setup.training_set(keep_labels=keep)
        assert isinstance(dataset, AnnotationDataset)
        pretrained = first_weights.file is not None
        model = build_detector(detector, classifiers, setup.seed, stuff=setup.has_stuff, pretrained=pretrained)
    if start is not None:
        load_features(model, start)
    elif pretrained:
        setup.reporter.say(first_weights.load(model))
    sampler = None
    if (factors_of := IMAGE_FACTORS.get(run.method.sampling)) is not None:
        factors = factors_of(image_labels(dataset), setup.categories, run.training_options)
        sampler = RepeatFactorSampler(factors, setup.seed)
    source = TwoStageSource(detector, model)
    train_detector(
        detector,
        model,
        dataset,
        bench.schedule_of(run),
        folder.path,
        setup.seed,
        sampler=sampler,
        scope=run.trains,
        precision=bench.training_precision,
        track=bench.track,
        reporter=setup.reporter,
        categories=setup.categories,
        after_epoch=(lambda epoch: bench.save(source, kept_weights(folder, epoch))) if bench.curve else None,
    )
    return source
