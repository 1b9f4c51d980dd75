"""A detector on a data set: images through its pipeline, categories, ground truth, and loaded models."""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from imbalance_bench.categories import CategoryTable
from imbalance_bench.checkpoints import own as checkpoints
from imbalance_bench.checkpoints.label_order import check_labels
from imbalance_bench.datasets import registry
from imbalance_bench.datasets.registry import DataSet
from imbalance_bench.detectors.mmdet import catalogue
from imbalance_bench.detectors.port import HostsClassifier, ProposalSource
from imbalance_bench.evaluation.ground_truth import GroundTruth, IouType
from imbalance_bench.runtime.devices import resolve_device
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.processes import on_main
from imbalance_bench.runtime.progress import Reporter


@dataclass
class Setup:
    """A detector and a data set, and what follows from the two.

    Attributes:
        dataset: where annotations and images are.
        detector: of any framework, behind the port.
        seed: of everything random.
        reporter: shows progress.
    """

    dataset: DataSet
    detector: HostsClassifier
    seed: int = field(default=0, kw_only=True)
    reporter: Reporter = field(default_factory=Reporter, kw_only=True)

    @classmethod
    def named(
        cls, dataset: str, detector: str, data_root: Path, *, draw: bool = True, seed: int = 0,
        reporter: Reporter | None = None,
    ) -> Setup:  # fmt: skip
        """Look both up by name; the data set is drawn where it is not there yet, unless ``draw`` is False.

        Raises:
            InputError: an unknown name.
        """
        record, reporter = catalogue.get(detector), reporter or Reporter()
        data = on_main(
            lambda: registry.prepare(dataset, data_root, reporter) if draw else registry.get(dataset, data_root)
        )
        return cls(data, record, seed=seed, reporter=reporter)

    def draw(self) -> None:
        """Draw an embedded data set that is not on disk."""
        registry.draw_missing(self.dataset, self.reporter)

    @cached_property
    def categories(self) -> CategoryTable:
        """Of the training annotations."""
        return self.dataset.categories()

    @cached_property
    def ground_truth(self) -> GroundTruth:
        """Boxes of the validation annotations."""
        return self._ground_truth("bbox")

    @cached_property
    def mask_ground_truth(self) -> GroundTruth:
        """Masks of the validation annotations."""
        return self._ground_truth("segm")

    def _ground_truth(self, iou_type: IouType) -> GroundTruth:
        dataset = self.dataset
        return GroundTruth.read(
            dataset.val_annotations, self.categories, lvis_style=dataset.lvis_style, iou_type=iou_type
        )

    @cached_property
    def device(self) -> str:
        """Where detectors and classifiers run."""
        return resolve_device("auto")

    @property
    def has_stuff(self) -> bool:
        """Whether detectors with a semantic branch train it here."""
        return self.dataset.stuff_maps is not None and self.detector.takes_stuff

    @cached_property
    def checked_data(self) -> DataSet:
        """The data set, after its annotations and images were checked.

        Raises:
            InputError: what is wrong with them.
        """
        self.dataset.check(self.detector.has_masks, self.reporter)
        return self.dataset

    def load_detector(self, path: Path) -> ProposalSource:
        """Load the detector of a checkpoint, in evaluation mode.

        Raises:
            InputError: not a checkpoint of this detector on this data set.
        """
        checkpoint = checkpoints.load(path)
        classifiers = list(checkpoints.classifiers_of(checkpoint, path).values())
        expected = self.detector.num_stages
        if len(classifiers) != expected or classifiers[0].num_classes != self.categories.num_classes:
            raise InputError(
                f"{path}: field 'state_dict' has {len(classifiers)} classifier(s) of {classifiers[0].num_classes} "
                f"classes, expected {expected} of {self.categories.num_classes} ({self.detector.name} on "
                f"{self.dataset.name})"
            )
        check_labels(self.categories, checkpoint["meta"], path)
        try:
            return self.detector.host(classifiers, checkpoint["state_dict"], stuff=self.has_stuff)
        except InputError as error:
            reason = " ".join(str(error).split())[:160]
            raise InputError(f"{path}: field 'state_dict' is not of detector {self.detector.name}: {reason}") from error

    def training_set(self, flip: float = 0.5, keep_labels: list[int] | None = None) -> Sized:
        """Open the training images as the detector reads them."""
        return self.detector.images(
            self.dataset,
            self.categories.ids,
            training=True,
            flip=flip,
            keep_labels=keep_labels,
            stuff=self.has_stuff,
        )

    def validation_set(self) -> Sized:
        """Open the validation images as the detector reads them."""
        return self.detector.images(self.dataset, self.categories.ids, training=False)
