"""Thresholds and calibrators fitted to some images, for others: by folds, or to held-out images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from imbalance_bench.evaluation.score_fixes import calibrators, thresholds
from imbalance_bench.evaluation.score_fixes.outcomes import Counts, Outcomes, count, count_boxes, folds_of
from imbalance_bench.evaluation.score_fixes.thresholds import Thresholds
from imbalance_bench.runtime.equality import ByValue


@dataclass(frozen=True, eq=False)
class Fits(ByValue):
    """Fits of each part of the images that are measured, to other images than these.

    Attributes:
        found: the detections that are measured.
        part: (I,) part of each image; one part if the fits are to held-out images.
        source: the detections of the fits.
        folds: fold of each image of ``source``.
        used: for each part, the folds that its fits use.
        bins: (C,) bin of each class.
        thresholds: of each part.
        final: the thresholds to use, fitted to all images of ``source``.
    """

    found: Outcomes
    part: np.ndarray
    source: Outcomes
    folds: np.ndarray
    used: list[list[int]]
    bins: np.ndarray
    thresholds: list[Thresholds]
    final: Thresholds

    @property
    def parts(self) -> np.ndarray:
        """The (D,) part of each detection that is measured."""
        parts: np.ndarray = self.part[self.found.images]
        return parts

    def kept(self, strategy: str) -> np.ndarray:
        """Return (D,) bool, whether a detection reaches the threshold of its class."""
        levels = np.stack([fit.levels[strategy] for fit in self.thresholds])
        return np.asarray(self.found.cells >= levels[self.parts, self.found.labels])

    def calibrated(
        self, kind: str, counts: Counts, rows: np.ndarray, scopes: Sequence[str], *, above: bool
    ) -> dict[str, np.ndarray]:
        """Return the calibrated scores of some detections.

        Args:
            kind: one of ``calibrators.KINDS``.
            counts: of ``source``, for one target.
            rows: (n,) the detections.
            scopes: some of ``calibrators.SCOPES``.
            above: whether to fit only to the detections that reach the threshold of their class.
        """
        fitted = []
        for used, limits in zip(self.used, self.thresholds, strict=True):
            own = counts.only(used)
            own = own.above(limits.levels[thresholds.PER_CLASS]) if above else own
            fitted.append(calibrators.fit(kind, own, self.bins).tables)
        place = self.parts[rows], self.found.labels[rows], self.found.cells[rows]
        return {scope: np.stack([tables[scope] for tables in fitted])[place] for scope in scopes}

    def counts(self, target: str) -> Counts:
        """Count the detections of the fits for one target."""
        return count(self.source, target, self.folds)


def fit(found: Outcomes, held_out: Outcomes | None, bins: np.ndarray, *, folds: int, seed: int) -> Fits:
    """Fit the thresholds of each fold of the images to the other folds, or those of all images to held-out ones.

    Args:
        found: the detections that are measured.
        held_out: those of other images; None: folds.
        bins: (C,) bin of each class.
        folds: number of folds; also of the held-out images, where they choose how much classes borrow.
        seed: seed of the folds.
    """
    source = found if held_out is None else held_out
    number = max(min(folds, source.num_images), 1)
    of_image = folds_of(source.num_images, number, seed)
    every = list(range(number))
    used = [every] if held_out is not None else [[f for f in every if f != own] for own in every]
    part = np.zeros(found.num_images, dtype=np.int64) if held_out is not None else of_image
    counts, boxes = count(source, "right", of_image), count_boxes(source, of_image)
    fitted = [thresholds.fit(counts.only(some), boxes[some], bins) for some in used]
    final = fitted[0] if held_out is not None else thresholds.fit(counts, boxes, bins)
    return Fits(found, part, source, of_image, used, bins, fitted, final)
