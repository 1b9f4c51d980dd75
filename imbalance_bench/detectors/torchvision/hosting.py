"""torchvision's two-stage detectors with any Classifier in the place of their own.

A hosted detector predicts; its losses are torchvision's own, which do not fit a hosted classifier.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import cast

from torch import Tensor, nn
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops import clip_boxes_to_image

from imbalance_bench.checkpoints import own as checkpoints
from imbalance_bench.classifiers import Classifier
from imbalance_bench.proposals.postprocess import BoxesOfPairs, Postprocess
from imbalance_bench.runtime.errors import InputError

MIN_SIZE = 1e-2
"""Sides below which ``RoIHeads.postprocess_detections`` leaves a box out, in pixels."""


class HostingPredictor(nn.Module):
    """torchvision's ``FastRCNNPredictor`` with a Classifier as ``fc_cls`` in the place of ``cls_score``.

    Args:
        classifier: reads the tap ``fc``, the output of the box head.
        bbox_pred: the detector's box regressor, 4 rows for each class, background first.

    Raises:
        InputError: the classifier reads another tap.
    """

    def __init__(self, classifier: Classifier, bbox_pred: nn.Linear) -> None:
        super().__init__()
        if set(classifier.taps) != {"fc"}:
            taps = ", ".join(classifier.taps)
            raise InputError(
                f"{type(classifier).__name__} reads {taps}, expected what torchvision's predictor gets: fc"
            )
        self.fc_cls, self.bbox_pred = classifier, bbox_pred

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute (N, K) logits and (N, 4 (C + 1)) box deltas from (N, d) features."""
        features = x.flatten(start_dim=1)
        return self.fc_cls(features), self.bbox_pred(features)


def host(model: nn.Module, classifier: Classifier, postprocess: Postprocess) -> None:
    """Put a classifier into a two-stage detector, in place; its scores are what becomes detections.

    Args:
        model: one of torchvision's R-CNNs.
        classifier: the new classifier.
        postprocess: what follows its scores.
    """
    roi_heads = cast(RoIHeads, model.roi_heads)
    roi_heads.box_predictor = HostingPredictor(classifier, roi_heads.box_predictor.bbox_pred)
    roi_heads.postprocess_detections = partial(_detections, roi_heads, postprocess)


def _detections(
    roi_heads: RoIHeads,
    postprocess: Postprocess,
    class_logits: Tensor,
    box_regression: Tensor,
    proposals: list[Tensor],
    image_shapes: list[tuple[int, int]],
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Return boxes, scores and labels (from 1) of each image, as ``RoIHeads.postprocess_detections`` does."""
    scores = roi_heads.box_predictor.fc_cls.scores(class_logits)
    rows = [len(own) for own in proposals]
    found = [
        postprocess(own_scores, class_boxes(roi_heads, deltas.unflatten(1, (-1, 4)), own, shape))
        for own_scores, deltas, own, shape in zip(
            scores.split(rows), box_regression.split(rows), proposals, image_shapes, strict=True
        )
    ]
    return [boxes for boxes, _, _ in found], [score for _, score, _ in found], [label + 1 for *_, label in found]


def class_boxes(roi_heads: RoIHeads, deltas: Tensor, proposals: Tensor, image_shape: tuple[int, int]) -> BoxesOfPairs:
    """Return the decoder of an image's (proposal, label) pairs, in the network's image.

    Args:
        roi_heads: with the coder of boxes.
        deltas: (P, C + 1, 4), background first.
        proposals: (P, 4) xyxy.
        image_shape: height and width, to which boxes are clipped.
    """

    def decode(proposal: Tensor, label: Tensor) -> Tensor:
        boxes = roi_heads.box_coder.decode_single(deltas[proposal, label + 1], proposals[proposal])
        return clip_boxes_to_image(boxes, image_shape)

    return decode


def load_hosted(model: nn.Module, checkpoint: str | Path, postprocess: Postprocess) -> nn.Module:
    """Load an exported checkpoint whose classifier is none of torchvision's into the model it came from.

    Args:
        model: a new model, as it was built for training.
        checkpoint: with ``meta.classifier``.
        postprocess: what follows the scores.

    Returns:
        The model, in evaluation mode.

    Raises:
        InputError: a checkpoint of another model.
    """
    content = checkpoints.load(checkpoint)
    (classifier,) = checkpoints.classifiers_of(content, checkpoint).values()
    host(model, classifier, postprocess)
    model.load_state_dict(content["state_dict"])
    return model.eval()
