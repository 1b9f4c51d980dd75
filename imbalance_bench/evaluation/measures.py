"""The measures of a run, one record each: all code that computes, names, groups or shows a measure uses its record.

A measure has columns in the per-category table (one value per category), and keys in a run's metrics for groups of
categories. To add a measure, add a record to ``MEASURES``: new runs then compute it, ``per-category`` shows it by any
grouper, and tables of earlier runs, which lack its columns, can still be read.

Large packages are imported only when a measure is computed, because code that only reads results imports this module
for the names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from imbalance_bench.categories import CategoryTable
from imbalance_bench.evaluation.grouping import bin_groups, frequency_groups, grouped, groups_in

if TYPE_CHECKING:
    from imbalance_bench.classifiers import Classifier
    from imbalance_bench.evaluation.accuracy import ProposalAccuracy
    from imbalance_bench.evaluation.best_of_each_class import BestOfEachClass
    from imbalance_bench.evaluation.detections import Detections
    from imbalance_bench.evaluation.ground_truth import GroundTruth
    from imbalance_bench.evaluation.scoring import Scored
    from imbalance_bench.proposals.proposal_set import ProposalSet


@dataclass(frozen=True)
class Tally:
    """Statistics that are collected from the scores of proposals in parts, and shared by all measures that need them.

    Attributes:
        make: creates empty statistics from C, the number of classes.
        add: adds some proposals to the statistics.
    """

    make: Callable[[int], Any]
    add: Callable[[Any, Scored], None]


ABSENT: Any = None
"""Value of evidence that is not available; ``measured`` refuses measures that need it."""


@dataclass
class Evidence:
    """The data that measures are computed from.

    Attributes:
        truth: the validation annotations.
        detections: detections of the detector.
        classifiers: classifiers of the detector, one per stage.
        proposals: cached validation proposals of the last stage.
        tallies: statistics over all proposals.
    """

    truth: GroundTruth
    detections: Detections = ABSENT
    classifiers: Sequence[Classifier] = ABSENT
    proposals: ProposalSet = ABSENT
    tallies: Mapping[Tally, Any] = ABSENT

    @property
    def categories(self) -> CategoryTable:
        """The categories of the annotations."""
        return self.truth.categories

    def of(self, tally: Tally) -> Any:
        """Return the statistics of a tally over all proposals."""
        return self.tallies[tally]

    @cached_property
    def fixed_ap(self) -> tuple[np.ndarray, float]:
        """The AP_fixed of each category, and AP_pool."""
        from imbalance_bench.evaluation.fixed_ap import fixed_ap

        return fixed_ap(self.of(BEST).detections(self.proposals), self.truth)


@dataclass(frozen=True)
class Means:
    """Keys of a run's metrics: means of a column over groups of categories, without those that have no value.

    Attributes:
        column: column of the per-category table.
        prefix: start of every key; ``ACC`` gives ``ACC`` (all), ``ACC1``, ``ACC2``, ... (bins), ``ACCr`` .. and
            ``ACCbg``.
        by: the groupers, ``bin`` and ``frequency``; the mean over all categories is always computed.
        overall: the key of the mean over all categories, if it is not the prefix.
        suffix: end of every key.
        weights: the column with the counts that the measure is a rate over; None: all categories have equal weight.
        background: whether background is included in the mean over all, and has its own key.
        with_classes: whether to add the number of categories behind each mean, as ``<key>_classes``.
    """

    column: str
    prefix: str
    by: tuple[Literal["bin", "frequency"], ...] = ("bin",)
    overall: str | None = None
    suffix: str = ""
    weights: str | None = None
    background: bool = False
    with_classes: bool = False

    def groups(self, categories: CategoryTable) -> dict[str, np.ndarray]:
        """Return the labels of each key's group; bins without a category are included (section 5.1)."""
        groupers = {"bin": bin_groups, "frequency": frequency_groups}
        parts = (groupers[by](categories) for by in self.by)
        return self._keyed(categories.binned_labels, categories.background, parts)

    def groups_in(self, table: pd.DataFrame) -> dict[str, np.ndarray]:
        """Return the labels of each key's group in a per-category table, background last; empty groups are left out."""
        parts = (groups_in(table, by) for by in self.by)
        return self._keyed(np.flatnonzero(table["bin"].iloc[:-1]), len(table) - 1, parts)

    def _keyed(
        self, binned: np.ndarray, background: int, parts: Iterable[Mapping[str, np.ndarray]]
    ) -> dict[str, np.ndarray]:
        groups = {self.overall or self.prefix: np.append(binned, [background] * self.background)}
        groups |= {f"{self.prefix}{key}": labels for part in parts for key, labels in part.items()}
        return groups | ({f"{self.prefix}bg": np.array([background])} if self.background else {})

    def summary(self, table: pd.DataFrame, categories: CategoryTable) -> dict[str, float]:
        """Compute the value of each key, NaN if no category has a value.

        Args:
            table: this measure's columns, index ``label``.
            categories: give bins and frequencies, by *training* counts.
        """
        values, groups = table[self.column], self.groups(categories)
        weights = None if self.weights is None else table[self.weights]
        found: dict[str, float] = {}
        for key, value in grouped(values, groups, weights).items():
            found[f"{key}{self.suffix}"] = value
            if self.with_classes:
                found[f"{key}_classes{self.suffix}"] = int(values.reindex(groups[key]).notna().sum())
        return found


