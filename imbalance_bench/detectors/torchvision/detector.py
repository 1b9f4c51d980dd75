"""What every detector of torchvision's answers alike behind the port."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from torch import nn

from imbalance_bench.detectors.one_classifier import PillowDetector
from imbalance_bench.detectors.torchvision import models


@dataclass(frozen=True)
class TorchvisionDetector(PillowDetector):
    """A user's detector, of which only the classifier is exchanged.

    Attributes:
        source: what the user named: a builder of torchvision's, or ``module:function``.
        model: as that builds it, in evaluation mode; its weights are not used.
    """

    source: str
    model: nn.Module

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
