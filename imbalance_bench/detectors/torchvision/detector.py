"""What every detector of torchvision's answers alike behind the port."""

from __future__ import annotations

import copy
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from imbalance_bench.checkpoints import own as checkpoints
from imbalance_bench.classifiers import Classifier, LinearClassifier
from imbalance_bench.detectors.one_classifier import PillowDetector
from imbalance_bench.detectors.port import ProposalSource
from imbalance_bench.detectors.torchvision import models
from imbalance_bench.runtime.errors import InputError


@dataclass(frozen=True)
class TorchvisionDetector(PillowDetector, ABC):
    """A user's detector, of which only the classifier is exchanged.

    Attributes:
        source: what the user named: a builder of torchvision's, or ``module:function``.
        model: as that builds it, in evaluation mode; its weights are not used.
        layer: start of the names of its classifier's tensors.
        kind: what has such a layer, for messages.
    """

    source: str
    model: nn.Module
    layer: ClassVar[str]
    kind: ClassVar[str]

    @property
    def where(self) -> str:
        """The option that names the model, for messages."""
        return f"option '--model {self.source}'"

    @property
    def name(self) -> str:
        """Name of the builder or of the user's function."""
        return re.sub(r"\W+", "-", self.source.rpartition(":")[2])

    @property
    def images_at_once(self) -> int:
        """Images of the transform's size in one pass."""
        transform: Any = self.model.transform
        return self.at_once(int(transform.min_size[-1] * transform.max_size))

    @property
    def identity(self) -> str:
        """Checksum of structure and settings."""
        return models.identity(self.model)

    @property
    @abstractmethod
    def num_classes(self) -> int:
        """C of its classifier."""

    @property
    @abstractmethod
    def tap_dims(self) -> dict[str, int]:
        """Width of each tap."""

    @abstractmethod
    def stock_classifier(self, num_classes: int, feature_dim: int) -> LinearClassifier:
        """Return an untrained classifier that scores as the model's own."""

    @abstractmethod
    def rows_of(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Return the model's weight and bias as ``stock_classifier`` orders them."""

    @abstractmethod
    def source_of(self, model: nn.Module, classifier: Classifier) -> ProposalSource:
        """Put a classifier into the model, and return it as a source."""

    def check_weights(self, path: Path) -> Mapping[Any, Any]:
        """Check that a checkpoint has the model's classifier; return its ``meta``."""
        state, meta = models.read_state(path)
        weight, own = state.get(f"{self.layer}weight"), self.model.get_parameter(f"{self.layer}weight")
        if weight is None:
            raise InputError(f"{path}: has no '{self.layer}weight', expected {self.kind} of torchvision")
        if weight.shape != own.shape:
            raise InputError(
                f"{path}: its classifier has shape {tuple(weight.shape)}, expected {tuple(own.shape)} of the model "
                f"{self.source}"
            )
        return meta

    def adopt(self, path: Path) -> ProposalSource:
        """Load the user's checkpoint, its own classifier hosted."""
        self.check_weights(path)
        state, _ = models.read_state(path)
        weight, bias = state.pop(f"{self.layer}weight"), state.pop(f"{self.layer}bias")
        if not (weight.isfinite().all() and bias.isfinite().all()):
            raise InputError(f"{path}: the classifier holds values that are NaN or infinite, expected numbers")
        classifier = self.stock_classifier(self.num_classes, self.tap_dims["fc"])
        classifier.load_state_dict(dict(zip(("weight", "bias"), self.rows_of(weight, bias), strict=True)))
        try:
            return self.host([classifier], state)
        except InputError as error:
            raise InputError(f"{path}: its tensors are not of the model {self.source}: {str(error)[:300]}") from error

    def host(
        self, classifiers: Sequence[Classifier], state: Mapping[str, Tensor], *, stuff: bool = False
    ) -> ProposalSource:
        """Load a copy of the model with the given classifier."""
        (classifier,) = classifiers
        model = copy.deepcopy(self.model)
        source = self.source_of(model, copy.deepcopy(classifier))
        others = {name: value for name, value in state.items() if not checkpoints.is_classifier(name)}
        own = {name: value for name, value in model.state_dict().items() if checkpoints.is_classifier(name)}
        models.load(model, others | own)
        return source
