"""torchvision's dense detectors with a classifier of sigmoids in the place of their last convolution.

A hosted detector predicts; its loss is torchvision's own, which does not fit a hosted classifier.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn
from torchvision.models.detection import FCOS, RetinaNet

from imbalance_bench.checkpoints import own as checkpoints
from imbalance_bench.classifiers import Classifier, SigmoidClassifier
from imbalance_bench.detectors.sigmoid_heads import logits_of_scores, refusal_in_maps
from imbalance_bench.proposals.blocks import split_rows
from imbalance_bench.runtime.errors import InputError


class HostingLogits(nn.Module):
    """A Classifier as ``fc_cls`` in the place of the convolution ``cls_logits``; its output are logits of its scores.

    Args:
        classifier: C sigmoids on patches in A blocks.
        replaced: the detector's own convolution, with A C filters.

    Raises:
        InputError: a classifier that is none of sigmoids alone.
    """

    def __init__(self, classifier: Classifier, replaced: nn.Conv2d) -> None:
        super().__init__()
        if (reason := refusal_in_maps(classifier)) is not None:
            raise InputError(f"{type(classifier).__name__}: {reason}")
        self.fc_cls = classifier
        self.kernel_size, self.padding = replaced.kernel_size, replaced.padding
        self.num_anchors = replaced.out_channels // classifier.num_classes

    def convolution(self) -> tuple[Tensor, Tensor]:
        """Return the (A C, channels, h, w) filters and (A C,) biases that the classifier is."""
        assert isinstance(self.fc_cls, SigmoidClassifier)
        weight, bias = split_rows(self.fc_cls.weight, self.fc_cls.bias, self.num_anchors)
        return weight.flatten(0, 1).unflatten(1, (-1, *self.kernel_size)), bias.flatten()

    def forward(self, x: Tensor) -> Tensor:
        """Compute (N, A C, H, W) logits, whose sigmoids are the scores, from (N, channels, H, W) features."""
        weight, bias = self.convolution()
        logits = nn.functional.conv2d(x, weight, bias, padding=self.padding)
        rows = logits.unflatten(1, (self.num_anchors, -1)).movedim(2, -1)
        return logits_of_scores(self.fc_cls, rows).movedim(-1, 2).flatten(1, 2)


def host(model: RetinaNet | FCOS, classifier: Classifier) -> None:
    """Put a classifier into a dense detector, in place."""
    head = model.head.classification_head
    head.cls_logits = HostingLogits(classifier, head.cls_logits)


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
