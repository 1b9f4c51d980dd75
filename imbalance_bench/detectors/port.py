"""The port of detectors: what the package asks of a detector, whatever framework it comes from.

``HostsClassifier`` is a detector as it is described, before its weights are read; ``ProposalSource`` is the detector in
memory, with a Classifier of this package in the place of its own. A ``UserDetector`` is one that somebody else trained:
its checkpoint is read, and a repaired one is written for its own framework. Nothing else of a framework is known to the
experiments and to the diagnosis.

What differs between families is said in few words, all of them data:

- *Which activation, where background is*: the class of ``stock_classifier`` and the order of rows that ``adopt`` gives
  it.
- *Several classifiers*: ``num_stages`` where each scores every proposal and their logits are averaged (a cascade),
  ``num_blocks`` where each scores proposals of its own and they are fitted as one (anchor shapes, levels).
- *What follows the scores*: ``postprocess``; without ``iou_threshold`` nothing is suppressed (queries), ``best_class``
  takes one class a proposal (a softmax over queries), ``clips`` cuts boxes at the image's borders last (YOLO), and
  ``ImageProposals.quality`` is what scores are combined with (centerness).
- *Other boxes than those of detections*, such as what an encoder chose queries by: a tap of its own (``CHOSEN``), whose
  proposals have these boxes, so that their recall is measured like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from imbalance_bench.schedule import Schedule

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from imbalance_bench.classifiers import Classifier, LinearClassifier
    from imbalance_bench.datasets.images import Reader
    from imbalance_bench.datasets.registry import DataSet
    from imbalance_bench.proposals.postprocess import BoxesOfPairs, Postprocess
    from imbalance_bench.proposals.proposal_set import ImageProposals

TAPS = ("fc", "fc_pre_relu", "conv")
"""Features that a classifier may read, where a detector has them (``HostsClassifier.tap_dims``)."""
CHOSEN = "chosen"
"""A tap that no classifier reads: its proposals have the boxes that an encoder chose queries by, to measure them."""
CLASSIFIER_SCHEDULE = Schedule(epochs=12, milestones=(8, 11), lr=0.01, batch_size=16)
"""Schedule of classifiers on cached proposals, if the detector's own training does not give one (section 5.1)."""


class ProposalSource(Protocol):
    """A detector in memory, in evaluation mode: images -> features, boxes and labels of its proposals."""

    @property
    def classifiers(self) -> list[Classifier]:
        """Those that it hosts, one a stage."""

    @property
    def training_rows(self) -> int:
        """Proposals of an image that a training samples, at most."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return all its tensors; those of a hosted classifier are named ``<its head>.fc_cls.<name>``."""

    def to(self, device: str) -> ProposalSource:
        """Move it to a device, and return it."""

    def training_proposals(
        self, images: Any, batches: Sequence[Sequence[int]], tap: str, seed: int
    ) -> Iterator[list[ImageProposals]]:
        """Yield the proposals of each training image, one a stage, as the detector's own training would sample them.

        Which proposals of an image are sampled depends on the seed, the image and the stage alone.

        Args:
            images: what ``HostsClassifier.images`` opened; nobody else looks into it.
            batches: positions of the images that are in the network together.
            tap: the feature.
            seed: of the sampler.
        """

    def inference_proposals(
        self, images: Any, batches: Sequence[Sequence[int]], tap: str
    ) -> Iterator[list[ImageProposals]]:
        """Yield all proposals of each image at test time, one a stage, with the labels that accuracy is measured on."""

    def class_boxes(self, features: Tensor, proposals: Tensor, frame: Tensor) -> BoxesOfPairs:
        """Return the decoder of an image's class-specific boxes (only with ``has_class_boxes``).

        Args:
            features: (P, d) of tap ``fc``.
            proposals: (P, 4) xyxy in the network's image.
            frame: (4,) of ``ImageProposals``.
        """

    def masks(
        self, images: Any, detections_of: Callable[[int], tuple[Tensor, Tensor]]
    ) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        """Yield the id and the masks (compressed RLEs) of each image's given detections (only with ``has_masks``).

        Args:
            images: of ``HostsClassifier.images``.
            detections_of: image id -> (D, 4) boxes in the original image, (D,) labels.
        """