Columns = Mapping[str, Any]
"""Columns by name: (C,) or (C + 1,) values in label order, background last."""


@dataclass(frozen=True)
class Measure:
    """A measure of a run.

    Attributes:
        columns: columns of the per-category table, with a description of each.
        compute: computes these columns, and possibly similar ones (for example one per stage).
        needs: the fields of ``Evidence`` that ``compute`` uses, other than the annotations and the tally.
        means: keys of the means over groups of categories.
        tally: the statistics over the scores of proposals that ``compute`` uses.
        pooled: computes the keys that are not means over categories.
        prefixes: prefixes of the pooled keys, if no other measure has them.
        counts: columns that are counts, shown without conversion.
        unit: how values are shown: ``percent`` for fractions, or ``plain``.
        optional: whether tables of earlier versions lack these columns.
    """

    columns: Mapping[str, str]
    compute: Callable[[Evidence], Columns]
    needs: tuple[str, ...] = ()
    means: tuple[Means, ...] = ()
    tally: Tally | None = None
    pooled: Callable[[Evidence], dict[str, float]] = lambda evidence: {}
    prefixes: tuple[str, ...] = ()
    counts: tuple[str, ...] = ()
    unit: Literal["percent", "plain"] = "percent"
    optional: bool = False

    def summary(self, table: pd.DataFrame, categories: CategoryTable) -> dict[str, float]:
        """Compute the keys that are means over categories; arguments as for ``Means.summary``."""
        return {key: value for means in self.means for key, value in means.summary(table, categories).items()}


def measured(measures: Iterable[Measure], evidence: Evidence) -> tuple[pd.DataFrame, dict[str, float]]:
    """Compute measures from the evidence.

    Returns:
        The columns of the measures, index ``label`` 0..C (background last), and the metrics by group.

    Raises:
        ValueError: the evidence lacks a field that a measure needs.
    """
    labels = pd.RangeIndex(evidence.categories.num_classes + 1, name="label")
    table = pd.DataFrame(index=labels)
    metrics: dict[str, float] = {}
    for measure in measures:
        needs = (*measure.needs, *(["tallies"] if measure.tally else []))
        if lacking := [name for name in needs if getattr(evidence, name) is ABSENT]:
            raise ValueError(f"{', '.join(measure.columns)}: expected {lacking[0]}, got none")
        found = measure.compute(evidence)
        columns = pd.DataFrame({name: pd.Series(np.asarray(values)) for name, values in found.items()})
        table = table.join(columns.rename_axis("label"))
        metrics |= measure.summary(table, evidence.categories) | measure.pooled(evidence)
    return table, metrics


def _new_accuracy(num_classes: int) -> ProposalAccuracy:
    from imbalance_bench.evaluation.accuracy import ProposalAccuracy

    return ProposalAccuracy(num_classes)


def _new_best(num_classes: int) -> BestOfEachClass:
    from imbalance_bench.evaluation.best_of_each_class import BestOfEachClass

    return BestOfEachClass(num_classes)


