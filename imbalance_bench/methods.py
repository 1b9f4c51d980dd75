"""The catalogue: every method of Table 1 as one record. Read it from top to bottom and you have read the table.

Adding a method is one record here, and a Classifier where it scores or loses differently from those there are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch

from imbalance_bench.categories import CategoryTable
from imbalance_bench.classifiers import (
    Classifier,
    GroupSoftmaxClassifier,
    LinearClassifier,
    NCMClassifier,
    ReleasedFocalClassifier,
    SigmoidFocalClassifier,
    SoftmaxClassifier,
    TauNormSelectClassifier,
    effective_number_weights,
    groups_by_count,
    inverse_count_weights,
    tau_norm,
)
from imbalance_bench.errors import InputError, look_up
from imbalance_bench.schedule import Schedule

TAIL_BINS = (1, 2)
"""Bins whose classes are *tail* (fewer than 100 train instances on LVIS)."""


@dataclass(frozen=True)
class Method:
    """One row of the study.

    Attributes:
        name: on the command line.
        title: as the paper's Table 1 calls it.
        paper_row: of Table 1; None for what the paper does not have.
        trains: ``all`` parameters end to end, the ``classifier`` alone (on cached proposals), or ``nothing``.
        starts_from: ``scratch`` (the detector's initialisation) or ``baseline``.
        build: ``build(categories, dims, base, **options)`` -> Classifier, where ``dims`` gives the width of each
            tap and ``base`` is the trained baseline's classifier (None when starting from scratch).
        variants: options of ``build`` (and ``centres``, ``repeat``) by variant name; the first is the default.
        sampling: ``uniform``; ``repeat-factor``: images by their rarest class; ``tail-only``: only annotations of
            tail classes and only images that keep one.
        schedule: from the detector's schedule to this method's.
    """

    name: str
    title: str
    paper_row: int | None
    trains: Literal["all", "classifier", "nothing"]
    starts_from: Literal["scratch", "baseline"]
    build: Callable[..., Classifier]
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"paper": {}})
    sampling: Literal["uniform", "repeat-factor", "tail-only"] = "uniform"
    schedule: Callable[[Schedule], Schedule] = lambda schedule: schedule

    @property
    def default_variant(self) -> str:
        """The variant taken when none is named."""
        return next(iter(self.variants))

    def options(self, variant: str | None) -> dict[str, Any]:
        """Options of a variant.

        Raises:
            InputError: the method has no such variant.
        """
        variant = variant or self.default_variant
        if variant not in self.variants:
            raise InputError(f"method '{self.name}' has no variant '{variant}', expected {' or '.join(self.variants)}")
        return dict(self.variants[variant])


def _softmax(categories: CategoryTable, dims: Mapping[str, int], base: LinearClassifier | None) -> Classifier:
    """The plain classifier, going on from the baseline's where there is one."""
    return _continued(SoftmaxClassifier(categories.num_classes, dims["fc"]), base)


def _reweighted(
    categories: CategoryTable,
    dims: Mapping[str, int],
    base: LinearClassifier,
    clip: tuple[float, float] = (0.01, 5.0),
    effective_number: bool = False,
) -> Classifier:
    weights = effective_number_weights if effective_number else inverse_count_weights
    loss_weights = weights(categories.instance_counts, clip=clip)
    return _continued(SoftmaxClassifier(categories.num_classes, dims["fc"], loss_weights), base)


def _focal(
    categories: CategoryTable, dims: Mapping[str, int], base: LinearClassifier, released: bool = False
) -> Classifier:
    if released:
        return _continued(ReleasedFocalClassifier(categories.num_classes, dims["fc"]), base)
    classifier = SigmoidFocalClassifier(categories.num_classes, dims["fc"])
    # A sigmoid per class against background: the softmax classifier's logits relative to background's.
    with torch.no_grad():
        classifier.weight.copy_(base.weight[:-1] - base.weight[-1])
        classifier.bias.copy_(base.bias[:-1] - base.bias[-1])
    return classifier


def _ncm(tap: str) -> Callable[..., Classifier]:
    def build(
        categories: CategoryTable,
        dims: Mapping[str, int],
        base: LinearClassifier,
        scale: float = 1.0,
        post_relu: bool = False,
    ) -> Classifier:
        taps = ("conv", "fc") if tap == "conv" else ("fc",) if post_relu else ("fc_pre_relu",)
        return NCMClassifier.from_base(base, dims[taps[0]], scale, taps)

    return build


def _tau_norm(
    categories: CategoryTable, dims: Mapping[str, int], base: LinearClassifier, tau: float = 1.0, keep_bias: bool = True
) -> Classifier:
    return tau_norm(base, tau, keep_bias)


def _tau_norm_select(
    categories: CategoryTable, dims: Mapping[str, int], base: LinearClassifier, tail_only: bool = False
) -> Classifier:
    return TauNormSelectClassifier.from_base(base, tail=tail_labels(categories) if tail_only else None)


def _bags(categories: CategoryTable, dims: Mapping[str, int], base: LinearClassifier, **options: Any) -> Classifier:
    groups = groups_by_count(categories.instance_counts, categories.bin_edges)
    return GroupSoftmaxClassifier(categories.num_classes, dims["fc"], groups, **options)


def _continued(classifier: LinearClassifier, base: LinearClassifier | None) -> LinearClassifier:
    if base is not None:
        classifier.load_state_dict(base.state_dict())
    return classifier


def tail_labels(categories: CategoryTable) -> list[int]:
    """Labels of the classes in the tail bins."""
    return [label for label, bin_number in enumerate(categories.bins) if bin_number in TAIL_BINS]


def _classifier_schedule(schedule: Schedule) -> Schedule:
    """12 epochs, steps at 8 and 11, whatever the detector's own schedule (section 5.1)."""
    return replace(schedule, epochs=12, milestones=(8, 11), policy="step")


def _tail_schedule(schedule: Schedule) -> Schedule:
    """10 epochs at a hundredth of the rate, step at 7."""
    return replace(schedule, epochs=10, milestones=(7,), policy="step", lr=schedule.lr / 100)


_REWEIGHT_VARIANTS: dict[str, dict[str, Any]] = {
    "paper": {},
    "released": {"clip": (0.1, 5.0)},
    "effective-number": {"effective_number": True},
}
_FOCAL_VARIANTS: dict[str, dict[str, Any]] = {"fixed": {}, "released": {"released": True}}
_NCM_VARIANTS: dict[str, dict[str, Any]] = {
    "paper": {},
    "released": {"centres": "ground-truth"},
    "fixed": {"scale": 20.0},
}
_RFS_VARIANTS: dict[str, dict[str, Any]] = {"paper": {}, "released": {"repeat": "ceil"}}

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("baseline", "Softmax baseline", 1, "all", "scratch", _softmax),
        Method("x2", "Baseline x2", 2, "all", "baseline", _softmax),
        Method(
            "x2-cls", "Baseline, W and b longer", None, "classifier", "baseline", _softmax,
            schedule=_classifier_schedule,
        ),
        Method(
            "finetune-tail", "Finetune tail", 3, "all", "baseline", _softmax,
            sampling="tail-only", schedule=_tail_schedule,
        ),
        Method("rfs", "RFS", 4, "all", "scratch", _softmax, _RFS_VARIANTS, sampling="repeat-factor"),
        Method("rfs-finetune", "RFS-finetune", 5, "all", "baseline", _softmax, _RFS_VARIANTS, sampling="repeat-factor"),
        Method("reweight", "Re-weight", 6, "all", "baseline", _reweighted, _REWEIGHT_VARIANTS),
        Method(
            "reweight-cls", "Re-weight-cls", 7, "classifier", "baseline", _reweighted, _REWEIGHT_VARIANTS,
            schedule=_classifier_schedule,
        ),
        Method("focal", "Focal loss", 8, "all", "baseline", _focal, _FOCAL_VARIANTS),
        Method(
            "focal-cls", "Focal loss-cls", 9, "classifier", "baseline", _focal, _FOCAL_VARIANTS,
            schedule=_classifier_schedule,
        ),
        Method(
            "ncm-fc", "NCM-fc", 10, "nothing", "baseline", _ncm("fc"),
            {**_NCM_VARIANTS, "post-relu": {"post_relu": True}},
        ),
        Method("ncm-conv", "NCM-conv", 11, "nothing", "baseline", _ncm("conv"), _NCM_VARIANTS),
        Method(
            "tau-norm", "tau-norm", 12, "nothing", "baseline", _tau_norm,
            {"paper": {}, "no-bias": {"keep_bias": False}},
        ),
        Method(
            "tau-norm-select", "tau-norm-select", 13, "nothing", "baseline", _tau_norm_select,
            {"paper": {}, "released": {"tail_only": True}},
        ),
        Method(
            "bags", "BAGS", 14, "classifier", "baseline", _bags,
            {"released": {}, "paper": {"background_loss": "sigmoid"}},
            schedule=_classifier_schedule,
        ),
    )
}  # fmt: skip


def get(name: str) -> Method:
    """The record of a method.

    Raises:
        InputError: an unknown name; the message holds the nearest one.
    """
    return look_up(METHODS, name, "method")
