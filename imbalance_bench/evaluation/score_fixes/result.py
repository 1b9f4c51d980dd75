"""What score thresholds and calibration do for a detector, as tables, and the thresholds in forms to paste."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pandas as pd
import yaml

from imbalance_bench.categories import CategoryTable
from imbalance_bench.runtime.equality import ByValue


@dataclass(frozen=True, eq=False)
class ScoreFixes(ByValue):
    """Result of ``score_fixes.fit_and_measure``. All values are fractions.

    Attributes:
        categories: the categories.
        thresholds: index ``label``; ``name``, ``bin``, ``boxes`` and ``images`` (validation boxes, and images with
            one), ``threshold`` (per class, fitted to all images of the fit), ``lowest`` and ``highest`` (of the fits to
            parts of them; the same if fitted to held-out images), ``rests_on`` (what the threshold mostly rests on:
            ``own boxes``, ``its bin`` or ``all classes``) and ``own_share`` of the class's own boxes in it. Then,
            measured on images that the fit has not seen, ``precision``, ``recall`` and ``f1`` with this rule, and
            ``f1_one`` with one threshold for all classes; NaN without a box.
        one_threshold: the best threshold for all classes.
        operating_points: index (``strategy``, ``bin``): ``thresholds.STRATEGIES`` times ``all`` and the bins. Means
            over the classes with boxes: ``f1``, ``precision`` and ``recall``, each with ``_low`` and ``_high``, and
            ``gain``, F1 less that of one threshold for all classes, with ``gain_low`` and ``gain_high``. Then the
            number of ``classes`` and of ``boxes`` behind them.
        calibration: index (``scores``, ``bin``): ``as it is`` and each calibrator. ``d_ece``, ``laece`` and ``laace``,
            and what each falls by against the scores as they are, ``.._gain`` (positive is better) with ``.._gain_low``
            and ``.._gain_high``. Then the number of ``detections``: those at or above the class's threshold.
        calibration_by_class: index ``label``; ``name``, ``bin``, ``detections``, and of each of the three errors the
            value for the scores as they are, and calibrated per class: ``laece_before``, ``laece_platt``,
            ``laece_isotonic``.
        pooled: index (``scores``, ``bin``): ``ap_pool`` of the classes of the bin in one ranking, with ``_low``,
            ``_high``, and ``gain`` over the scores as they are with ``gain_low``, ``gain_high``.
        notes: how it was fitted and measured, and what to be careful with.
    """

    categories: CategoryTable
    thresholds: pd.DataFrame
    one_threshold: float
    operating_points: pd.DataFrame
    calibration: pd.DataFrame
    calibration_by_class: pd.DataFrame
    pooled: pd.DataFrame
    notes: tuple[str, ...]

    def by_name(self) -> dict[str, float]:
        """Return the threshold of each class by its name; names that occur twice are followed by their id."""
        often = Counter(self.categories.names)
        named = zip(self.categories.names, self.categories.ids.tolist(), self.thresholds["threshold"], strict=True)
        return {name if often[name] == 1 else f"{name} (id {number})": float(value) for name, number, value in named}

    def to_yaml(self) -> str:
        """Return the thresholds by class name as YAML."""
        text: str = yaml.safe_dump({"score_thresholds": self.by_name()}, allow_unicode=True, sort_keys=False)
        return text

    def to_python(self) -> str:
        """Return the thresholds by class name as a Python dictionary to paste."""
        lines = [f"    {name!r}: {value},\n" for name, value in self.by_name().items()]
        return f"SCORE_THRESHOLDS = {{\n{''.join(lines)}}}\n"
