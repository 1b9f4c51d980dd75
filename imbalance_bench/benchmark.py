"""The graph of runs behind a table: a data set, a detector and a seed; every method runs what it needs first."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from mmdet.models.detectors import TwoStageDetector
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from torch.utils.data import DataLoader

from imbalance_bench import checkpoints, methods, proposals
from imbalance_bench.categories import CategoryTable
from imbalance_bench.classifiers import Classifier, LinearClassifier
from imbalance_bench.datasets import registry
from imbalance_bench.datasets.annotations import AnnotationDataset, build_dataset, image_labels
from imbalance_bench.datasets.registry import DataSet
from imbalance_bench.datasets.sampling import RepeatFactorSampler, repeat_factors
from imbalance_bench.detectors import catalogue
from imbalance_bench.detectors.catalogue import Detector
from imbalance_bench.detectors.inference import check_cacheable, test_proposals, training_proposals
from imbalance_bench.errors import InputError
from imbalance_bench.evaluation.classifier import evaluate_classifier
from imbalance_bench.evaluation.detection import Detections
from imbalance_bench.files import sha256, write_text
from imbalance_bench.methods import Method
from imbalance_bench.progress import Advance, Reporter, logged_to
from imbalance_bench.proposals import ProposalSet
from imbalance_bench.runs import RunFolder
from imbalance_bench.schedule import Schedule
from imbalance_bench.training.classifier import train_classifier
from imbalance_bench.training.detector import build_detector, check_tracker, load_features, train_detector


@dataclass
class Benchmark:
    """Runs of one data set, detector and seed.

    Attributes:
        dataset: where annotations and images are.
        detector: its record.
        work_dir: run folders stand in ``work_dir/<dataset>/<detector>/seed<seed>/<method>[-variant]``.
        seed: of everything random.
        views: cached views of each training image; odd ones are flipped.
        schedule: end-to-end schedule, if not the detector's own.
        track: tracker of end-to-end training curves (``training.detector.TRACKERS``).
        reporter: shows progress.
    """

    dataset: DataSet
    detector: Detector
    work_dir: Path
    seed: int = 0
    views: int = 2
    schedule: Schedule | None = None
    track: str | None = None
    reporter: Reporter = field(default_factory=Reporter)

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

    @cached_property
    def categories(self) -> CategoryTable:
        """Of the training annotations."""
        return self.dataset.categories()

    @cached_property
    def device(self) -> str:
        """Where detectors and classifiers run."""
        return get_device()

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
            label = method.title if variant == method.default_variant else f"{method.title} ({variant})"
            self.reporter.say(f"[bold]{label}[/bold] on {self.dataset.name}, {self.detector.name}, seed {self.seed}")
            seconds: dict[str, float] = {}
            with _timed(seconds, "train"):
                classifier = self._train(method, variant, folder, start)
            with _timed(seconds, "evaluate"):
                metrics = self._evaluate(classifier, folder, baseline or folder)
            folder.finish(settings, metrics, seconds)
        return folder

    def proposals(self, detector_run: RunFolder, split: str, tap: str) -> ProposalSet:
        """A part of the proposal cache of a run's detector, made when first asked for.

        Args:
            detector_run: whose checkpoint.
            split: ``train`` or ``val``.
            tap: ``fc_pre_relu`` or ``conv`` (``fc`` is the ReLU of ``fc_pre_relu``).
        """
        folder = detector_run.path / "proposals" / f"{split}-{tap}"
        with detector_run.lock("proposals", wait=True):
            return self._cached(detector_run, folder, split, tap)

    def _cached(self, detector_run: RunFolder, folder: Path, split: str, tap: str) -> ProposalSet:
        digest = sha256(detector_run.checkpoint)
        if folder.exists():
            cached = proposals.read(folder)
            if cached.manifest["made_by"].get("checkpoint_sha256") == digest:
                return cached
            proposals.remove(folder)
        made_by = {
            "dataset": self.dataset.name,
            "detector": self.detector.name,
            "checkpoint_sha256": digest,
            "split": split,
            "tap": tap,
            "views": self.views if split == "train" else 1,
            "seed": self.seed,
        }
        model = self.load_detector(detector_run.checkpoint).to(self.device)
        check_cacheable(model)
        with logged_to(detector_run.path / "console.log"):
            if split == "train":
                # Views one after the other: even ones as they are, odd ones flipped.
                passes = [
                    training_proposals(
                        model, self.loader(self.training_set(flip=float(view % 2))), tap, self.seed + view
                    )
                    for view in range(self.views)
                ]
                total = self.views * len(self.training_set())
            else:
                passes = [test_proposals(model, self.loader(self.validation_set()), tap)]
                total = len(self.validation_set())
            with self.reporter.task(f"caching {split} proposals ({tap})", total) as advance:
                images = _counted(itertools.chain.from_iterable(passes), advance)
                # Scores are computed from the validation part, so single precision there.
                proposals.write(folder, images, made_by, "float16" if split == "train" else "float32")
        return proposals.read(folder)

    def measure(self, checkpoint: Path) -> tuple[pd.DataFrame, dict[str, Any], Detections]:
        """Everything that is measured of a run, of any checkpoint that fits this detector and data set.

        Raises:
            InputError: not such a checkpoint.
        """
        model = self.load_detector(checkpoint).to(self.device)
        check_cacheable(model)
        classifier = model.roi_head.bbox_head.fc_cls
        with tempfile.TemporaryDirectory() as temporary:
            parts = []
            for tap in classifier.taps:
                stored = "fc_pre_relu" if tap == "fc" else tap
                folder = Path(temporary) / tap
                with self.reporter.task(
                    f"proposals of {checkpoint.name} ({tap})", len(self.validation_set())
                ) as advance:
                    images = _counted(test_proposals(model, self.loader(self.validation_set()), stored), advance)
                    proposals.write(folder, images, {"checkpoint": str(checkpoint)}, "float32")
                parts.append(proposals.read(folder))
            val = proposals.join(parts, relu=[tap == "fc" for tap in classifier.taps])
            return evaluate_classifier(
                classifier, val, self.dataset, self.categories, device=self.device, reporter=self.reporter
            )

    def load_detector(self, path: Path) -> TwoStageDetector:
        """The detector of a checkpoint, in evaluation mode.

        Raises:
            InputError: not a checkpoint of this detector on this data set.
        """
        checkpoint = checkpoints.load(path)
        classifiers = checkpoints.classifiers_of(checkpoint, path)
        classifier = next(iter(classifiers.values()))
        if len(classifiers) > 1 or classifier.num_classes != self.categories.num_classes:
            raise InputError(
                f"{path}: field 'state_dict' has {len(classifiers)} classifier(s) of {classifier.num_classes} classes, "
                f"expected one of {self.categories.num_classes} ({self.detector.name} on {self.dataset.name})"
            )
        with logged_to(None):
            model = build_detector(self.detector, classifier)
            try:
                load_features(model, checkpoint["state_dict"])
            except RuntimeError as error:
                reason = " ".join(str(error).split())[:160]
                raise InputError(
                    f"{path}: field 'state_dict' is not of detector {self.detector.name}: {reason}"
                ) from error
        return model.eval()

    def training_set(self, flip: float = 0.5, keep_labels: list[int] | None = None) -> AnnotationDataset:
        """Training images through the detector's pipeline."""
        return build_dataset(
            self.dataset.train_annotations,
            self.dataset.train_images,
            self.categories.ids,
            self.detector.train_pipeline(flip),
            training=True,
            keep_labels=keep_labels,
        )

    def validation_set(self) -> AnnotationDataset:
        """Validation images through the detector's test pipeline."""
        return build_dataset(
            self.dataset.val_annotations,
            self.dataset.val_images,
            self.categories.ids,
            self.detector.test_pipeline,
            training=False,
        )

    def loader(self, dataset: AnnotationDataset) -> DataLoader:
        """In order, for inference."""
        return DataLoader(
            dataset,
            batch_size=self.detector.schedule.batch_size,
            num_workers=self.detector.num_workers,
            collate_fn=pseudo_collate,
        )

    def cached_features(self, run: RunFolder, split: str, classifier: Classifier) -> ProposalSet:
        """What a classifier reads, from the cached proposals of a detector."""
        parts = [self.proposals(run, split, "fc_pre_relu" if tap == "fc" else tap) for tap in classifier.taps]
        return proposals.join(parts, relu=[tap == "fc" for tap in classifier.taps])

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


def _counted(images: Iterable[Any], advance: Advance) -> Iterator[Any]:
    for image in images:
        yield image
        advance()


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    seconds[name] = round(time.monotonic() - start, 1)
