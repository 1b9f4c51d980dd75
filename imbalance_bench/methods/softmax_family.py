"""Methods beyond the paper that score by a softmax: other logits, other losses, other sampling."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from imbalance_bench import classifiers
from imbalance_bench.categories import CategoryTable
from imbalance_bench.datasets.positions import box_centres
from imbalance_bench.methods.record import Method, classifier_schedule
from imbalance_bench.runtime.errors import InputError

if TYPE_CHECKING:
    from imbalance_bench.classifiers import Classifier, LinearClassifier


def _cosine(
    categories: CategoryTable, dims: Mapping[str, int], base: LinearClassifier, *, scale: float = 20.0
) -> Classifier:
    return classifiers.SoftmaxClassifier(categories.num_classes, dims["fc"], cosine=scale)


def _one_of(method: str, option: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InputError(f"option '{option}' of '{method}': '{value}', expected {' or '.join(known)}")


def _logit_adjusted(
    categories: CategoryTable,
    dims: Mapping[str, int],
    base: LinearClassifier,
    *,
    gamma: float = 1.0,
    beta: float = 0.0,
    counts: str = "images",
    relative: bool = False,
) -> Classifier:
    """``counts``: of ``images`` (NorCal) or ``instances``."""
    _one_of("logit-adjust", "counts", counts, ("images", "instances"))
    numbers = categories.instance_counts if counts == "instances" else categories.image_counts
    return classifiers.logit_adjusted(base, numbers, gamma, beta, relative)


def _dimensions(annotations: Path, categories: CategoryTable) -> np.ndarray:
    return classifiers.fractal_dimensions(*box_centres(annotations, categories), categories.num_classes)


def _fractal(
    categories: CategoryTable,
    dims: Mapping[str, int],
    base: LinearClassifier,
    *,
    dimensions: np.ndarray,
    power: float = 2.0,
    strength: float = 1.0,
) -> Classifier:
    return classifiers.fractal_calibrated(
        base, categories.image_counts, categories.total_images, dimensions, power, strength
    )


def _balanced_softmax(
    categories: CategoryTable,
    dims: Mapping[str, int],
    base: LinearClassifier,
    *,
    tau: float = 1.0,
    form: str = "softmax",
    cosine: float = 0.0,
) -> Classifier:
    """``form``: ``softmax``, the paper's equation over train instances, or ``sigmoid``, its authors' for detection.

    The first is the default, as the detectors it starts from have a softmax; the other was published on sigmoids.
    """
    _one_of("balanced-softmax", "form", form, ("softmax", "sigmoid"))
    if form == "sigmoid":
        shift = classifiers.log_odds(categories.image_counts, categories.total_images, tau)
        return classifiers.sigmoid_start(
            classifiers.BalancedSigmoidClassifier(categories.num_classes, dims["fc"], shift, cosine or None), base
        )
    shift = classifiers.log_counts(categories.instance_counts, tau, unit=None)
    classifier = classifiers.ShiftedSoftmaxClassifier(categories.num_classes, dims["fc"], shift, cosine=cosine or None)
    return classifier if cosine else classifiers.continued(classifier, base)


def _fresh(
    categories: CategoryTable, dims: Mapping[str, int], base: LinearClassifier, *, cosine: float = 0.0
) -> Classifier:
    """cRT, with class-balanced images as EQLv2's authors have it in detectors: W and b anew, a plain cross entropy."""
    return classifiers.SoftmaxClassifier(categories.num_classes, dims["fc"], cosine=cosine or None)


def _lws(categories: CategoryTable, dims: Mapping[str, int], base: LinearClassifier) -> Classifier:
    return classifiers.LogitTransformClassifier.from_base(base)


def _disalign(
    categories: CategoryTable, dims: Mapping[str, int], base: LinearClassifier, *, rho: float = 0.8
) -> Classifier:
    weights = classifiers.generalized_weights(categories.instance_counts, rho)
    return classifiers.LogitTransformClassifier.from_base(
        base, shift=True, gate=True, background=False, loss_weights=weights
    )


def _logn(
    categories: CategoryTable, dims: Mapping[str, int], base: LinearClassifier, *, momentum: float = 5e-5
) -> Classifier:
    """``momentum``: of moving averages, as released; 0 for the statistics of all training RoIs."""
    return classifiers.continued(
        classifiers.LogNClassifier(categories.num_classes, dims["fc"], momentum, base.cosine), base
    )


def _equilibrium(
    categories: CategoryTable,
    dims: Mapping[str, int],
    base: LinearClassifier,
    *,
    momentum: float = 0.9,
    cosine: float = 0.0,
) -> Classifier:
    classifier = classifiers.EquilibriumClassifier(categories.num_classes, dims["fc"], momentum, cosine=cosine or None)
    return classifier if cosine else classifiers.continued(classifier, base)


def _loce(
    categories: CategoryTable,
    dims: Mapping[str, int],
    base: LinearClassifier,
    *,
    classes: int = 8,
    each: int = 4,
    cosine: float = 0.0,
) -> Classifier:
    classifier = classifiers.LOCEClassifier(
        categories.num_classes, dims["fc"], classes=classes, each=each, cosine=cosine or None
    )
    return classifier if cosine else classifiers.continued(classifier, base)


def _simcal(
    categories: CategoryTable, dims: Mapping[str, int], base: LinearClassifier, *, below: int = 100, fresh: bool = True
) -> Classifier:
    """``below``: so many train instances, a class is scored by the new head; that starts ``fresh``, or from W, b."""
    tail = (categories.instance_counts < below).tolist()
    classifier = classifiers.DualHeadClassifier.from_base(base, tail)
    return classifier if fresh else classifiers.continued(classifier, base)