class LogitSpread:
    """Sums of each category's logit over its own proposals, and over all foreground ones.

    Args:
        num_classes: C; label C is background.
    """

    def __init__(self, num_classes: int) -> None:
        self._background = num_classes
        self._own = np.zeros((3, num_classes + 1))  # proposals, their logits, the squares
        self._foreground = np.zeros(num_classes + 1)

    def add(self, part: Scored) -> None:
        """Add some proposals."""
        own = part.logits.gather(1, part.labels[:, None])[:, 0].double().cpu().numpy()
        labels = part.labels.cpu().numpy()
        for sums, weights in zip(self._own, (None, own, own**2), strict=True):
            sums += np.bincount(labels, weights, minlength=len(sums))
        self._foreground += part.logits[part.labels < self._background].double().sum(dim=0).cpu().numpy()

    def columns(self) -> Columns:
        """Compute Logits Magnitude and RSD of each label, background last.

        Logits Magnitude of class c (LoMa, arXiv 2403.00250): the mean of z_c over the samples of c minus its mean over
        the samples of the other classes. Regularized Standard Deviation (RSD, same paper): the standard deviation of
        z_c, divided by LoMa. The paper uses them in place of the weight norm. Both definitions follow the paper's
        abstract and summaries of the paper; its equations could not be read. Two choices are made here: the standard
        deviation is over the samples of c; samples are validation proposals, and those of the other classes are
        foreground proposals only, because the classifiers of the paper have no background class.

        Returns:
            ``logit_magnitude``, NaN without a proposal or a logit, and ``logit_rsd``, NaN below two proposals.
        """
        count, total, squares = self._own
        is_foreground = np.arange(len(count)) < self._background
        others = count[is_foreground].sum() - count * is_foreground
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = total / count
            magnitude = mean - (self._foreground - np.where(is_foreground, total, 0)) / others
            deviation = np.sqrt(np.maximum(squares / count - mean**2, 0))
            known = (count > 1) & (magnitude != 0)
            return {"logit_magnitude": magnitude, "logit_rsd": np.where(known, deviation / magnitude, np.nan)}


PREDICTIONS = Tally(_new_accuracy, lambda counts, part: counts.add(part.scores, part.labels))
BEST = Tally(_new_best, lambda best, part: best.add(part.combined_on_cpu, part.rows.start))
LOGITS_SEEN = Tally(LogitSpread, LogitSpread.add)


def _weight_norms(evidence: Evidence) -> Columns:
    """Compute norms and biases as means over stages; with several stages, also the norms of each stage."""
    import torch

    norms = torch.stack([classifier.class_weights().norm(dim=1).cpu() for classifier in evidence.classifiers])
    biases = torch.stack([classifier.class_biases().cpu() for classifier in evidence.classifiers])
    stages = {f"weight_norm_stage{stage}": norm for stage, norm in enumerate(norms, start=1)} if len(norms) > 1 else {}
    return {"weight_norm": norms.mean(dim=0), "bias": biases.mean(dim=0), **stages}


def _average_precision(evidence: Evidence) -> Columns:
    from imbalance_bench.evaluation.average_precision import evaluate

    return dict(evaluate(evidence.detections, evidence.truth).items())


def _of_masks(evidence: Evidence) -> Columns:
    return {f"{name}_mask": values for name, values in _average_precision(evidence).items()}


def _proposal_recall(evidence: Evidence) -> Columns:
    from imbalance_bench.evaluation.coverage import best_overlaps, proposal_recall

    overlaps = best_overlaps(evidence.proposals, evidence.truth)
    return {"proposal_recall": proposal_recall(overlaps, evidence.truth)}


def _said(*columns: str) -> Callable[[Evidence], Columns]:
    """Return a function that gives some columns of ``ProposalAccuracy.frame``."""
    return lambda evidence: dict(evidence.of(PREDICTIONS).frame()[list(columns)].items())


def _calibration(evidence: Evidence) -> dict[str, float]:
    """Compute the ECE of pooled predictions: ``ECE`` (foreground), ``ECE1``.. (bins of predicted class), ``ECEbg``."""
    from imbalance_bench.evaluation.calibration import calibration_error

    categories = evidence.categories
    keys = {
        "": categories.binned_labels,
        **bin_groups(categories),
        "bg": np.array([categories.background]),
    }
    errors = calibration_error(evidence.of(PREDICTIONS).calibration.curve(keys))
    return {f"ECE{key}": float(errors.get(key, float("nan"))) for key in keys}


