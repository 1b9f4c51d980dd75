"""transformers' DETRs with any Classifier in the place of the last decoder layer's.

A hosted detector predicts; its losses are transformers' own, which do not fit a hosted classifier.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torchvision.ops import box_convert

from imbalance_bench.checkpoints import own as checkpoints
from imbalance_bench.classifiers import Classifier
from imbalance_bench.detectors import sigmoid_heads
from imbalance_bench.detectors.hosting import HostingLayer
from imbalance_bench.detectors.named_state import load_named
from imbalance_bench.detectors.transformers import folder as folders
from imbalance_bench.detectors.transformers.families import FAMILIES, Family
from imbalance_bench.proposals.postprocess import Postprocess
from imbalance_bench.runtime.errors import InputError


def refusal(classifier: Classifier, family: Family) -> str | None:
    """Return why a classifier cannot score the queries of a family; None if it can."""
    return None if family.softmax else sigmoid_heads.refusal(classifier)


def postprocess_of(family: Family) -> Postprocess:
    """Return what follows the scores: no suppression, all scores, up to 300 detections, as every detector is measured.

    Of a softmax each query has its best class alone.
    """
    return Postprocess(iou_threshold=None, best_class=family.softmax, on_logits=family.quality is not None)


def host(model: nn.Module, classifier: Classifier) -> None:
    """Put a classifier into a DETR, in place.

    Raises:
        InputError: it cannot score this family's queries.
    """
    config: Any = model.config
    family = FAMILIES[config.model_type]
    if (reason := refusal(classifier, family)) is not None:
        raise InputError(f"{type(classifier).__name__}: {reason}")
    model.set_submodule(family.name_of(family.classifier, config), HostingLayer(classifier, family.softmax))


def load_hosted(folder: str | Path, checkpoint: str | Path) -> nn.Module:
    """Load an exported checkpoint whose classifier is none of transformers' into a model of its configuration.

    Args:
        folder: with ``config.json``.
        checkpoint: with ``meta.classifier``.

    Returns:
        The model, in evaluation mode.

    Raises:
        InputError: a checkpoint of another model.
    """
    content = checkpoints.load(checkpoint)
    (classifier,) = checkpoints.classifiers_of(content, checkpoint).values()
    model = folders.untied(folders.read_config(Path(folder)))
    host(model, classifier)
    load_named(model, content["state_dict"])
    return model.eval()


def post_process(
    model: nn.Module, outputs: Any, threshold: float, target_sizes: Tensor | list[tuple[int, int]]
) -> list[dict[str, Tensor]]:
    """Return the detections of a hosted model, as ``post_process_object_detection`` of transformers does.

    Args:
        model: of ``load_hosted``.
        outputs: of the model.
        threshold: least score.
        target_sizes: height and width of each original image.

    Returns:
        Of each image ``scores`` (D,), ``labels`` (D,) and ``boxes`` (D, 4), by descending score.
    """
    config: Any = model.config
    family = FAMILIES[config.model_type]
    layer = model.get_submodule(family.name_of(family.classifier, config))
    after, found = postprocess_of(family), []
    for logits, boxes, size in zip(outputs.logits, outputs.pred_boxes, target_sizes, strict=True):
        if family.softmax:
            scores = logits.softmax(-1) if layer.gives_scores else logits.exp()
        else:
            scores = nn.functional.pad(logits.sigmoid(), (0, 1))
        height, width = (float(side) for side in size)
        placed, values, labels = after(scores, corners(boxes, height, width))
        kept = values > threshold
        found.append({"scores": values[kept], "labels": labels[kept], "boxes": placed[kept]})
    return found


def corners(boxes: Tensor, height: float, width: float) -> Tensor:
    """Return (Q, 4) xyxy boxes in pixels from (Q, 4) centres and sizes relative to the image."""
    return box_convert(boxes, "cxcywh", "xyxy") * boxes.new_tensor([width, height, width, height])
