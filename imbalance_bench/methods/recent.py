"""Recent methods that a cache of proposals can host: other logits, other targets, fused features, score maps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from imbalance_bench import classifiers
from imbalance_bench.categories import CategoryTable
from imbalance_bench.methods.record import Method, classifier_schedule

if TYPE_CHECKING:
    from imbalance_bench.classifiers import Classifier, LinearClassifier


def _factors(categories: CategoryTable, smooth: bool) -> list[float]:
    return classifiers.inverse_image_frequency(categories.image_counts, categories.total_images, smooth)


def _iif(
    categories: CategoryTable,
    dims: Mapping[str, int],
    base: LinearClassifier,
    *,
    smooth: bool = False,
    cosine: float = 0.0,
) -> Classifier:
    return classifiers.IIFClassifier(categories.num_classes, dims["fc"], _factors(categories, smooth), cosine or None)


def _iif_post(
    categories: CategoryTable, dims: Mapping[str, int], base: LinearClassifier, *, smooth: bool = True
) -> Classifier:
    return classifiers.iif_scaled(base, _factors(categories, smooth))


def _los(
    categories: CategoryTable,
    dims: Mapping[str, int],
    base: LinearClassifier,
    *,
    smoothing: float = 0.98,
    cosine: float = 0.0,
) -> Classifier:
    classifier = classifiers.LOSClassifier(categories.num_classes, dims["fc"], smoothing, cosine or None)
    return classifier if cosine else classifiers.continued(classifier, base)


def _h2t(
    categories: CategoryTable,
    dims: Mapping[str, int],
    base: LinearClassifier,
    *,
    rho: float = 0.25,
    cosine: float = 0.0,
) -> Classifier:
    classifier = classifiers.H2TClassifier(categories.num_classes, dims["fc"], rho, cosine=cosine or None)
    return classifier if cosine else classifiers.continued(classifier, base)


def _repair(
    categories: CategoryTable,
    dims: Mapping[str, int],
    base: LinearClassifier,
    *,
    shortlist: int = 10,
    tau: float = 0.0,
    offset_penalty: float = 1e-3,
    rival_penalty: float = 1e-3,
    rare: float = 0.3,
) -> Classifier:
    counts = categories.instance_counts.tolist()
    return classifiers.continued(
        classifiers.RepairClassifier(
            categories.num_classes, dims["fc"], counts, shortlist, tau, offset_penalty, rival_penalty, rare
        ),
        base,
    )


def _isotonic(categories: CategoryTable, dims: Mapping[str, int], base: LinearClassifier) -> Classifier:
    return classifiers.continued(classifiers.IsotonicClassifier(categories.num_classes, dims["fc"]), base)


METHODS = (
    Method("iif", "IIF", None, "classifier", "baseline", _iif, {"raw": {}, "smooth": {"smooth": True}},
           schedule=classifier_schedule, family="softmax loss", year=2022, source="2209.04861"),
    Method("iif-post", "IIF (post hoc)", None, "nothing", "baseline", _iif_post,
           {"smooth": {}, "raw": {"smooth": False}}, family="post hoc", year=2022, source="2209.04861"),
    Method("los", "LOS", None, "classifier", "baseline", _los, schedule=classifier_schedule, family="softmax loss",
           year=2024, source="2403.00250", tune={"smoothing": (0.9, 0.95, 0.98)}),
    Method("h2t", "H2T", None, "classifier", "baseline", _h2t, schedule=classifier_schedule, family="sampling",
           year=2023, source="2306.06963", tune={"rho": (0.1, 0.25, 0.5)}),
    Method("repair", "REPAIR", None, "nothing", "baseline", _repair, family="post hoc", year=2026, source="2604.01506",
           tune={"tau": (0.0, 0.5, 1.0), "rare": (0.0, 0.3)}),
    Method("isotonic", "Isotonic, each class", None, "nothing", "baseline", _isotonic, family="post hoc", year=2024,
           source="2405.20459"),
)  # fmt: skip