_AP = Means("ap", "AP", by=("bin", "frequency"), overall="mAP", with_classes=True)

WEIGHT_NORM = Measure(
    columns={"weight_norm": "L2 norm of the class's row of the classifier", "bias": "its bias"},
    needs=("classifiers",), compute=_weight_norms, unit="plain",
)  # fmt: skip
AP = Measure(
    columns={
        "val_instances": "validation boxes", "ap": "average precision, IoU .5 to .95", "ap50": "AP at IoU .5",
        "ap75": "AP at IoU .75", "recall": "average recall",
    },
    needs=("detections",), compute=_average_precision, means=(_AP,), counts=("val_instances",),
)  # fmt: skip
AP_FIXED = Measure(
    columns={"ap_fixed": "AP without a limit of detections an image"},
    needs=("proposals",), compute=lambda evidence: {"ap_fixed": evidence.fixed_ap[0]}, tally=BEST,
    means=(Means("ap_fixed", "AP", by=("bin", "frequency"), overall="mAP", suffix="_fixed"),),
    pooled=lambda evidence: {"AP_pool": evidence.fixed_ap[1]}, optional=True,
)  # fmt: skip
PROPOSAL_RECALL = Measure(
    columns={"proposal_recall": "share of the validation boxes that a proposal covers"},
    needs=("proposals",), compute=_proposal_recall,
    means=(Means("proposal_recall", "REC", weights="val_instances"),), optional=True,
)  # fmt: skip
ACCURACY = Measure(
    columns={
        "proposals": "validation proposals of the class", "correct": "those that are predicted as it",
        "accuracy": "proposal accuracy (section 5.2)",
    },
    compute=_said("proposals", "correct", "accuracy"), tally=PREDICTIONS,
    counts=("proposals", "correct"),
    means=(Means("accuracy", "ACC", weights="proposals", background=True), Means("accuracy", "ACCmacro")),
)  # fmt: skip
MEAN_SCORE = Measure(
    columns={"mean_score": "mean score of the class on its own proposals"},
    compute=_said("mean_score"), tally=PREDICTIONS, optional=True,
)  # fmt: skip
CALIBRATION = Measure(
    columns={"calibration_error": "expected calibration error of what is predicted as the class"},
    compute=_said("calibration_error"), tally=PREDICTIONS, pooled=_calibration, prefixes=("ECE",),
    optional=True,
)  # fmt: skip
LOGITS = Measure(
    columns={
        "logit_magnitude": "mean logit of the class on its own proposals, less that on other classes'",
        "logit_rsd": "standard deviation of the logit on its own proposals, over the magnitude",
    },
    compute=lambda evidence: evidence.of(LOGITS_SEEN).columns(), tally=LOGITS_SEEN,
    means=(Means("logit_magnitude", "LoMa"), Means("logit_rsd", "RSD")), unit="plain", optional=True,
)  # fmt: skip
MASK_AP = Measure(
    columns={f"{name}_mask": f"{says}, of masks" for name, says in AP.columns.items()},
    needs=("detections",), compute=_of_masks, optional=True,
    counts=("val_instances_mask",),
    means=(
        Means("ap_mask", "AP", by=("bin", "frequency"), overall="mAP", suffix="^m", with_classes=True),
    ),
)  # fmt: skip

OF_CLASSIFIERS = (WEIGHT_NORM, AP, AP_FIXED, PROPOSAL_RECALL, ACCURACY, MEAN_SCORE, CALIBRATION, LOGITS)
"""Measures of every run, in the order of the table's columns."""
MEASURES = (*OF_CLASSIFIERS, MASK_AP)
PREFIXES = tuple(
    dict.fromkeys(prefix for measure in MEASURES for prefix in (*(m.prefix for m in measure.means), *measure.prefixes))
)
"""Prefixes of the keys of a run's metrics, except mAP."""


def columns(optional: bool) -> tuple[str, ...]:
    """Return the names of the columns that every table has, or those of the optional ones."""
    return tuple(name for measure in MEASURES if measure.optional == optional for name in measure.columns)


def of_column(name: str) -> Measure | None:
    """Return the measure that a column of the per-category table belongs to; None for other columns."""
    return next((measure for measure in MEASURES if name in measure.columns), None)
