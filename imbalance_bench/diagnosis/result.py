"""The result of a diagnosis: tables and a few numbers, which are saved as CSV and JSON and can be read again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from imbalance_bench.diagnosis import saved
from imbalance_bench.diagnosis.fixes import GROUPS
from imbalance_bench.runtime.equality import ByValue
from imbalance_bench.runtime.files import numbers_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TABLES = {
    "per_category": "label", "bins": "bin", "destinations": "bin", "boxes": "bin", "losses": "label",
    "reliability": None, "fixes": "method",
}  # fmt: skip
"""Tables, and the column that is the index of each."""
SUMMARY = "diagnosis.json"
WORDS = ("name", "title", "settings", "taken_by", "group", "frequency", "interval")
"""Columns of text."""


@dataclass(frozen=True, eq=False)
class Diagnosis(ByValue):
    """The imbalance of a detector's classifier, and the fixes that help.

    Attributes:
        folder: folder with all files of the diagnosis.
        summary: detector, inputs, remarks and decisions on them (``notes``), correlation of weight norms and train
            instances, the verdict in words, the recommended method, what the ``rule`` that recommends it is worth
            (``recommendation.check_rule``), provenance, the call (``called``), mAPs on held-out
            images of the ``tuned`` methods, the ``exported`` detector, ``seconds`` of the call, and number and seconds
            of the runs that an earlier call had done (``resumed``).
        per_category: index ``label``, background last; columns of ``evaluation.per_category`` for the unchanged
            detector; ``id`` is the user's category id.
        bins: index ``bin``; for the unchanged detector: ``classes``, ``interval``, ``ap``, ``accuracy`` and
            ``as_background`` with bounds, ``calibration_error``; where an encoder chooses queries, ``chosen_recall``
            and ``proposal_recall``.
        destinations: result of ``evaluation.predictions.destinations``.
        boxes: index ``bin``, bins with a box: shares of the validation boxes by the best detection on each box, for
            any score (``evaluation.error_analysis.box_outcomes``).
        losses: result of ``evaluation.predictions.losses_by_class``; ``taken_by`` as text.
        reliability: result of ``evaluation.predictions.reliability``.
        fixes: index ``method``, best tail gain first, the unchanged detector in the last row; ``title``, ``settings``,
            ``mAP``, ``tail``, ``head``, ``AP1``.., ``accuracy``...; gains over the unchanged detector (``tail_gain``,
            ``tail_low``, ``tail_high``; ``tail_low_of_many`` is a lower bound for all methods at once) and over the
            control (``tail_over_control``, ``.._low``, ``.._high``).

    Example:
        >>> Diagnosis.read("diagnosis")  # the result of an earlier call
        Traceback (most recent call last):
        imbalance_bench.runtime.errors.InputError: diagnosis/diagnosis.json: no such file, expected a JSON file
    """

    folder: Path
    summary: dict[str, Any]
    per_category: pd.DataFrame
    bins: pd.DataFrame
    destinations: pd.DataFrame
    boxes: pd.DataFrame
    losses: pd.DataFrame
    reliability: pd.DataFrame
    fixes: pd.DataFrame

    @property
    def recommended(self) -> str | None:
        """The name of the recommended method; None if no method helps."""
        return self.summary["recommended"]

    @property
    def ranking(self) -> pd.DataFrame:
        """The fixes for readers, in percent: gains on tail and head with intervals, and mAP."""
        from imbalance_bench.diagnosis.tables import ranking

        return ranking(self)

    def figure(self, name: str) -> Figure:
        """Draw a figure of the diagnosis.

        Args:
            name: ``gains`` (of the fixes, tail against head), ``norms`` (of the classifier's weights), ``bins`` (AP and
                accuracy), ``proposals`` or ``boxes`` (whom they are lost to), ``reliability`` (of the scores).

        Raises:
            InputError: an unknown name.
        """
        from imbalance_bench.diagnosis.figures import of

        return of(self, name)

    def write_page(self) -> Path:
        """Write ``report.html`` into the folder, and return its path."""
        from imbalance_bench.diagnosis import page

        return page.write(self)

    def save(self) -> None:
        """Write one CSV file per table, then the summary."""
        saved.save(self.folder, SUMMARY, self.summary, {name: getattr(self, name) for name in TABLES})

    @classmethod
    def read(cls, folder: str | Path) -> Diagnosis:
        """Read a diagnosis that was saved in a folder.

        Raises:
            InputError: the folder holds no diagnosis, or an unfinished one.
        """
        summary, tables = saved.read(Path(folder), SUMMARY, TABLES, WORDS)
        summary["norms"] = numbers_of(summary.get("norms", {}))
        rule = summary.get("rule", {})
        summary["rule"] = rule | {group: numbers_of(found) for group, found in rule.items() if group in GROUPS}
        return cls(Path(folder), summary, **tables)
