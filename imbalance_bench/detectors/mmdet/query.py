"""mmdet's query detectors behind the port: Deformable DETR and DINO.

A proposal is a query of the last decoder layer, its features the hidden state that the layer's classifier reads, and
its label that of the box that the model's own Hungarian assigner gives it. Scores are sigmoids; background is the
unmatched query, which no class claims.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from torch import nn

from imbalance_bench.detectors.mmdet.query_source import QuerySource
from imbalance_bench.detectors.mmdet.single_head import SingleHead
from imbalance_bench.detectors.port import CHOSEN
from imbalance_bench.proposals.postprocess import Postprocess
from imbalance_bench.runtime.errors import InputError


@dataclass(frozen=True)
class QueryDetector(SingleHead):
    """A user's query detector."""

    proposal_kind = "queries"
    """What its classifier scores."""

    @classmethod
    def of(cls, path: Path, config: Config, transforms: tuple[dict[str, Any], ...], model: nn.Module) -> QueryDetector:
        """Check a detector.

        Raises:
            InputError: its scores are no sigmoids, or it has no assigner.
        """
        detector = cls(path, config, transforms, model)
        loss = detector.head.loss_cls
        if not loss.use_sigmoid:
            raise InputError(
                f"{path}: field 'model.bbox_head.loss_cls' is {type(loss).__name__} with a softmax, expected a sigmoid "
                "of each class"
            )
        if not detector.head.train_cfg:
            raise InputError(f"{path}: field 'model.train_cfg' is missing, expected the settings of the assigner")
        return detector

    @property
    def _given(self) -> Any:
        return self.model

    @property
    def num_blocks(self) -> int:
        """One."""
        return 1

    @property
    def tap_dims(self) -> dict[str, int]:
        """The hidden state; and where an encoder chooses the queries, the boxes that it chooses them by."""
        (layer,) = self.layers.values()
        return {"fc": layer.in_features} | ({CHOSEN: 1} if self._given.as_two_stage else {})

    @property
    def images_at_once(self) -> int:
        """One, as padding changes what a DETR says."""
        return 1

    @property
    def postprocess(self) -> Postprocess:
        """No suppression, all scores, up to 300 detections, as every detector is measured."""
        return Postprocess(iou_threshold=None)

    @property
    def test_settings(self) -> dict[str, Any]:
        """300 detections, or as many as there are pairs: mmdet takes no fewer."""
        return {"max_per_img": min(self.postprocess.max_per_image, self._given.num_queries * self.num_classes)}

    @property
    def notes(self) -> tuple[str, ...]:
        """What is measured otherwise than the model itself detects."""
        queries = self._given.num_queries
        own = (self.head.test_cfg or {}).get("max_per_img", queries)
        return (
            f"measured on all scores of {queries} queries, up to {self.postprocess.max_per_image} detections an image; "
            f"the model itself keeps the best {own} pairs of a query and a class",
        )

    def chooses_by(self, names: list[str]) -> bool:
        """Return whether the encoder chooses queries by one of these layers: if layers share their classifier."""
        return self._given.as_two_stage and f"bbox_head.cls_branches.{self._given.decoder.num_layers}" in names

    def source_of(self, model: nn.Module) -> QuerySource:
        """Return a hosted model as a source of queries."""
        return QuerySource(model)
