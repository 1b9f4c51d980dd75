"""One detector on one data set: its images, its trained models and their proposals."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from mmdet.models.detectors import TwoStageDetector
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from torch.utils.data import DataLoader

from imbalance_bench import checkpoints, proposals
from imbalance_bench.categories import CategoryTable
from imbalance_bench.classifiers import Classifier
from imbalance_bench.datasets.annotations import AnnotationDataset, build_dataset
from imbalance_bench.datasets.registry import DataSet
from imbalance_bench.detectors.catalogue import Detector
from imbalance_bench.detectors.inference import check_cacheable, test_proposals, training_proposals
from imbalance_bench.errors import InputError
from imbalance_bench.evaluation.classifier import evaluate_classifier
from imbalance_bench.evaluation.detection import Detections
from imbalance_bench.files import sha256
from imbalance_bench.progress import Advance, Reporter, logged_to
from imbalance_bench.proposals import ProposalSet
from imbalance_bench.runs import RunFolder
from imbalance_bench.training.detector import build_detector, load_features


@dataclass
class Setup:
    """A detector and a data set, and what follows from the two.

    Attributes:
        dataset: where annotations and images are.
        detector: its record.
        seed: of everything random.
        views: cached views of each training image; odd ones are flipped.
        reporter: shows progress.
    """

    dataset: DataSet
    detector: Detector
    seed: int = field(default=0, kw_only=True)
    views: int = field(default=2, kw_only=True)
    reporter: Reporter = field(default_factory=Reporter, kw_only=True)

    @cached_property
    def categories(self) -> CategoryTable:
        """Of the training annotations."""
        return self.dataset.categories()

    @cached_property
    def device(self) -> str:
        """Where detectors and classifiers run."""
        return get_device()

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


def _counted(images: Iterable[Any], advance: Advance) -> Iterator[Any]:
    for image in images:
        yield image
        advance()
