"""transformers' DETRs behind the port.

A proposal is a query of the last decoder layer, its features the hidden state that the layer's classifier reads, and
its label that of the box that the model's own Hungarian matcher gives it. Background is the unmatched query: a row of
its own in DETR's softmax (no object, last here too), and what no class claims in the sigmoids of all others.
"""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from imbalance_bench.checkpoints import own as checkpoints
from imbalance_bench.classifiers import Classifier, LinearClassifier, SigmoidClassifier, SoftmaxClassifier
from imbalance_bench.detectors.named_state import load_named
from imbalance_bench.detectors.one_classifier import PillowDetector
from imbalance_bench.detectors.port import CHOSEN, Export
from imbalance_bench.detectors.transformers import folder as folders
from imbalance_bench.detectors.transformers import hosting
from imbalance_bench.detectors.transformers.export import export
from imbalance_bench.detectors.transformers.families import FAMILIES, Family
from imbalance_bench.detectors.transformers.source import QuerySource, num_queries
from imbalance_bench.proposals.postprocess import Postprocess
from imbalance_bench.runtime.errors import InputError


def open_folder(source: str, checkpoint: Path) -> Detr:
    """Open the DETR of a folder.

    Args:
        source: the folder, with ``config.json``.
        checkpoint: its weights.

    Raises:
        InputError: a file that is missing, damaged, or of another kind of model.
    """
    folder = Path(source)
    config = folders.read_config(folder)
    processor = folders.read_processor(folder, config)
    model = folders.load(config, checkpoint)
    folders.try_out(folder, model, processor)
    return Detr(source, model, processor)


@dataclass(frozen=True)
class Detr(PillowDetector):
    """A user's DETR (``port.UserDetector``).

    Attributes:
        source: its folder.
        model: in evaluation mode.
        processor: of images.
    """

    source: str
    model: nn.Module
    processor: Any

    pixels = torch.uint8

    proposal_kind = "queries"
    """What its classifier scores."""

    @property
    def config(self) -> Any:
        """Of the model."""
        return self.model.config

    @property
    def family(self) -> Family:
        """Its kind."""
        return FAMILIES[self.config.model_type]

    @property
    def layer_name(self) -> str:
        """Name of the classifier of the last decoder layer."""
        return self.family.name_of(self.family.classifier, self.config)

    @property
    def _layer(self) -> nn.Linear:
        layer = self.model.get_submodule(self.layer_name)
        assert isinstance(layer, nn.Linear)
        return layer

    @property
    def name(self) -> str:
        """Name of the folder."""
        return re.sub(r"\W+", "-", Path(self.source).absolute().name) or self.config.model_type

    @property
    def num_classes(self) -> int:
        """C."""
        return int(self.config.num_labels)

    @property
    def num_blocks(self) -> int:
        """One."""
        return 1

    @property
    def tap_dims(self) -> dict[str, int]:
        """The hidden state; and where an encoder chooses the queries, the boxes that it chooses them by."""
        dims = {"fc": self._layer.in_features}
        return dims | ({CHOSEN: 1} if self.family.encoder_chooses(self.config) else {})

    @property
    def images_at_once(self) -> int:
        """One, as padding changes what a DETR says; more where all images get the same size."""
        size = self.processor.size
        height, width = (getattr(size, side, None) for side in ("height", "width"))
        return self.at_once(height * width) if self.processor.do_resize and height and width else 1

    @property
    def postprocess(self) -> Postprocess:
        """Of ``hosting.postprocess_of``."""
        return hosting.postprocess_of(self.family)

    @property
    def identity(self) -> str:
        """Checksum of the configuration and of how images are prepared."""
        files = (Path(self.source) / name for name in (folders.CONFIG, folders.PROCESSOR))
        return hashlib.sha256(b"\n".join(file.read_bytes() for file in files)).hexdigest()

    @property
    def notes(self) -> tuple[str, ...]:
        """What is measured otherwise than the model itself detects."""
        queries, after = num_queries(self.config), self.postprocess
        own = "the best class of each query" if self.family.softmax else (
            f"the best {self.family.top_k or queries} pairs of a query and a class")  # fmt: skip
        return (
            f"measured on all scores of {queries} queries, up to {after.max_per_image} detections an image; the "
            f"model's own post-processing keeps {own}, above a threshold",
        )

    def stock_classifier(self, num_classes: int, feature_dim: int) -> LinearClassifier:
        """Return an untrained softmax with a row for no object, or sigmoids without one."""
        kind = SoftmaxClassifier if self.family.softmax else SigmoidClassifier
        return kind(num_classes, feature_dim)

    def refusal(self, classifier: Classifier) -> str | None:
        """Return why a classifier cannot score queries (``hosting.refusal``)."""
        return hosting.refusal(classifier, self.family)

    def check_weights(self, path: Path) -> Mapping[Any, Any]:
        """Check that a checkpoint's weights fit the model; return the names of its classes, if it has any."""
        folders.load(self.config, path)
        names = folders.class_names(self.config)
        return {} if names is None else {"CLASSES": names}

    def adopt(self, path: Path) -> QuerySource:
        """Load the user's checkpoint."""
        model = folders.load(self.config, path)
        layer: Any = model.get_submodule(self.layer_name)
        rows: dict[str, Tensor] = {"weight": layer.weight.detach(), "bias": layer.bias.detach()}
        if not all(value.isfinite().all() for value in rows.values()):
            raise InputError(f"{path}: the classifier holds values that are NaN or infinite, expected numbers")
        classifier = self.stock_classifier(self.num_classes, layer.in_features)
        classifier.load_state_dict(rows)
        hosting.host(model, classifier)
        return QuerySource(model, self.processor)

    def host(
        self, classifiers: Sequence[Classifier], state: Mapping[str, Tensor], *, stuff: bool = False
    ) -> QuerySource:
        """Load a copy of the model with the given classifier."""
        (classifier,) = classifiers
        model = copy.deepcopy(self.model)
        hosting.host(model, copy.deepcopy(classifier))
        source = QuerySource(model, self.processor)
        others = {name: value for name, value in state.items() if not checkpoints.is_classifier(name)}
        own = {name: value for name, value in source.state_dict().items() if checkpoints.is_classifier(name)}
        load_named(model, others | own)
        return source

    def export(self, checkpoint: Path, class_names: Sequence[str], folder: Path) -> Export:
        """Write a folder of transformers (``export.export``)."""
        return export(self, checkpoint, class_names, folder)
