"""Everything that is measured of classifiers on a detector's cached validation proposals."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from imbalance_bench.checkpoints import own as checkpoints
from imbalance_bench.classifiers import Classifier
from imbalance_bench.detectors.port import ProposalSource
from imbalance_bench.evaluation.coverage import best_overlaps
from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.evaluation.measures import MASK_AP, Evidence, measured
from imbalance_bench.evaluation.on_proposals import evaluate_classifier
from imbalance_bench.evaluation.oracles import oracle_ap
from imbalance_bench.experiments.proposal_cache import ProposalCache
from imbalance_bench.experiments.setup import Setup
from imbalance_bench.runtime.progress import logged_to


@dataclass
class Measurer:
    """Measures classifiers on the detector that hosts them.

    Attributes:
        setup: data and detector.
        fixed: measure AP_fixed and AP_pool too.
    """

    setup: Setup
    fixed: bool = True

    def evaluate(
        self, classifiers: Sequence[Classifier], cache: ProposalCache
    ) -> tuple[pd.DataFrame, dict[str, Any], Detections]:
        """Measure AP of boxes, and of masks where the detector segments, proposal accuracy and weight norms.

        Args:
            classifiers: one a stage.
            cache: of the detector that they score the proposals of.

        Returns:
            Per-category table, metrics, detections: as of ``evaluate_classifier``.
        """
        setup = self.setup
        table, metrics, detections = evaluate_classifier(
            classifiers,
            cache.features("val", classifiers),
            setup.ground_truth,
            fixed=self.fixed,
            device=setup.device,
            reporter=setup.reporter,
        )
        if setup.detector.has_masks:
            with logged_to(cache.folder.with_name("console.log")):
                detections = self._with_masks(cache.source, detections)
            of_masks, numbers = measured([MASK_AP], Evidence(setup.mask_ground_truth, detections))
            table, metrics = table.join(of_masks), metrics | numbers
        return table, metrics, detections

    def checkpoint(self, path: Path) -> tuple[pd.DataFrame, dict[str, Any], Detections]:
        """Measure a checkpoint that fits this detector and data set, as ``evaluate`` does; nothing is kept of it.

        Raises:
            InputError: not such a checkpoint.
        """
        self.setup.load_detector(path)  # what is wrong is said before anything is cached
        classifiers = checkpoints.classifiers_of(checkpoints.load(path), path)
        with tempfile.TemporaryDirectory() as temporary:
            return self.evaluate(
                list(classifiers.values()), ProposalCache(self.setup, path, Path(temporary) / "proposals")
            )

    def oracles(self, classifiers: Sequence[Classifier], cache: ProposalCache) -> pd.DataFrame:
        """Measure AP where a part of the classifier's work is done for it (``oracle_ap``)."""
        val = cache.features("val", classifiers)
        return oracle_ap(classifiers, val, self.setup.ground_truth, device=self.setup.device)

    def overlaps(self, cache: ProposalCache, tap: str = "fc") -> np.ndarray:
        """Measure of each validation box the best IoU with a proposal of a tap, (G,) (``best_overlaps``)."""
        return best_overlaps(cache.proposals("val", cache.stored(tap))[-1], self.setup.ground_truth)

    def _with_masks(self, source: ProposalSource, detections: Detections) -> Detections:
        """Add the masks that the detector's mask branch gives detections."""
        rows_of = pd.Series(detections.image_ids).groupby(detections.image_ids).indices
        none = np.zeros(0, dtype=np.int64)

        def of_image(image_id: int) -> tuple[torch.Tensor, torch.Tensor]:
            rows = rows_of.get(image_id, none)
            return torch.from_numpy(detections.boxes[rows]), torch.from_numpy(detections.labels[rows])

        image_ids: list[int] = []
        found: list[tuple[Any, ...]] = []
        images = self.setup.validation_set()
        with self.setup.reporter.task("masks", len(images)) as advance:
            for image_id, masks in source.masks(images, of_image):
                rows = rows_of.get(image_id, none)
                columns = (detections.boxes[rows], detections.scores[rows], detections.labels[rows])
                image_ids.append(image_id)
                found.append((*columns, masks))
                advance()
        return Detections.from_images(image_ids, found)