class HostsClassifier(Protocol):
    """A detector without weights: where its classifiers are, what they read, and what follows their scores."""

    @property
    def name(self) -> str:
        """A name that may be a part of a folder's."""

    @property
    def schedule(self) -> Schedule:
        """Of a training; a classifier on cached proposals has its learning rate and batch size."""

    @property
    def num_stages(self) -> int:
        """Number of classifiers that score every proposal: 3 for a cascade, whose logits are averaged, else 1."""

    @property
    def tap_dims(self) -> Mapping[str, int]:
        """Width of each tap.

        ``fc`` is what the detector's own classifier reads. Where it ends in a ReLU, ``fc_pre_relu`` may be there too,
        and is then cached in its place. ``conv`` is the pooled feature map.
        """

    @property
    def num_blocks(self) -> int:
        """Number of classifiers that each score proposals of their own, taken for one (``proposals.blocks``), else 1.

        The width of ``fc`` is then that of the features in their blocks.
        """

    @property
    def images_at_once(self) -> int:
        """Images in one pass of the network."""

    @property
    def has_class_boxes(self) -> bool:
        """Whether each class has a box regressor, which reads ``fc``."""

    @property
    def has_masks(self) -> bool:
        """Whether masks are measured too."""

    @property
    def takes_stuff(self) -> bool:
        """Whether it has a branch that is trained on stuff maps."""

    @property
    def postprocess(self) -> Postprocess:
        """What follows the scores."""

    def images(
        self,
        dataset: DataSet,
        category_ids: Sequence[int] | np.ndarray,
        *,
        training: bool,
        flip: float = 0.0,
        keep_labels: Sequence[int] | None = None,
        stuff: bool = False,
    ) -> Sized:
        """Open the images of a split as the detector reads them, in the order of their ids.

        Args:
            dataset: annotations and image folders.
            category_ids: (C,) the category of each label.
            training: the training split, without images that have no box; else the validation split.
            flip: probability of a horizontal flip (training).
            keep_labels: only these labels' annotations (training); None: all.
            stuff: with stuff maps (training).
        """

    def host(
        self, classifiers: Sequence[Classifier], state: Mapping[str, Tensor], *, stuff: bool = False
    ) -> ProposalSource:
        """Load the detector with the given classifiers, one a stage.

        Args:
            classifiers: as many as stages.
            state: of ``ProposalSource.state_dict``; the classifiers in it are not read.
            stuff: the detector was trained with stuff maps.

        Raises:
            InputError: the tensors are not of this detector; the message is the reason.
        """


PIXELS_AT_ONCE = 1 << 21
"""Pixels of images in one pass of a user's network; limits memory."""


@dataclass(frozen=True)
class Export:
    """A detector that was written for its own framework.

    Attributes:
        files: their names.
        plain: the framework alone runs it, without this package.
        needs: what runs it, in words.
    """

    files: tuple[str, ...]
    plain: bool
    needs: str


class UserDetector(HostsClassifier, Protocol):
    """A detector that somebody else trained, of any framework."""

    @property
    def proposal_kind(self) -> str:
        """What its classifiers score: ``RoIs``, ``anchors`` or ``queries``."""

    @property
    def num_classes(self) -> int:
        """C of its classifiers."""

    @property
    def reader(self) -> Reader:
        """How it decodes images."""

    @property
    def source(self) -> str:
        """What the user named: a configuration, or a function."""

    @property
    def identity(self) -> str:
        """Text that changes with the detector's description; a diagnosis is of one."""

    @property
    def first_label(self) -> int | None:
        """Number of its first label where labels may be category ids, as in torchvision; None: the file's order counts.

        Where no class names say more, and there are not as many labels as ids up to the highest, labels go by ascending
        id.
        """

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks on how it is measured, one a line."""

    def stock_classifier(self, num_classes: int, feature_dim: int) -> LinearClassifier:
        """Return an untrained classifier that scores as the detector's own: which activation, where background is."""

    def refusal(self, classifier: Classifier) -> str | None:
        """Return why a classifier cannot take the place of the detector's own; None if it can."""

    def check_weights(self, path: Path) -> Mapping[Any, Any]:
        """Check that a checkpoint holds the detector's classifiers; return its ``meta``.

        Raises:
            InputError: not a checkpoint, no classifier, or one of another shape.
        """

    def adopt(self, path: Path) -> ProposalSource:
        """Load the user's checkpoint, its own classifiers hosted; nothing in the file is executed.

        Raises:
            InputError: its tensors do not fit the model, or are not finite.
        """

    def export(self, checkpoint: Path, class_names: Sequence[str], folder: Path) -> Export:
        """Write the detector of a run's checkpoint for its own framework."""
