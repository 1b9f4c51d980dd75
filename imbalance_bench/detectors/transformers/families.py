"""The families of transformers' DETRs: where the classifier is, how queries are matched, and who chose them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers.loss.loss_deformable_detr import DeformableDetrHungarianMatcher
from transformers.loss.loss_for_object_detection import HungarianMatcher
from transformers.loss.loss_lw_detr import LwDetrHungarianMatcher
from transformers.loss.loss_rt_detr import RTDetrHungarianMatcher

Matches = Sequence[tuple[Tensor, Tensor]]
"""Of each image (M,) queries and (M,) boxes that are matched."""
Matcher = Callable[[dict[str, Tensor], list[dict[str, Tensor]]], Matches]
"""(outputs, targets) -> matches, as in transformers' losses."""


@dataclass(frozen=True)
class Family:
    """What differs between the DETRs.

    Attributes:
        classifier: name of the last decoder layer's classifier; ``{last}`` is the number of that layer.
        matcher: makes the Hungarian matcher of the model's loss from its configuration.
        softmax: scores are a softmax with a row for no object, the last one; else sigmoids.
        top_k: pairs of a query and a class that the model's own post-processing keeps, or one for each query (None).
        chosen: field of the model's output with the (N, Q, 4) boxes that an encoder chose the queries by.
        two_stage: setting without which no encoder chooses.
        quality: name of the module whose (N, Q, 1) output is added to a query's logits.
        clamps: the loss matches boxes that are cut at the borders of the image.
    """

    classifier: str
    matcher: Callable[[Any], Matcher]
    softmax: bool = False
    top_k: int | None = None
    chosen: str | None = None
    two_stage: str | None = None
    quality: str | None = None
    clamps: bool = False

    def name_of(self, pattern: str, config: Any) -> str:
        """Return the name of a module of the last layer; D-FINE may stop at an earlier one when it predicts."""
        layers = config.decoder_layers
        last = getattr(config, "eval_idx", -1)
        return pattern.format(last=last if last >= 0 else layers + last)

    def encoder_chooses(self, config: Any) -> bool:
        """Return whether an encoder chooses the queries."""
        return self.chosen is not None and (self.two_stage is None or bool(getattr(config, self.two_stage)))


def _costs(config: Any) -> dict[str, float]:
    return {name: getattr(config, name) for name in ("class_cost", "bbox_cost", "giou_cost")}


def _softmaxes(config: Any) -> Matcher:
    return HungarianMatcher(**_costs(config))


def _sigmoids(config: Any) -> Matcher:
    return DeformableDetrHungarianMatcher(**_costs(config))


def _one_group(config: Any) -> Matcher:
    """Match one group of queries: the others are of training alone."""
    matcher = LwDetrHungarianMatcher(**_costs(config))
    return lambda outputs, targets: matcher(outputs, targets, 1)


_RT = Family("model.decoder.class_embed.{last}", RTDetrHungarianMatcher, chosen="enc_topk_bboxes")
_LW = Family("class_embed", _one_group, chosen="enc_outputs_coord_logits")

FAMILIES: dict[str, Family] = {
    "detr": Family("class_labels_classifier", _softmaxes, softmax=True),
    "conditional_detr": Family("class_labels_classifier", _sigmoids, top_k=100),
    "deformable_detr": Family(
        "class_embed.{last}", _sigmoids, top_k=100, chosen="init_reference_points", two_stage="two_stage"
    ),
    "rt_detr": _RT,
    "rt_detr_v2": _RT,
    "d_fine": Family(
        _RT.classifier,
        RTDetrHungarianMatcher,
        chosen=_RT.chosen,
        quality="model.decoder.lqe_layers.{last}.reg_conf",
        clamps=True,
    ),
    "lw_detr": Family(_LW.classifier, _LW.matcher, top_k=100, chosen=_LW.chosen),
    "rf_detr": _LW,
}
"""By ``model_type`` of ``config.json``."""
