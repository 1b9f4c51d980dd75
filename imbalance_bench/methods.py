"""The catalogue: every method of Table 1 as one record. Read it from top to bottom and you have read the table.

Adding a method is one record here, and a Classifier where it scores or loses differently from those there are.
"""

from __future__ import annotations

import inspect
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
    class_balanced_weights,
    group_edges,
    groups_by_count,
    tau_norm,
)
from imbalance_bench.errors import InputError, look_up
from imbalance_bench.schedule import Schedule

TAIL_BINS = (1, 2)
"""Bins whose classes are *tail* (fewer than 100 train instances on LVIS)."""


Scope = Literal["all", "all but stem", "head", "classifier", "nothing"]
"""What a method trains: ``all but stem`` leaves out conv1 and conv2 (the first stage), ``head`` is the box head."""


@dataclass(frozen=True)
class Method:
    """One row of the study.

    Attributes:
        name: on the command line.
        title: as the paper's tables call it.
        paper_row: of Table 1; None for what that table does not have.
        trains: the ``classifier`` alone on cached proposals, ``nothing``, or more, end to end.
        starts_from: ``scratch`` (the detector's initialisation), or a method and its variant whose trained detector
            this one goes on from, e.g. ``baseline`` or ``bags:beta=1``.
        build: ``build(categories, dims, base, **options)`` -> Classifier, where ``dims`` gives the width of each
            tap and ``base`` is the classifier it starts from (None when starting from scratch).
        variants: options that differ from the defaults of ``build`` and ``protocol``, by name; the first is the
            default.
        protocol: further options and their defaults: ``centres`` (of NCM: ``proposals`` or ``ground-truth``),
            ``repeat`` (of RFS: ``stochastic`` or ``ceil``), ``threshold`` (of RFS: t).
        sampling: ``uniform``; ``repeat-factor``: images by their rarest class; ``tail-only``: only annotations of
            tail classes and only images that keep one.
        schedule: from the detector's schedule to this method's.
    """

    name: str
    title: str
    paper_row: int | None
    trains: Scope
    starts_from: str
    build: Callable[..., Classifier]
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"paper": {}})
    protocol: Mapping[str, Any] = field(default_factory=dict)
    sampling: Literal["uniform", "repeat-factor", "tail-only"] = "uniform"
    schedule: Callable[[Schedule], Schedule] = lambda schedule: schedule

    @property
    def needs(self) -> tuple[str, ...]:
        """Runs that are finished before one of this method begins: what it starts from, and whose proposals it has."""
        runs = [] if self.starts_from == "scratch" else [self.starts_from]
        # Everything that is not trained on its own images has the baseline's proposals.
        if self.trains in ("classifier", "nothing"):
            runs.append("baseline")
        return tuple(dict.fromkeys(runs))

    @property
    def default_variant(self) -> str:
        """The variant taken when none is named."""
        return next(iter(self.variants))

    @property
    def parameters(self) -> dict[str, Any]:
        """Every option a variant may set, with its default."""
        arguments = list(inspect.signature(self.build).parameters.values())[3:]
        return {argument.name: argument.default for argument in arguments} | dict(self.protocol)

    def options(self, variant: str | None) -> dict[str, Any]:
        """All options of a variant."""
        return self.parameters | dict(self.resolve(variant)[1])

    def folder(self, variant: str | None) -> str:
        """Name of a variant's run folder; the default variant's has no suffix."""
        name, _ = self.resolve(variant)
        return self.name if name == self.default_variant else f"{self.name}-{name}"

    def resolve(self, variant: str | None) -> tuple[str, Mapping[str, Any]]:
        """Name of a variant and the options it sets.

        Args:
            variant: a name of ``variants``; settings such as ``beta=2,others=false``; None for the default.

        Raises:
            InputError: neither a variant of this method nor settings of its options.
        """
        if variant is None:
            variant = self.default_variant
        if variant in self.variants:
            return variant, self.variants[variant]
        if "=" not in variant:
            known = " or ".join(self.variants)
            settings = ", ".join(f"{name}=..." for name in self.parameters) or "none"
            raise InputError(f"'{self.name}' has no variant '{variant}', expected {known}, or settings of: {settings}")
        options = {}
        for setting in variant.split(","):
            name, _, text = setting.partition("=")
            if name not in self.parameters:
                known = ", ".join(self.parameters) or "none"
                raise InputError(
                    f"variant '{variant}' of '{self.name}': unknown option '{name}', expected one of {known}"
                )
            options[name] = _value(text, self.parameters[name], f"variant '{variant}' of '{self.name}'")
        options = {name: value for name, value in sorted(options.items()) if value != self.parameters[name]}
        for name, named in self.variants.items():
            if dict(named) == options:
                return name, named
        return ",".join(f"{name}={_text(value)}" for name, value in options.items()), options


def _value(text: str, default: Any, source: str) -> Any:
    """A setting's value, of its default's kind; ``beta`` of BAGS may be a word too."""
    words = {"true": True, "false": False}
    try:
        if isinstance(default, bool):
            return words[text.lower()]
        if isinstance(default, str):
            return text
        if isinstance(default, float) and text in ("n", "all"):
            return text
        return type(default)(text)
    except (KeyError, ValueError) as error:
        raise InputError(f"{source}: '{text}' is not a value like {_text(default)}") from error


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).lower()


