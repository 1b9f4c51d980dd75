"""The graph of runs behind a table: a data set, a detector and a seed; every method runs what it needs first."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from mmengine import dist

from imbalance_bench import methods
from imbalance_bench.checkpoints import own as checkpoints
from imbalance_bench.classifiers import Classifier
from imbalance_bench.datasets import registry
from imbalance_bench.datasets.annotations import image_labels
from imbalance_bench.datasets.sampling import RepeatFactorSampler, class_balanced_factors, repeat_factors
from imbalance_bench.detectors.mmdet import catalogue
from imbalance_bench.detectors.mmdet.passes import box_heads
from imbalance_bench.experiments.run_folder import RunFolder
from imbalance_bench.experiments.setup import Setup
from imbalance_bench.methods import Method
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.files import naming, remove_partials, sha256, write_text
from imbalance_bench.runtime.processes import held_by_main, log_file, on_main, per_process
from imbalance_bench.runtime.progress import Reporter, logged_to
from imbalance_bench.schedule import Schedule
from imbalance_bench.training.end_to_end import (
    build_detector,
    check_tracker,
    load_features,
    load_pretrained,
    train_detector,
)
from imbalance_bench.training.on_cache import train_classifier


@dataclass
class Benchmark(Setup):
    """Runs of one data set, detector and seed.

    Attributes:
        work_dir: run folders stand in ``work_dir/<dataset>/<detector>/seed<seed>/<method>[-variant]``.
        schedule: end-to-end schedule, if not the detector's own.
        batch_size: images of one update, if not the schedule's own; the learning rate scales with it.
        pretrained: checkpoint of a detector (trained on COCO, say) that trainings from scratch start from instead;
            classifier and box regressor are new.
        track: tracker of end-to-end training curves (``training.detector.TRACKERS``).

    Example:
        >>> places = {"data_root": Path("data"), "work_dir": Path("work_dirs"), "reporter": Reporter()}
        >>> bench = Benchmark.named("emoji-lt-mini", "tiny", **places, draw=False)
        >>> bench.folder_of("bags").path.as_posix()  # bench.run("bags") trains it there, and before it what it needs
        'work_dirs/emoji-lt-mini/tiny/seed0/bags'
    """

    work_dir: Path
    schedule: Schedule | None = None
    batch_size: int | None = None
    pretrained: Path | None = None
    track: str | None = None

    @classmethod
    def named(
        cls,
        dataset: str,
        detector: str,
        data_root: Path,
        work_dir: Path,
        reporter: Reporter,
        draw: bool = True,
        **options: Any,
    ) -> Benchmark:
        """By names; the data set is drawn where it is not there yet, but for one who only looks (``draw``).

        Raises:
            InputError: an unknown name.
        """
        record = catalogue.get(detector)
        data = on_main(
            lambda: registry.prepare(dataset, data_root, reporter) if draw else registry.get(dataset, data_root)
        )
        return cls(data, record, work_dir, reporter=reporter, **options)

    def __post_init__(self) -> None:
        check_tracker(self.track)
        batch_size = self.batch_size or (self.schedule or self.detector.schedule).batch_size
        on_main(lambda: per_process(batch_size, dist.get_world_size()))
        if self.pretrained is not None and not self.pretrained.is_file():
            raise InputError(f"{self.pretrained}: no such file, expected the checkpoint of a detector")

    @property
    def root(self) -> Path:
        """Where this benchmark's run folders stand."""
        return self.work_dir / self.dataset.name / self.detector.name / f"seed{self.seed}"

    def folder(self, method: Method, variant: str | None = None) -> RunFolder:
        """The run folder of a method."""
        return RunFolder(self.root / method.folder(variant))

    def folder_of(self, run: str) -> RunFolder:
        """The run folder of ``method`` or ``method:variant``."""
        name, variant = methods.parse(run)
        return self.folder(methods.get(name), variant)

    @property
    def random_start(self) -> str | None:
        """What to expect of a start from random weights, and what to do; None where it is as it should be."""
        if self.pretrained is not None:
            return None
        trained = f"{self.detector.name} starts from random weights on {self.dataset.name}"
        if self.detector.scale == "paper":
            return (
                f"{trained}: expect far less AP than the paper's, whose detectors start from COCO's; --pretrained FILE "
                f"takes mmdet's checkpoint of {self.detector.config}"
            )
        if not self.dataset.photographs:
            return None
        paper = catalogue.of(self.detector.framework, "paper").name
        return (
            f"{trained}: it is made for the drawn emoji-lt, on photographs expect an AP near 0; better take "
            f"--detector {paper} --pretrained FILE, with a checkpoint of COCO"
        )

    def run(self, name: str, variant: str | None = None) -> RunFolder:
        """Train and evaluate a method, and before it what it starts from; finished runs are only checked.

        Raises:
            InputError: unknown names, a folder in use or made with other settings.
        """
        method = methods.get(name).at(variant)
        variant, _ = method.resolve(variant)
        folder = self.folder(method, variant)
        needed = {name: self.run(*methods.parse(name)) for name in method.needs}
        start = needed.get(method.starts_from)
        baseline = needed["baseline"] if method.trains in ("classifier", "nothing") else None
        settings = on_main(lambda: self._settings(method, variant, start))
        if on_main(lambda: folder.is_done and folder.begin(settings)):
            return folder
        with naming(folder.path), held_by_main(folder.lock):
            if on_main(lambda: folder.begin(settings)):  # finished by another process, between the two looks
                return folder
            on_main(lambda: remove_partials(folder.path))
            label = method.title if variant == method.default_variant else f"{method.title} ({variant})"
            self.reporter.say(f"{label} on {self.dataset.name}, {self.detector.name}, seed {self.seed}", style="bold")
            if self.batch_size is not None and method.trains != "nothing":
                own, scaled = method.schedule(self.schedule or self.detector.schedule), self.schedule_of(method)
                self.reporter.say(
                    f"  learning rate {scaled.lr:g} at {scaled.batch_size} images ({own.lr:g} at {own.batch_size})"
                )
            if method.starts_from == "scratch" and self.random_start:
                self.reporter.say(f"  {self.random_start}", style="yellow")
            seconds: dict[str, float] = {}
            with _timed(seconds, "train"):
                classifiers = self._train(method, variant, folder, start)
            with _timed(seconds, "evaluate"):
                self.cache(baseline or folder, "val", classifiers)
                metrics = on_main(lambda: self._measure(classifiers, folder, baseline or folder))
            on_main(lambda: folder.finish(settings, metrics, seconds))
        return folder

    def oracles_of(self, name: str, variant: str | None = None) -> pd.DataFrame:
        """AP of a method's run where a part of the classifier's work is done for it (``evaluation.oracles``)."""
        run, method = self.run(name, variant), methods.get(name).at(variant)
        detector_run = self.run("baseline") if method.trains in ("classifier", "nothing") else run
        content = checkpoints.load(run.verified(run.checkpoint))
        classifiers = list(checkpoints.classifiers_of(content, run.checkpoint).values())
        self.cache(detector_run, "val", classifiers)
        return self.oracles(classifiers, run, detector_run)

    def _measure(self, classifiers: list[Classifier], folder: RunFolder, baseline: RunFolder) -> dict[str, Any]:
        """Evaluate a run into its folder; the metrics."""
        table, metrics, detections = self.evaluate(classifiers, folder, baseline)
        detections.save(folder.detections)
        write_text(folder.per_category, table.to_csv())
        return metrics

    def _settings(self, method: Method, variant: str, start: RunFolder | None) -> dict[str, Any]:
        return {
            "dataset": self.dataset.name,
            "annotations_sha256": [sha256(self.dataset.train_annotations), sha256(self.dataset.val_annotations)],
            "bin_edges": list(self.categories.bin_edges),
            "detector": self.detector.name,
            "method": method.name,
            "variant": variant,
            "options": method.options(variant),
            "seed": self.seed,
            "schedule": None if method.trains == "nothing" else self.schedule_of(method).as_dict(),
            "views": self.views if method.trains in ("classifier", "nothing") else None,
            "start_sha256": start and sha256(start.verified(start.checkpoint)),
            "pretrained_sha256": self.pretrained and sha256(self.pretrained),
        }

    def schedule_of(self, method: Method) -> Schedule:
        """The given schedule as it is, or the detector's, stretched where the data set is very small."""
        schedule = method.schedule(self.schedule or self.detector.schedule)
        if self.batch_size is not None:
            schedule = schedule.at_batch_size(self.batch_size)
        return schedule if self.schedule else schedule.stretched(self.dataset.epoch_factor)

    def _train(self, method: Method, variant: str, folder: RunFolder, start: RunFolder | None) -> list[Classifier]:
        """The trained classifiers, one a stage; the run's checkpoint is on disk afterwards."""
        options = method.arguments(variant)
        conduct = {name: value for name, value in method.options(variant).items() if name in method.conduct}
        content = checkpoints.load(start.checkpoint) if start else None
        bases: list[Any] = [None] * self.detector.num_stages
        if start is not None and content is not None:
            found = checkpoints.classifiers_of(content, start.checkpoint)
            bases = [methods.softmax_start(classifier) for classifier in found.values()]
        torch.manual_seed(self.seed)
        options |= method.measured(self.dataset.train_annotations, self.categories)
        classifiers = [method.build(self.categories, self.detector.tap_dims, base, **options) for base in bases]
        if method.trains not in ("classifier", "nothing"):
            return self._train_end_to_end(method, classifiers, folder, content, conduct)
        assert content is not None
        baseline = self.folder_of("baseline")  # whose proposals all have that do not train the detector
        self.cache(baseline, "train", classifiers)
        on_main(lambda: self._train_on_cache(method, classifiers, folder, baseline, content, conduct))
        return classifiers

    def _train_on_cache(
        self,
        method: Method,
        classifiers: list[Classifier],
        folder: RunFolder,
        baseline: RunFolder,
        content: dict[str, Any],
        conduct: dict[str, Any],
    ) -> None:
        train = self.cached_features(baseline, "train", classifiers)
        for stage, (classifier, cached) in enumerate(zip(classifiers, train, strict=True)):
            if method.trains == "nothing":
                classifier.fit(cached.chunks(ground_truth_only=conduct.get("centres") == "ground-truth"))
                continue
            train_classifier(
                classifier,
                cached,
                self.schedule_of(method),
                self.seed,
                sampling=method.sampling,
                device=self.device,
                state_file=folder.path / f"classifier{stage}_epoch.pth",
                reporter=self.reporter,
            )
        state = checkpoints.with_classifiers(content["state_dict"], classifiers)
        checkpoints.save(folder.checkpoint, state, classifiers[0], self.categories)

    @cached_property
    def _checked_data(self) -> None:
        """Once, before a detector is trained: annotations and images are as they must be."""
        self.dataset.check(self.detector.has_masks, self.reporter)

    def _train_end_to_end(
        self,
        method: Method,
        classifiers: list[Classifier],
        folder: RunFolder,
        start: dict[str, Any] | None,
        conduct: dict[str, Any],
    ) -> list[Classifier]:
        on_main(lambda: self._checked_data)
        keep = self.categories.tail_labels if method.sampling == "tail-only" else None
        with logged_to(log_file(folder.path / "console.log")):
            dataset = self.training_set(keep_labels=keep)
            model = build_detector(
                self.detector, classifiers, self.seed, stuff=self.has_stuff, pretrained=self.pretrained is not None
            )
        if start is not None:
            load_features(model, start["state_dict"])
        elif self.pretrained is not None:
            self.reporter.say(load_pretrained(model, self.pretrained))
        sampler, num_classes = None, self.categories.num_classes
        if method.sampling == "repeat-factor":
            ceil = conduct["repeat"] == "ceil"
            factors = repeat_factors(image_labels(dataset), num_classes, conduct["threshold"], ceil)
            sampler = RepeatFactorSampler(factors, self.seed)
        elif method.sampling == "class-balanced":
            sampler = RepeatFactorSampler(class_balanced_factors(image_labels(dataset), num_classes), self.seed)
        train_detector(
            self.detector,
            model,
            dataset,
            self.schedule_of(method),
            folder.path,
            self.seed,
            sampler=sampler,
            scope=method.trains,
            track=self.track,
            reporter=self.reporter,
            categories=self.categories,
        )
        trained = [head.fc_cls for head in box_heads(model)]
        on_main(lambda: checkpoints.save(folder.checkpoint, model.state_dict(), trained[0], self.categories))
        return trained


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    seconds[name] = round(time.monotonic() - start, 1)
