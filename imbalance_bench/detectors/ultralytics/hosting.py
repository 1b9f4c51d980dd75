"""YOLOs with a classifier of sigmoids in the place of the last 1 x 1 convolution of each level.

A model may have two heads: ``one2many``, which is suppressed after, and ``one2one`` (YOLO26, YOLOv10), which needs no
suppression. One of them is served; the other stays as it is.
"""

from __future__ import annotations

from typing import Any

from imbalance_bench.classifiers import Classifier
from imbalance_bench.detectors.hosting import HostingConv

HEADS = ("one2many", "one2one")


def levels(model: Any, head: str) -> list[Any]:
    """Return of each level the layers that score classes; the last is the classifier."""
    return list(getattr(model.model[-1], head)["cls_head"])


def host(model: Any, classifier: Classifier, head: str) -> None:
    """Put a classifier into a head, in place; it is registered once, as ``fc_cls`` of the head.

    Raises:
        InputError: a classifier that cannot take the place of sigmoids (``sigmoid_heads``).
    """
    own = levels(model, head)
    for number, layers in enumerate(own):
        layers[-1] = HostingConv(classifier, layers[-1], number, len(own), registered=False)
    model.model[-1].fc_cls = classifier
