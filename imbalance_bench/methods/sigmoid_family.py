"""Methods beyond the paper that score each class by a sigmoid of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from imbalance_bench import classifiers
from imbalance_bench.categories import CategoryTable
from imbalance_bench.methods.record import Method, classifier_schedule

if TYPE_CHECKING:
    from imbalance_bench.classifiers import Classifier, LinearClassifier


def _bce(
    categories: CategoryTable,
    dims: Mapping[str, int],
    base: LinearClassifier,
    *,
    background: str = "none",
    cosine: float = 0.0,
) -> Classifier:
    return classifiers.sigmoid_start(
        classifiers.SigmoidClassifier(categories.num_classes, dims["fc"], background, cosine or None), base
    )


def _cls_pw(
    categories: CategoryTable,
    dims: Mapping[str, int],
    base: LinearClassifier,
    *,
    power: float = 1.0,
    cosine: float = 0.0,
) -> Classifier:
    weights = classifiers.inverse_power_weights(categories.instance_counts, power)
    return classifiers.sigmoid_start(
        classifiers.ClassWeightedSigmoidClassifier(categories.num_classes, dims["fc"], weights, cosine or None), base
    )


def _eqlv2(
    categories: CategoryTable,
    dims: Mapping[str, int],
    base: LinearClassifier,
    *,
    gamma: float = 12.0,
    mu: float = 0.8,
    alpha: float = 4.0,
    cosine: float = 0.0,
) -> Classifier:
    return classifiers.sigmoid_start(
        classifiers.EQLv2Classifier(categories.num_classes, dims["fc"], gamma, mu, alpha, cosine or None), base
    )


def _eql(
    categories: CategoryTable,
    dims: Mapping[str, int],
    base: LinearClassifier,
    *,
    images: int = 100,
    cosine: float = 0.0,
) -> Classifier:
    """``images``: classes in so many training images, or fewer, are the tail; LVIS's rare and common ones at 100."""
    tail = (categories.image_counts <= images).tolist()
    return classifiers.sigmoid_start(
        classifiers.EQLClassifier(categories.num_classes, dims["fc"], tail, cosine or None), base
    )


def _droploss(
    categories: CategoryTable,
    dims: Mapping[str, int],
    base: LinearClassifier,
    *,
    images: int = 100,
    cosine: float = 0.0,
) -> Classifier:
    """``images``: as of EQL."""
    tail = (categories.image_counts <= images).tolist()
    return classifiers.sigmoid_start(
        classifiers.DropLossClassifier(categories.num_classes, dims["fc"], tail, cosine or None), base
    )


def _federated(
    categories: CategoryTable,
    dims: Mapping[str, int],
    base: LinearClassifier,
    *,
    sampled: int = 50,
    power: float = 0.5,
    cosine: float = 0.0,
) -> Classifier:
    counts = categories.image_counts.tolist()
    return classifiers.sigmoid_start(
        classifiers.FederatedClassifier(categories.num_classes, dims["fc"], counts, sampled, power, cosine or None),
        base,
    )


def _ecm(
    categories: CategoryTable, dims: Mapping[str, int], base: LinearClassifier, *, cosine: float = 0.0
) -> Classifier:
    counts = categories.image_counts.tolist()
    return classifiers.sigmoid_start(
        classifiers.ECMClassifier(categories.num_classes, dims["fc"], counts, cosine or None), base
    )


def _acsl(
    categories: CategoryTable,
    dims: Mapping[str, int],
    base: LinearClassifier,
    *,
    threshold: float = 0.7,
    cosine: float = 0.0,
) -> Classifier:
    classifier = classifiers.ACSLClassifier(
        categories.num_classes, dims["fc"], categories.frequencies, threshold, cosine or None
    )
    return classifier if cosine else classifiers.continued(classifier, base)


def _fcbl(
    categories: CategoryTable,
    dims: Mapping[str, int],
    base: LinearClassifier,
    *,
    alpha: float = 0.85,
    threshold: float = 0.7,
    cosine: float = 0.0,
) -> Classifier:
    return classifiers.sigmoid_start(
        classifiers.FCBLClassifier(categories.num_classes, dims["fc"], alpha, threshold, cosine or None), base
    )


def _gumbel(
    categories: CategoryTable, dims: Mapping[str, int], base: LinearClassifier, *, cosine: float = 0.0
) -> Classifier:
    return classifiers.GumbelClassifier(categories.num_classes, dims["fc"], cosine or None)


def _bacl(
    categories: CategoryTable,
    dims: Mapping[str, int],
    base: LinearClassifier,
    *,
    alpha: float = 0.85,
    classes: int = 8,
    each: int = 12,
    cosine: float = 0.0,
) -> Classifier:
    classifier = classifiers.BACLClassifier(
        categories.num_classes, dims["fc"], alpha, classes=classes, each=each, cosine=cosine or None
    )
    return classifiers.sigmoid_start(classifier, base)


METHODS = (
    Method("bce", "Sigmoid", None, "classifier", "baseline", _bce,
           {"plain": {}, "objectness": {"background": "objectness"}, "own": {"background": "own"}},
           schedule=classifier_schedule, family="sigmoid loss"),
    Method("cls-pw", "Class-weighted sigmoid", None, "classifier", "baseline", _cls_pw, schedule=classifier_schedule,
           family="sigmoid loss", year=2026, source="https://github.com/ultralytics/ultralytics/pull/23565",
           tune={"power": (0.25, 0.5, 1.0)}),
    Method("eql", "EQL", None, "classifier", "baseline", _eql, schedule=classifier_schedule, family="sigmoid loss",
           source="2003.05176", tune={"images": (30, 100, 300)}),
    Method("droploss", "DropLoss", None, "classifier", "baseline", _droploss, schedule=classifier_schedule,
           family="sigmoid loss", year=2021, source="2104.06402", tune={"images": (30, 100, 300)}),
    Method("eqlv2", "EQLv2", None, "classifier", "baseline", _eqlv2, schedule=classifier_schedule,
           family="sigmoid loss", year=2021, source="2012.08548", tune={"mu": (0.4, 0.8, 1.2)}),
    Method("federated", "Federated loss", None, "classifier", "baseline", _federated, schedule=classifier_schedule,
           family="sigmoid loss", year=2021, source="2103.07461", tune={"sampled": (10, 25, 50)},
           corrected={"paper": "2026-11-26"}),
    Method("acsl", "ACSL", None, "classifier", "baseline", _acsl, schedule=classifier_schedule,
           family="sigmoid loss", year=2021, source="2104.00885", tune={"threshold": (0.5, 0.7, 0.9)},
           corrected={"paper": "2026-11-26"}),
    Method("gumbel", "Gumbel", None, "classifier", "baseline", _gumbel, schedule=classifier_schedule,
           family="sigmoid loss", year=2022, source="2207.10936"),
    Method("ecm", "ECM", None, "classifier", "baseline", _ecm, schedule=classifier_schedule, family="sigmoid loss",
           year=2022, source="2301.09724"),
    Method("bacl-fcbl", "FCBL (BACL)", None, "classifier", "baseline", _fcbl, schedule=classifier_schedule,
           family="sigmoid loss", year=2023, source="2308.02213", tune={"alpha": (0.5, 0.85, 1.2)}),
    Method("bacl", "BACL", None, "classifier", "baseline", _bacl, schedule=classifier_schedule, family="sigmoid loss",
           year=2023, source="2308.02213", tune={"classes": (4, 8, 16)},
           corrected={"paper": "2026-11-26"}),
)  # fmt: skip
