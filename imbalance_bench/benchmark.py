"""The graph of runs behind a table: a data set, a detector and a seed; every method runs what it needs first."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from imbalance_bench import checkpoints, methods
from imbalance_bench.classifiers import Classifier, LinearClassifier
from imbalance_bench.datasets import registry
from imbalance_bench.datasets.annotations import image_labels
from imbalance_bench.datasets.sampling import RepeatFactorSampler, repeat_factors
from imbalance_bench.detectors import catalogue
from imbalance_bench.evaluation.classifier import evaluate_classifier
from imbalance_bench.files import sha256, write_text
from imbalance_bench.methods import Method
from imbalance_bench.progress import Reporter, logged_to
from imbalance_bench.runs import RunFolder
from imbalance_bench.schedule import Schedule
from imbalance_bench.setup import Setup
from imbalance_bench.training.classifier import train_classifier
from imbalance_bench.training.detector import build_detector, check_tracker, load_features, train_detector


@dataclass
class Benchmark(Setup):
    """Runs of one data set, detector and seed.

    Attributes:
        work_dir: run folders stand in ``work_dir/<dataset>/<detector>/seed<seed>/<method>[-variant]``.
        schedule: end-to-end schedule, if not the detector's own.
        track: tracker of end-to-end training curves (``training.detector.TRACKERS``).
    """

    work_dir: Path
    schedule: Schedule | None = None
    track: str | None = None

    @classmethod
    def named(
        cls, dataset: str, detector: str, data_root: Path, work_dir: Path, reporter: Reporter, **options: Any
    ) -> Benchmark:
        """By names; the data set is prepared where it is not there yet.

        Raises:
            InputError: an unknown name.
        """
        record = catalogue.get(detector)
        return cls(registry.prepare(dataset, data_root, reporter), record, work_dir, reporter=reporter, **options)

    def __post_init__(self) -> None:
        check_tracker(self.track)

    @property
    def root(self) -> Path:
        """Where this benchmark's run folders stand."""
        return self.work_dir / self.dataset.name / self.detector.name / f"seed{self.seed}"

    def folder(self, method: Method, variant: str | None = None) -> RunFolder:
        """The run folder of a method."""
        return RunFolder(self.root / method.folder(variant))

    def run(self, name: str, variant: str | None = None) -> RunFolder:
        """Train and evaluate a method, and before it what it starts from; finished runs are only checked.

        Raises:
            InputError: unknown names, a folder in use or made with other settings.
        """
        method = methods.get(name)
        variant, _ = method.resolve(variant)
        folder = self.folder(method, variant)
        start = None if method.starts_from == "scratch" else self.run(*methods.parse(method.starts_from))
        # Everything that is not trained on its own images has the baseline's proposals.
        baseline = self.run("baseline") if method.trains in ("classifier", "nothing") else None
        settings = self._settings(method, variant, start)
        if folder.is_done:
            folder.begin(settings)
            return folder
        with folder.lock():
            folder.begin(settings)
            if folder.is_done:  # by another process, between the two looks
                return folder
            label = method.title if variant == method.default_variant else f"{method.title} ({variant})"
            self.reporter.say(f"[bold]{label}[/bold] on {self.dataset.name}, {self.detector.name}, seed {self.seed}")
            seconds: dict[str, float] = {}
            with _timed(seconds, "train"):
                classifier = self._train(method, variant, folder, start)
            with _timed(seconds, "evaluate"):
                metrics = self._evaluate(classifier, folder, baseline or folder)
            folder.finish(settings, metrics, seconds)
        return folder

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
            "start_sha256": start and sha256(start.checkpoint),
        }

    def schedule_of(self, method: Method) -> Schedule:
        """The given schedule as it is, or the detector's, stretched where the data set is very small."""
        if self.schedule is not None:
            return method.schedule(self.schedule)
        return method.schedule(self.detector.schedule).stretched(self.dataset.epoch_factor)

    def _train(self, method: Method, variant: str, folder: RunFolder, start: RunFolder | None) -> Classifier:
        """The trained classifier; the run's checkpoint is on disk afterwards."""
        options = method.options(variant)
        protocol = {name: options.pop(name) for name in method.protocol}
        content = checkpoints.load(start.checkpoint) if start else None
        base = start and content and next(iter(checkpoints.classifiers_of(content, start.checkpoint).values()))
        assert base is None or isinstance(base, LinearClassifier)
        torch.manual_seed(self.seed)
        classifier = method.build(self.categories, self.detector.tap_dims, base, **options)
        if method.trains not in ("classifier", "nothing"):
            return self._train_end_to_end(method, classifier, folder, content, protocol)
        assert start is not None and content is not None
        train = self.cached_features(start, "train", classifier)
        if method.trains == "classifier":
            train_classifier(
                classifier,
                train,
                self.schedule_of(method),
                self.seed,
                device=self.device,
                state_file=folder.path / "classifier_epoch.pth",
                reporter=self.reporter,
            )
        else:
            classifier.fit(train.chunks(ground_truth_only=protocol.get("centres") == "ground-truth"))
        state = {name: value for name, value in content["state_dict"].items() if ".fc_cls." not in name}
        state |= {f"roi_head.bbox_head.fc_cls.{name}": value for name, value in classifier.state_dict().items()}
        checkpoints.save(folder.checkpoint, state, classifier, self.categories)
        return classifier

    def _train_end_to_end(
        self,
        method: Method,
        classifier: Classifier,
        folder: RunFolder,
        start: dict[str, Any] | None,
        protocol: dict[str, Any],
    ) -> Classifier:
        keep = methods.tail_labels(self.categories) if method.sampling == "tail-only" else None
        with logged_to(folder.path / "console.log"):
            dataset = self.training_set(keep_labels=keep)
            model = build_detector(self.detector, classifier, self.seed)
        if start is not None:
            load_features(model, start["state_dict"])
        sampler = None
        if method.sampling == "repeat-factor":
            labels, ceil = image_labels(dataset), protocol["repeat"] == "ceil"
            factors = repeat_factors(labels, self.categories.num_classes, protocol["threshold"], ceil)
            sampler = RepeatFactorSampler(factors, self.seed)
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
        )
        trained = model.roi_head.bbox_head.fc_cls
        checkpoints.save(folder.checkpoint, model.state_dict(), trained, self.categories)
        return trained

    def _evaluate(self, classifier: Classifier, folder: RunFolder, detector_run: RunFolder) -> dict[str, Any]:
        """The run's metrics; detections and per-category table are on disk afterwards."""
        val = self.cached_features(detector_run, "val", classifier)
        table, metrics, detections = evaluate_classifier(
            classifier, val, self.dataset, self.categories, device=self.device, reporter=self.reporter
        )
        detections.save(folder.detections)
        write_text(folder.per_category, table.to_csv())
        return metrics


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    seconds[name] = round(time.monotonic() - start, 1)
