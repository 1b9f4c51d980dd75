"""The graph of runs behind a table: a data set, a detector and a seed; a run first does the runs that it needs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from imbalance_bench import methods
from imbalance_bench.checkpoints import own as checkpoints
from imbalance_bench.classifiers import Classifier, softmax_start
from imbalance_bench.datasets import registry
from imbalance_bench.detectors.mmdet import catalogue, shipped
from imbalance_bench.detectors.mmdet.detector import Detector
from imbalance_bench.detectors.port import ProposalSource
from imbalance_bench.experiments.curve import measure_curve
from imbalance_bench.experiments.first_weights import (
    BACKBONE,
    CHECKPOINT,
    FirstWeights,
    backbone_of,
    check_options,
    warning_of,
)
from imbalance_bench.experiments.measure import Measurer
from imbalance_bench.experiments.proposal_cache import ProposalCache
from imbalance_bench.experiments.run_folder import RunFolder
from imbalance_bench.experiments.setup import Setup
from imbalance_bench.methods import Run
from imbalance_bench.runtime.devices import resolve_precision
from imbalance_bench.runtime.files import naming, remove_partials, sha256, write_text
from imbalance_bench.runtime.processes import held_by_main, on_main, per_process, world_size
from imbalance_bench.schedule import Schedule
from imbalance_bench.training.on_cache import train_classifier
from imbalance_bench.training.trackers import check_tracker

BASELINE = "baseline"
"""The run whose detector all that keep it share."""


@dataclass
class Benchmark:
    """Runs of one data set, detector and seed.

    Attributes:
        setup: data and detector.
        work_dir: run folders stand in ``work_dir/<dataset>/<detector>/seed<seed>/<method>[-variant]``.
        schedule: end-to-end schedule, if not the detector's own.
        batch_size: images of one update, if not the schedule's own; the learning rate scales with it.
        precision: of end-to-end training: ``fp32``, ``bf16``, ``fp16`` or ``auto`` (``devices.resolve_precision``); the
            cache and evaluation are in fp32.
        pretrained: checkpoint of a detector (trained on COCO, say) that trainings start from; classifier and box
            regressor are new. Without it, those on embedded data start from ``pretraining``.
        backbone_weights: torchvision's weights of the backbone alone that trainings start from instead. Those that are
            found on this machine are taken where there is no other start.
        from_scratch: start from random weights instead.
        finished: where the baseline is no training but a detector that is finished: what makes it of ``pretrained``.
        track: tracker of end-to-end training curves (``training.trackers.TRACKERS``).
        curve: measure end-to-end runs after every epoch too (``RunFolder.curve``); the run itself is the same.
        views: cached views of each training image, if not the data set's own; odd ones are flipped.
        also: runs on the same detector, whose training images classifiers are fitted to as well.
        fixed: measure AP_fixed and AP_pool too.

    Example:
        >>> bench = Benchmark(Setup.named("emoji-lt-mini", "tiny", Path("data"), draw=False), Path("work_dirs"))
        >>> bench.folder("bags").path.as_posix()  # bench.run("bags") trains it there, and before it what it needs
        'work_dirs/emoji-lt-mini/tiny/seed0/bags'
    """

    setup: Setup
    work_dir: Path
    schedule: Schedule | None = None
    batch_size: int | None = None
    precision: str = "auto"
    pretrained: Path | None = None
    backbone_weights: Path | None = None
    from_scratch: bool = False
    finished: Callable[[Path], ProposalSource] | None = None
    track: str | None = None
    curve: bool = False
    views: int | None = None
    also: Benchmark | None = None
    fixed: bool = True

    def __post_init__(self) -> None:
        check_tracker(self.track)
        resolve_precision(self.precision, "cpu")  # a name that there is not is told before anything begins
        batch_size = self.batch_size or self._detector_schedule.batch_size
        on_main(lambda: per_process(batch_size, world_size()))
        check_options(self._trained, self.pretrained, self.backbone_weights, self.from_scratch)
        if self.finished is not None and self.pretrained is None:
            raise ValueError("a finished detector needs its checkpoint, 'pretrained'")

    @cached_property
    def measurer(self) -> Measurer:
        """The measurer of the runs."""
        return Measurer(self.setup, self.fixed)

    @property
    def root(self) -> Path:
        """Where this benchmark's run folders stand."""
        setup = self.setup
        return self.work_dir / setup.dataset.name / setup.detector.name / f"seed{setup.seed}"

    def folder(self, run: Run | str) -> RunFolder:
        """Return the folder of a run, named as ``methods.parse`` reads it."""
        return RunFolder(self.root / methods.parse(run).folder)

    def cache(self, folder: RunFolder) -> ProposalCache:
        """Open the cached proposals of a run's detector.

        Raises:
            InputError: its checkpoint was changed since the run was done.
        """
        on_main(lambda: folder.verified(folder.checkpoint))
        also = () if self.also is None else (self.also.cache(self.also.folder(BASELINE)),)
        return ProposalCache(self.setup, folder.checkpoint, folder.path / "proposals", self._cached_views, also)

    @property
    def _cached_views(self) -> int:
        return self.views or self.setup.dataset.views

    def detector_folder(self, run: Run) -> RunFolder:
        """Return the folder of the run whose detector a run uses: the baseline's, or its own."""
        return self.folder(BASELINE if run.keeps_detector else run)

    @cached_property
    def pretraining(self) -> Benchmark | None:
        """The benchmark whose baseline gives the first weights: the same detector on other classes (section 5.1: COCO).

        None where other first weights are asked for, or where the package brings them.
        """
        dataset, detector = registry.pretraining_of(self.setup.dataset), self._trained
        if dataset is None or detector is None or self._names_start or shipped.weights_of(detector):
            return None
        setup = Setup(dataset, catalogue.plain(detector), reporter=self.setup.reporter)
        return Benchmark(setup, self.work_dir, precision=self.precision, track=self.track)

    @property
    def _trained(self) -> Detector | None:
        """The detector, if it can be trained end to end, as mmdet's can."""
        return self.setup.detector if isinstance(self.setup.detector, Detector) else None

    @property
    def _names_start(self) -> bool:
        return self.from_scratch or self.pretrained is not None or self.backbone_weights is not None

    @property
    def first_weights(self) -> FirstWeights:
        """What trainings start from; weights of a pretraining are there only after it.

        Raises:
            InputError: the checkpoint of the pretraining was changed since.
        """
        pretrained_on = self.setup.dataset.pretraining
        if self.from_scratch:
            return FirstWeights()
        if self.pretrained is not None:
            return FirstWeights(CHECKPOINT, self.pretrained)
        if self.backbone_weights is not None:
            return FirstWeights(BACKBONE, self.backbone_weights)
        if self._trained is None:
            return FirstWeights()
        if pretrained_on is None:
            return backbone_of(self._trained)
        if self.pretraining is None:
            return FirstWeights(pretrained_on, shipped.weights_of(self._trained))
        folder = self.pretraining.folder(BASELINE)
        return FirstWeights(pretrained_on, folder.verified(folder.checkpoint))

    @property
    def random_start(self) -> str | None:
        """A warning about a start from random weights and what to do instead; None if the start is fine."""
        if self.pretraining is not None or self._trained is None:
            return None  # its weights may not be there yet
        return warning_of(self.first_weights, self._trained, self.setup.dataset)

    def run(self, run: Run | str) -> RunFolder:
        """Train and evaluate a run, and before it what it needs; finished runs are only checked.

        Args:
            run: e.g. ``bags`` or ``bags:beta=2``.

        Raises:
            InputError: unknown names, a folder in use or made with other settings.
        """
        run = methods.parse(run)
        for bench, needed in self.needs(run):
            if bench is self or not bench.folder(needed).is_done:  # finished first weights are taken as they are
                bench.run(needed)
        on_main(self.setup.draw)
        folder = self._finished(run)
        if self.curve and not run.keeps_detector:
            measure_curve(folder, self.measurer, self.schedule_of(run).epochs)
        return folder

    def _finished(self, run: Run) -> RunFolder:
        """Train and evaluate a run whose needs are done, if it is not finished."""
        folder = self.folder(run)
        settings = on_main(lambda: self._settings(run))
        if on_main(lambda: folder.is_done and folder.begin(settings)):
            return folder
        with naming(folder.path), held_by_main(folder.lock):
            if on_main(lambda: folder.begin(settings)):  # finished by another process, between the two looks
                return folder
            on_main(lambda: remove_partials(folder.path))
            self._announce(run)
            seconds: dict[str, float] = {}
            with _timed(seconds, "train"):
                classifiers = self._train(run, folder)
            with _timed(seconds, "evaluate"):
                cache = self.cache(self.detector_folder(run))
                cache.make("val", classifiers)
                metrics = on_main(lambda: self._measure(classifiers, folder, cache))
            on_main(lambda: folder.finish(settings, metrics, seconds))
        return folder

    def needs(self, run: Run) -> list[tuple[Benchmark, Run]]:
        """List the runs that are finished before a run begins, each with its benchmark."""
        needed = [(self, other) for other in methods.needs(run)]
        if run.starts_from_scratch and self.pretraining is not None:
            needed.append((self.pretraining, methods.parse(BASELINE)))
        return needed

    def oracles(self, run: Run | str) -> pd.DataFrame:
        """Measure AP of a run where a part of the classifier's work is done for it (``evaluation.oracles``)."""
        run = methods.parse(run)
        folder = self.run(run)
        content = checkpoints.load(folder.verified(folder.checkpoint))
        classifiers = list(checkpoints.classifiers_of(content, folder.checkpoint).values())
        cache = self.cache(self.detector_folder(run))
        cache.make("val", classifiers)
        return self.measurer.oracles(classifiers, cache)

    def schedule_of(self, run: Run) -> Schedule:
        """Return the given schedule, or the detector's, over more epochs for few images, over fewer for many."""
        schedule = run.schedule(self._detector_schedule)
        if self.batch_size is not None:
            schedule = schedule.at_batch_size(self.batch_size)
        return schedule if self.schedule else schedule.stretched(self.setup.dataset.epoch_factor)

    @property
    def _detector_schedule(self) -> Schedule:
        return self.schedule or self.setup.detector.schedule

    @property
    def training_precision(self) -> str:
        """Of end-to-end training, on this device."""
        return resolve_precision(self.precision, self.setup.device)

    def _trains_detector(self, run: Run) -> bool:
        """Tell whether a run trains end to end."""
        return not (run.keeps_detector or (run.starts_from_scratch and self.finished is not None))

    def _announce(self, run: Run) -> None:
        """Print what begins, its learning rate if changed, and a warning about random weights."""
        setup, say = self.setup, self.setup.reporter.say
        say(f"{run.title} on {setup.dataset.name}, {setup.detector.name}, seed {setup.seed}", style="bold")
        if self.batch_size is not None and not run.trains_nothing:
            own, scaled = run.schedule(self._detector_schedule), self.schedule_of(run)
            say(f"  learning rate {scaled.lr:g} at {scaled.batch_size} images ({own.lr:g} at {own.batch_size})")
        if run.starts_from_scratch and self.random_start:
            say(f"  {self.random_start}", style="yellow")

    def _settings(self, run: Run) -> dict[str, Any]:
        """Return the settings that identify a run; its folder is refused for others."""
        setup, start, first_weights = self.setup, methods.start_of(run), self.first_weights
        folder = start and self.folder(start)
        return {
            "dataset": setup.dataset.name,
            "annotations_sha256": [sha256(setup.dataset.train_annotations), sha256(setup.dataset.val_annotations)],
            "bin_edges": list(setup.categories.bin_edges),
            "detector": setup.detector.name,
            "method": run.method.name,
            "variant": run.variant,
            "options": run.options,
            "seed": setup.seed,
            "schedule": None if run.trains_nothing else self.schedule_of(run).as_dict(),
            "precision": self.training_precision if self._trains_detector(run) else None,
            "views": self._cached_views if run.keeps_detector else None,
            "start_sha256": folder and sha256(folder.verified(folder.checkpoint)),
            "start": first_weights.name,
            "pretrained_sha256": first_weights.file and sha256(first_weights.file),
        }

    def _measure(self, classifiers: list[Classifier], folder: RunFolder, cache: ProposalCache) -> dict[str, Any]:
        """Evaluate a run into its folder; return the metrics."""
        table, metrics, detections = self.measurer.evaluate(classifiers, cache)
        detections.save(folder.detections)
        write_text(folder.per_category, table.to_csv())
        return metrics

    def _train(self, run: Run, folder: RunFolder) -> list[Classifier]:
        """Train and save the checkpoint; return the classifiers, one a stage."""
        setup, start = self.setup, methods.start_of(run)
        if start is None and self.finished is not None and self.pretrained is not None:
            return self.save(self.finished(self.pretrained), folder.checkpoint)
        content = None
        bases: list[Classifier | None] = [None] * setup.detector.num_stages
        if start is not None:
            path = self.folder(start).checkpoint
            content = checkpoints.load(path)
            bases = [softmax_start(classifier) for classifier in checkpoints.classifiers_of(content, path).values()]
        torch.manual_seed(setup.seed)
        classifiers = [
            run.build(setup.categories, setup.detector.tap_dims, base, setup.dataset.train_annotations)
            for base in bases
        ]
        if content is None or not run.keeps_detector:
            from imbalance_bench.experiments.end_to_end import train

            state = None if content is None else content["state_dict"]
            return self.save(train(self, run, classifiers, folder, state), folder.checkpoint)
        cache = self.cache(self.detector_folder(run))
        cache.make("train", classifiers)
        on_main(lambda: self._train_on_cache(run, classifiers, folder, cache, content["state_dict"]))
        return classifiers

    def save(self, source: ProposalSource, path: Path) -> list[Classifier]:
        """Save a detector as a checkpoint; return its classifiers."""
        classifiers, categories = source.classifiers, self.setup.categories
        on_main(lambda: checkpoints.save(path, source.state_dict(), classifiers[0], categories))
        return classifiers

    def _train_on_cache(
        self, run: Run, classifiers: list[Classifier], folder: RunFolder, cache: ProposalCache, state: dict[str, Any]
    ) -> None:
        setup, train = self.setup, cache.features("train", classifiers)
        for stage, (classifier, cached) in enumerate(zip(classifiers, train, strict=True)):
            if run.trains_nothing:
                classifier.fit(cached.chunks(ground_truth_only=run.fits_ground_truth))
                continue
            train_classifier(
                classifier,
                cached,
                self.schedule_of(run),
                setup.seed,
                sampling=run.method.sampling,
                device=setup.device,
                state_file=folder.path / f"classifier{stage}_epoch.pth",
                reporter=setup.reporter,
            )
        state = checkpoints.with_classifiers(state, classifiers)
        checkpoints.save(folder.checkpoint, state, classifiers[0], setup.categories)


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    seconds[name] = round(time.monotonic() - start, 1)
