"""What a user's mmdet detector with one head (``bbox_head``), dense or of queries, answers behind the port."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from torch import Tensor, nn

from imbalance_bench.checkpoints import own as checkpoints
from imbalance_bench.classifiers import Classifier, SigmoidClassifier
from imbalance_bench.datasets.images import Reader
from imbalance_bench.datasets.registry import DataSet
from imbalance_bench.detectors.mmdet import config_file, hosted, pipelines, single_head_export
from imbalance_bench.detectors.mmdet.annotation_dataset import AnnotationDataset, build_dataset
from imbalance_bench.detectors.named_state import load_named
from imbalance_bench.detectors.one_classifier import OneClassifier
from imbalance_bench.detectors.port import Export, ProposalSource
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.files import sha256
from imbalance_bench.schedule import Schedule


@dataclass(frozen=True)
class SingleHead(OneClassifier, ABC):
    """A user's detector, of which only the classifier is exchanged (``port.UserDetector``).

    Attributes:
        path: of its configuration.
        config: the configuration.
        transforms: of an image at test time, such as loading and resizing, without loading boxes and packing.
        model: as it is configured, in evaluation mode; its weights are not used.
    """

    path: Path
    config: Config
    transforms: tuple[dict[str, Any], ...]
    model: nn.Module

    @property
    def head(self) -> Any:
        """mmdet's own head."""
        return self.model.bbox_head

    @property
    def layers(self) -> dict[str, Any]:
        """The layers that the classifier is made of, by name."""
        return {name: self.model.get_submodule(name) for name in hosted.layer_names(self.model)}

    @property
    def _own_rows(self) -> dict[str, Tensor]:
        """Weight and bias of these layers, by their names in a checkpoint."""
        return {f"{name}.{part}": getattr(layer, part) for name, layer in self.layers.items()
                for part in ("weight", "bias")}  # fmt: skip

    @property
    def source(self) -> str:
        """Path of the configuration."""
        return str(self.path)

    @property
    def name(self) -> str:
        """Name of the configuration."""
        return self.path.stem

    @property
    def identity(self) -> str:
        """Checksum of the configuration file."""
        return sha256(self.path)

    @property
    def num_classes(self) -> int:
        """C."""
        return int(self.head.num_classes)

    @property
    def schedule(self) -> Schedule:
        """With the learning rate of the configuration."""
        return config_file.schedule_of(self.config)

    @property
    def first_label(self) -> int | None:
        """None: mmdet numbers categories in the order of the file."""
        return None

    @property
    def reader(self) -> Reader:
        """How the configured pipeline decodes images."""
        return config_file.reader_of(self.transforms)

    def images(
        self,
        dataset: DataSet,
        category_ids: Sequence[int] | np.ndarray,
        *,
        training: bool,
        flip: float = 0.0,
        keep_labels: Sequence[int] | None = None,
        stuff: bool = False,
    ) -> AnnotationDataset:
        """Open the images of a split through the configured test transforms.

        Boxes are in the network's image for training, and in the original one else. Images are flipped before a
        transform may pad them at one side.
        """
        loading, *rest = self.transforms
        boxes = {"type": "LoadAnnotations", "with_bbox": True}
        if not training:
            pipeline = [loading, *rest, boxes, pipelines.PACK]
            return build_dataset(dataset.val_annotations, dataset.val_images, category_ids, pipeline, training=False)
        return build_dataset(
            dataset.train_annotations,
            dataset.train_images,
            category_ids,
            [loading, boxes, {"type": "RandomFlip", "prob": flip}, *rest, pipelines.PACK],
            training=True,
            keep_labels=keep_labels,
        )

    def stock_classifier(self, num_classes: int, feature_dim: int) -> SigmoidClassifier:
        """Return untrained sigmoids without background."""
        return SigmoidClassifier(num_classes, feature_dim)

    def refusal(self, classifier: Classifier) -> str | None:
        """Return why a classifier cannot take the place of its layers (``hosted.refusal``)."""
        return hosted.refusal(classifier, self.model)

    @property
    @abstractmethod
    def tap_dims(self) -> Mapping[str, int]:
        """Of ``port.HostsClassifier``."""

    @property
    @abstractmethod
    def test_settings(self) -> dict[str, Any]:
        """What ``test_cfg`` has to say for a detector to detect as it is measured: all scores, 300 detections."""

    @abstractmethod
    def chooses_by(self, names: list[str]) -> bool:
        """Return whether an encoder chooses queries by one of these layers, which are the classifier's in an export."""

    @abstractmethod
    def source_of(self, model: nn.Module) -> ProposalSource:
        """Return a model with a hosted classifier as a source of proposals."""

    def check_weights(self, path: Path) -> Mapping[Any, Any]:
        """Check that a checkpoint has the classifier; return its ``meta``.

        Raises:
            InputError: it has none, or one of another shape than configured.
        """
        content = self._read(path)
        for name, expected in self._own_rows.items():
            found = content["state_dict"].get(name)
            if found is None:
                raise InputError(f"{path}: field 'state_dict' has no '{name}', expected that of {self.path}")
            if found.shape != expected.shape:
                raise InputError(
                    f"{path}: its classifier has shape {tuple(found.shape)}, expected {tuple(expected.shape)}: "
                    f"field 'num_classes' of {self.path} is {self.num_classes}"
                )
        meta: Mapping[Any, Any] = content["meta"]
        return meta

    def adopt(self, path: Path) -> ProposalSource:
        """Load the user's checkpoint; nothing in it is executed."""
        self.check_weights(path)
        state: dict[str, Tensor] = self._read(path)["state_dict"]
        state = {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
        rows = {name: state.pop(name) for name in self._own_rows}
        if not all(value.isfinite().all() for value in rows.values()):
            raise InputError(f"{path}: the classifier holds values that are NaN or infinite, expected numbers")
        classifier = self.stock_classifier(self.num_classes, self.tap_dims["fc"])
        weights, biases = ([rows[f"{name}.{part}"] for name in self.layers] for part in ("weight", "bias"))
        classifier.load_state_dict(hosted.joined(weights, biases, self.num_classes))
        try:
            return self.host([classifier], state)
        except InputError as error:
            reason = f"{path}: field 'state_dict' is not of the model of {self.path}: {str(error)[:300]}"
            raise InputError(reason) from error

    def host(
        self, classifiers: Sequence[Classifier], state: Mapping[str, Tensor], *, stuff: bool = False
    ) -> ProposalSource:
        """Load a copy of the model with the given classifier."""
        (classifier,) = classifiers
        model = copy.deepcopy(self.model)
        hosted.host(model, copy.deepcopy(classifier))
        others = {name: value for name, value in state.items() if not checkpoints.is_classifier(name)}
        own = {name: value for name, value in model.state_dict().items() if checkpoints.is_classifier(name)}
        load_named(model, others | own)
        return self.source_of(model)

    def export(self, checkpoint: Path, class_names: Sequence[str], folder: Path) -> Export:
        """Write configuration and checkpoint (``single_head_export.export``)."""
        return single_head_export.export(self, checkpoint, class_names, folder)

    def _read(self, path: Path) -> dict[str, Any]:
        names = tuple(f"{name}." for name in self.layers)
        return checkpoints.load(path, lambda name: name.startswith(names))