def _softmax(categories: CategoryTable, dims: Mapping[str, int], base: LinearClassifier | None) -> Classifier:
    """The plain classifier, going on from the baseline's where there is one."""
    return _continued(SoftmaxClassifier(categories.num_classes, dims["fc"]), base)


def _reweighted(
    categories: CategoryTable,
    dims: Mapping[str, int],
    base: LinearClassifier,
    beta: float = 1.0,
    truncate: bool = True,
    low: float = 0.01,
    high: float = 5.0,
) -> Classifier:
    weights = class_balanced_weights(categories.instance_counts, beta, (low, high) if truncate else None)
    return _continued(SoftmaxClassifier(categories.num_classes, dims["fc"], weights), base)


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
    categories: CategoryTable,
    dims: Mapping[str, int],
    base: LinearClassifier,
    tau: float = 1.0,
    keep_bias: bool = True,
    background: bool = True,
) -> Classifier:
    """``background``: whether its row is normalised too."""
    return tau_norm(base, tau, keep_bias, background)


def _tau_norm_select(
    categories: CategoryTable,
    dims: Mapping[str, int],
    base: LinearClassifier,
    tau: float = 1.0,
    keep_bias: bool = True,
    tail_only: bool = False,
) -> Classifier:
    return TauNormSelectClassifier.from_base(base, tau, keep_bias, tail_labels(categories) if tail_only else None)


def _bags(
    categories: CategoryTable,
    dims: Mapping[str, int],
    base: LinearClassifier,
    groups: int = 4,
    beta: float = 8.0,
    others: bool = True,
    background: bool = True,
    background_loss: str = "softmax",
) -> Classifier:
    try:
        edges = group_edges(categories.bin_edges, groups)
    except ValueError as error:
        raise InputError(f"option 'groups' of 'bags': {error}") from error
    grouped = groups_by_count(categories.instance_counts, edges)
    return GroupSoftmaxClassifier(
        categories.num_classes, dims["fc"], grouped, beta, others, background, background_loss
    )


def _bags_tuned(
    categories: CategoryTable, dims: Mapping[str, int], base: LinearClassifier, beta: float = 1.0
) -> Classifier:
    """BAGS that goes on from a trained one."""
    classifier = _bags(categories, dims, base, beta=beta)
    classifier.load_state_dict(base.state_dict())
    return classifier


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


def _tune_schedule(schedule: Schedule) -> Schedule:
    """10 epochs at a hundredth of the rate, step at 7 (Table 5, *tune*; row 3)."""
    return replace(schedule, epochs=10, milestones=(7,), policy="step", lr=schedule.lr / 100)


_REWEIGHT_VARIANTS: dict[str, dict[str, Any]] = {
    "paper": {},
    "released": {"low": 0.1},
    "effective-number": {"beta": 0.999},
}
_FOCAL_VARIANTS: dict[str, dict[str, Any]] = {"fixed": {}, "released": {"released": True}}
_NCM_VARIANTS: dict[str, dict[str, Any]] = {
    "paper": {},
    "released": {"centres": "ground-truth"},
    "fixed": {"scale": 20.0},
}
_RFS_VARIANTS: dict[str, dict[str, Any]] = {"paper": {}, "released": {"repeat": "ceil"}}
_RFS: dict[str, Any] = {"repeat": "stochastic", "threshold": 0.001}

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
            sampling="tail-only", schedule=_tune_schedule,
        ),
        Method("rfs", "RFS", 4, "all", "scratch", _softmax, _RFS_VARIANTS, _RFS, sampling="repeat-factor"),
        Method(
            "rfs-finetune", "RFS-finetune", 5, "all", "baseline", _softmax, _RFS_VARIANTS, _RFS,
            sampling="repeat-factor",
        ),
        Method("reweight", "Re-weight", 6, "all but stem", "baseline", _reweighted, _REWEIGHT_VARIANTS),
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
            {**_NCM_VARIANTS, "post-relu": {"post_relu": True}}, {"centres": "proposals"},
        ),
        Method(
            "ncm-conv", "NCM-conv", 11, "nothing", "baseline", _ncm("conv"), _NCM_VARIANTS, {"centres": "proposals"},
        ),
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
        # At the full rate the five summed losses on fresh W, b kill the ReLUs of the tiny head within an epoch.
        Method(
            "bags-head", "BAGS, whole head trained", None, "head", "baseline", _bags, {"paper": {"beta": 1.0}},
            schedule=lambda schedule: replace(schedule, lr=schedule.lr / 4),
        ),
        Method(
            "bags-tune-head", "BAGS, head tuned", None, "head", "bags:beta=1", _bags_tuned, schedule=_tune_schedule,
        ),
        Method(
            "bags-tune-all", "BAGS, all tuned", None, "all but stem", "bags:beta=1", _bags_tuned,
            schedule=_tune_schedule,
        ),
    )
}  # fmt: skip


def get(name: str) -> Method:
    """The record of a method.

    Raises:
        InputError: an unknown name; the message holds the nearest one.
    """
    return look_up(METHODS, name, "method")


def parse(run: str) -> tuple[str, str | None]:
    """Method and variant of ``name`` or ``name:variant``."""
    name, _, variant = run.partition(":")
    return name, variant or None
