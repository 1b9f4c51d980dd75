"""YOLOs with a classifier of sigmoids in the place of the last 1 x 1 convolution of each level.

A model may have two heads: ``one2many``, which is suppressed after, and ``one2one`` (YOLO26, YOLOv10), which needs no
suppression. One of them is served; the other stays as it is.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from imbalance_bench.classifiers import Classifier, SigmoidClassifier
from imbalance_bench.detectors.sigmoid_heads import logits_of_scores, refusal_in_maps
from imbalance_bench.proposals.blocks import split_rows
from imbalance_bench.runtime.errors import InputError

HEADS = ("one2many", "one2one")


def levels(model: Any, head: str) -> list[Any]:
    """Return of each level the layers that score classes; the last is the classifier."""
    return list(getattr(model.model[-1], head)["cls_head"])


class HostingLevel(nn.Module):
    """The classifier of a level in the place of its convolution; its output are logits of its scores.

    The Classifier of all levels is registered once, as ``fc_cls`` of the head.

    Args:
        classifier: C sigmoids on features in a block for each level.
        level: the block.
        count: of levels.
    """

    def __init__(self, classifier: Classifier, level: int, count: int) -> None:
        super().__init__()
        self.level, self.count, self._hosted = level, count, (classifier,)

    def convolution(self) -> tuple[Tensor, Tensor]:
        """Return the (C, channels, 1, 1) filters and (C,) biases that the level has."""
        (classifier,) = self._hosted
        assert isinstance(classifier, SigmoidClassifier)
        weights, biases = split_rows(classifier.weight, classifier.bias, self.count)
        return weights[self.level][:, :, None, None], biases[self.level]

    def forward(self, x: Tensor) -> Tensor:
        """Compute (N, C, H, W) logits, whose sigmoids are the scores, from (N, channels, H, W) features."""
        logits = nn.functional.conv2d(x, *self.convolution()).movedim(1, -1)
        return logits_of_scores(self._hosted[0], logits).movedim(-1, 1)


def host(model: Any, classifier: Classifier, head: str) -> None:
    """Put a classifier into a head, in place.

    Raises:
        InputError: a classifier that is none of sigmoids alone.
    """
    if (reason := refusal_in_maps(classifier)) is not None:
        raise InputError(f"{type(classifier).__name__}: {reason}")
    own = levels(model, head)
    for number, layers in enumerate(own):
        layers[-1] = HostingLevel(classifier, number, len(own))
    model.model[-1].fc_cls = classifier
