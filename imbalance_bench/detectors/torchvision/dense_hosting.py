"""torchvision's dense detectors with a classifier of sigmoids in the place of their last convolution.

A hosted detector predicts; its loss is torchvision's own, which does not fit a hosted classifier.
"""

from __future__ import annotations

from pathlib import Path

from torchvision.models.detection import FCOS, RetinaNet

from imbalance_bench.checkpoints import own as checkpoints
from imbalance_bench.classifiers import Classifier
from imbalance_bench.detectors.hosting import HostingConv


def host(model: RetinaNet | FCOS, classifier: Classifier) -> None:
    """Put a classifier into a dense detector, in place.

    Raises:
        InputError: a classifier that cannot take the place of sigmoids (``sigmoid_heads``).
    """
    head = model.head.classification_head
    head.cls_logits = HostingConv(classifier, head.cls_logits)


def load_hosted(model: RetinaNet | FCOS, checkpoint: str | Path) -> RetinaNet | FCOS:
    """Load an exported checkpoint whose classifier is none of torchvision's into the model it came from.

    Args:
        model: a new model, as it was built for training.
        checkpoint: with ``meta.classifier``.

    Returns:
        The model, in evaluation mode.

    Raises:
        InputError: a checkpoint of another model.
    """
    content = checkpoints.load(checkpoint)
    (classifier,) = checkpoints.classifiers_of(content, checkpoint).values()
    host(model, classifier)
    model.load_state_dict(content["state_dict"])
    return model.eval()