def _ldam(
    categories: CategoryTable,
    dims: Mapping[str, int],
    base: LinearClassifier,
    *,
    margin: float = 0.5,
    scale: float = 30.0,
) -> Classifier:
    shift = classifiers.ldam_margins(categories.instance_counts, margin, scale)
    return classifiers.ShiftedSoftmaxClassifier(categories.num_classes, dims["fc"], shift, margin=True, cosine=scale)


def _ldam_drw(
    categories: CategoryTable,
    dims: Mapping[str, int],
    base: LinearClassifier,
    *,
    margin: float = 0.5,
    scale: float = 30.0,
    beta: float = 0.9999,
) -> Classifier:
    shift = classifiers.ldam_margins(categories.instance_counts, margin, scale)
    weights = classifiers.class_balanced_weights(categories.instance_counts, beta, clip=None)
    return classifiers.ShiftedSoftmaxClassifier(
        categories.num_classes, dims["fc"], shift, margin=True, cosine=scale, deferred_weights=weights
    )


def _seesaw(
    categories: CategoryTable,
    dims: Mapping[str, int],
    base: LinearClassifier,
    *,
    p: float = 0.8,
    q: float = 2.0,
    cosine: float = 20.0,
) -> Classifier:
    return classifiers.SeesawClassifier(categories.num_classes, dims["fc"], p, q, cosine or None)


METHODS = (
    Method("cosine", "Cosine classifier", None, "classifier", "baseline", _cosine, schedule=classifier_schedule,
           family="softmax loss", source="2008.10032", tune={"scale": (10.0, 20.0, 40.0)}),
    Method("logit-adjust", "Logit adjustment", None, "nothing", "baseline", _logit_adjusted,
           {"norcal": {}, "instances": {"counts": "instances"}, "class-balanced": {"beta": 0.999},
            "mean-count": {"relative": True}},
           family="post hoc", year=2021, source="2107.02170", tune={"gamma": (0.0, 0.25, 0.5, 0.75, 1.0)},
           corrected={"norcal": "2026-11-26"}),
    Method("fracal", "FRACAL", None, "nothing", "baseline", _fractal, family="post hoc", year=2024,
           source="2410.11774", statistics={"dimensions": _dimensions},
           tune={"power": (0.0, 1.0, 2.0), "strength": (0.0, 0.5, 1.0)},
           corrected={"paper": "2026-11-26"}),
    Method("balanced-softmax", "Balanced softmax", None, "classifier", "baseline", _balanced_softmax,
           {"softmax": {}, "released": {"form": "sigmoid"}}, schedule=classifier_schedule, family="softmax loss",
           source="2007.10740", tune={"tau": (0.25, 0.5, 1.0)}),
    Method("crt", "cRT", None, "classifier", "baseline", _fresh, sampling="class-balanced",
           schedule=classifier_schedule, family="sampling", source="1910.09217"),
    Method("lws", "LWS", None, "classifier", "baseline", _lws, sampling="class-balanced",
           schedule=classifier_schedule, family="sampling", source="1910.09217"),
    Method("disalign", "DisAlign", None, "classifier", "baseline", _disalign, schedule=classifier_schedule,
           family="softmax loss", year=2021, source="2103.16370", tune={"rho": (0.4, 0.8, 1.2)},
           corrected={"paper": "2026-11-26"}),
    Method("logn", "LogN", None, "nothing", "baseline", _logn, {"released": {}, "exact": {"momentum": 0.0}},
           family="post hoc", year=2022, source="2203.17020", corrected={"released": "2026-11-26"}),
    Method("logn-cosine", "LogN (cosine)", None, "nothing", "cosine", _logn,
           {"released": {}, "exact": {"momentum": 0.0}}, family="post hoc", year=2022, source="2203.17020"),
    Method("ebl", "Equilibrium loss", None, "classifier", "baseline", _equilibrium, schedule=classifier_schedule,
           family="softmax loss", year=2021, source="2108.07507",
           corrected={"paper": "2026-11-26"}),
    Method("loce", "LOCE", None, "classifier", "baseline", _loce, schedule=classifier_schedule,
           family="softmax loss", year=2021, source="2108.07507", tune={"classes": (4, 8, 16)},
           corrected={"paper": "2026-11-26"}),
    Method("simcal", "SimCal", None, "classifier", "baseline", _simcal,
           {"fresh": {}, "fine-tuned": {"fresh": False}}, sampling="bi-level", schedule=classifier_schedule,
           family="sampling", source="2007.11978", tune={"below": (10, 100, 1000)}),
    Method("ldam", "LDAM", None, "classifier", "baseline", _ldam, schedule=classifier_schedule,
           family="softmax loss", year=2019, source="1906.07413", tune={"margin": (0.1, 0.3, 0.5)},
           corrected={"paper": "2026-11-26"}),
    Method("ldam-drw", "LDAM-DRW", None, "classifier", "baseline", _ldam_drw, schedule=classifier_schedule,
           family="softmax loss", year=2019, source="1906.07413", tune={"margin": (0.1, 0.3, 0.5)},
           corrected={"paper": "2026-11-26"}),
    Method("seesaw", "Seesaw loss", None, "classifier", "baseline", _seesaw, schedule=classifier_schedule,
           family="softmax loss", source="2008.10032", tune={"p": (0.4, 0.8, 1.2)}),
)  # fmt: skip
