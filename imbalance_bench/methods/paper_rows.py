"""The methods of the paper's Table 1, and those that its Tables 4 and 5 add. Read it from top to bottom and you have
read the table. Beside them are the control and a sibling of RFS.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from imbalance_bench import classifiers
from imbalance_bench.bins import parse_edges
from imbalance_bench.categories import CategoryTable
from imbalance_bench.classifiers import groups as by_count
from imbalance_bench.methods.record import Method, classifier_schedule, tune_schedule
from imbalance_bench.runtime.errors import InputError

if TYPE_CHECKING:
    from imbalance_bench.classifiers import Classifier, LinearClassifier


def _softmax(categories: CategoryTable, dims: Mapping[str, int], base: LinearClassifier | None) -> Classifier:
    """Build the plain classifier, from the baseline's weights if there are any."""
    return classifiers.continued(classifiers.SoftmaxClassifier(categories.num_classes, dims["fc"]), base)


def _reweighted(
    categories: CategoryTable,
    dims: Mapping[str, int],
    base: LinearClassifier,
    *,
    beta: float = 1.0,
    truncate: bool = True,
    low: float = 0.01,
    high: float = 5.0,
    cosine: float = 0.0,
) -> Classifier:
    weights = classifiers.class_balanced_weights(categories.instance_counts, beta, (low, high) if truncate else None)
    classifier = classifiers.SoftmaxClassifier(categories.num_classes, dims["fc"], weights, cosine or None)
    return classifier if cosine else classifiers.continued(classifier, base)


def _focal(
    categories: CategoryTable,
    dims: Mapping[str, int],
    base: LinearClassifier,
    *,
    released: bool = False,
    gamma: float = 2.0,
    alpha: float = 0.25,
    cosine: float = 0.0,
) -> Classifier:
    if not released:
        return classifiers.sigmoid_start(
            classifiers.SigmoidFocalClassifier(categories.num_classes, dims["fc"], gamma, alpha, cosine or None), base
        )
    if cosine:
        raise InputError("option 'cosine' of 'focal': the released loss has none")
    focal = classifiers.ReleasedFocalClassifier(categories.num_classes, dims["fc"], gamma, alpha)
    return classifiers.continued(focal, base)


def _ncm_fc(
    categories: CategoryTable,
    dims: Mapping[str, int],
    base: LinearClassifier,
    *,
    scale: float = 1.0,
    pre_relu: bool = False,
) -> Classifier:
    """``pre_relu``: reads the feature before the last ReLU, not what the classifier reads."""
    tap = "fc_pre_relu" if pre_relu else "fc"
    return classifiers.NCMClassifier.from_base(base, dims[tap], scale, (tap,))


def _ncm_conv(
    categories: CategoryTable, dims: Mapping[str, int], base: LinearClassifier, *, scale: float = 1.0
) -> Classifier:
    return classifiers.NCMClassifier.from_base(base, dims["conv"], scale, ("conv", "fc"))


def _tau_norm(
    categories: CategoryTable,
    dims: Mapping[str, int],
    base: LinearClassifier,
    *,
    tau: float = 1.0,
    keep_bias: bool = True,
    background: bool = True,
) -> Classifier:
    """``background``: whether its row is normalised too."""
    return classifiers.tau_norm(base, tau, keep_bias, background)


def _tau_norm_select(
    categories: CategoryTable,
    dims: Mapping[str, int],
    base: LinearClassifier,
    *,
    tau: float = 1.0,
    keep_bias: bool = True,
    background: bool = True,
    tail_only: bool = False,
) -> Classifier:
    """``background``: as of tau-norm; ``tail_only``: only where a tail class is named."""
    tail = categories.tail_labels if tail_only else None
    return classifiers.TauNormSelectClassifier.from_base(base, tau, keep_bias, background, tail)


def group_bounds(categories: CategoryTable, groups: int = 4, edges: str = "") -> tuple[int, ...]:
    """Compute the edges of BAGS' groups from its options.

    Raises:
        ValueError: no such groups.
    """
    if edges == "balanced":
        return by_count.balanced_edges(categories.instance_counts, groups)
    if edges:
        try:
            return parse_edges(edges, "-")
        except InputError as error:
            raise InputError(f"{error}; or 'balanced'") from error
    return by_count.group_edges(categories.bin_edges, categories.num_bins if groups == 4 else groups)


def _bags(
    categories: CategoryTable,
    dims: Mapping[str, int],
    base: LinearClassifier,
    *,
    groups: int = 4,
    edges: str = "",
    beta: float | str = 8.0,
    others: bool = True,
    background: bool = True,
    background_loss: str = "softmax",
    cosine: float = 0.0,
) -> Classifier:
    """``groups``: 4, the paper's, is one a bin, however many bins the data have; 2 and 8 join and split four.

    ``edges``: lower bounds of groups 2, 3, ... such as ``10-100-1000``; ``balanced``: as many ``groups`` of about the
    same total of train instances.
    """
    try:
        bounds = group_bounds(categories, groups, edges)
    except ValueError as error:
        raise InputError(f"option '{'edges' if edges else 'groups'}' of 'bags': {error}") from error
    grouped = by_count.groups_by_count(categories.instance_counts, bounds)
    return classifiers.GroupSoftmaxClassifier(
        categories.num_classes, dims["fc"], grouped, beta, others, background, background_loss, cosine or None
    )


def _bags_tuned(
    categories: CategoryTable, dims: Mapping[str, int], base: LinearClassifier, *, beta: float = 1.0
) -> Classifier:
    """Build BAGS from a trained one."""
    classifier = _bags(categories, dims, base, beta=beta)
    classifier.load_state_dict(base.state_dict())
    return classifier


_REWEIGHT_VARIANTS: dict[str, dict[str, Any]] = {
    "paper": {},
    "released": {"low": 0.1},
    "effective-number": {"beta": 0.999},
}
_FOCAL: dict[str, Any] = {
    "variants": {"released": {"released": True}, "fixed": {}},
    "mended": "fixed",
    "notes": {"released": "an error of the released code trains nearly every logit of every RoI as a negative"},
    "family": "sigmoid loss",
    "year": 2017,
    "source": "1708.02002",
}
"""Released first, as the paper's rows 8 and 9 very probably are: they show its collapse on background."""
_CENTRES: dict[str, Any] = {"centres": "ground-truth"}
_RFS_VARIANTS: dict[str, dict[str, Any]] = {"paper": {}, "released": {"repeat": "ceil"}}
_RFS: dict[str, Any] = {"repeat": "stochastic", "threshold": "lvis"}

_FOUND: dict[str, Any] = {"centres": "proposals"}
_TAU = {"tau": (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)}
_CB, _DECOUPLING, _LVIS = "1901.05555", "1910.09217", "1908.03195"

METHODS = (
    Method("baseline", "Softmax baseline", 1, "all", "scratch", _softmax),
    Method("x2", "Baseline x2", 2, "all", "baseline", _softmax),
    Method("x2-cls", "Baseline, W and b longer", None, "classifier", "baseline", _softmax,
           schedule=classifier_schedule),
    Method("finetune-tail", "Finetune tail", 3, "all", "baseline", _softmax, sampling="tail-only",
           schedule=tune_schedule, family="sampling"),
    Method("rfs", "RFS", 4, "all", "scratch", _softmax, _RFS_VARIANTS, _RFS, sampling="repeat-factor",
           family="sampling", year=2019, source=_LVIS, corrected={"released": "2026-11-26"}),
    Method("rfs-finetune", "RFS-finetune", 5, "all", "baseline", _softmax, _RFS_VARIANTS, _RFS,
           sampling="repeat-factor", family="sampling", year=2019, source=_LVIS,
           corrected={"released": "2026-11-26"}),
    Method("irfs", "Instance-aware RFS", None, "all", "scratch", _softmax, {"paper": {}}, _RFS,
           sampling="instance-repeat-factor", family="sampling", year=2023, source="2305.08069"),
    Method("reweight", "Re-weight", 6, "all but stem", "baseline", _reweighted, _REWEIGHT_VARIANTS,
           family="softmax loss", year=2019, source=_CB),
    Method("reweight-cls", "Re-weight-cls", 7, "classifier", "baseline", _reweighted, _REWEIGHT_VARIANTS,
           schedule=classifier_schedule, family="softmax loss", year=2019, source=_CB,
           tune={"beta": (0.9, 0.99, 0.999, 1.0)}),
    Method("focal", "Focal loss", 8, "all", "baseline", _focal, **_FOCAL),
    Method("focal-cls", "Focal loss-cls", 9, "classifier", "baseline", _focal, schedule=classifier_schedule, **_FOCAL),
    Method("ncm-fc", "NCM-fc", 10, "nothing", "baseline", _ncm_fc,
           {"paper": {}, "released": {**_CENTRES, "pre_relu": True}, "fixed": {"scale": 20.0}}, _FOUND,
           family="nearest mean", source=_DECOUPLING, tune={"scale": (1.0, 5.0, 10.0, 20.0, 40.0)},
           corrected={"paper": "2026-11-26", "fixed": "2026-11-26"}),
    Method("ncm-conv", "NCM-conv", 11, "nothing", "baseline", _ncm_conv,
           {"paper": {}, "released": _CENTRES, "fixed": {"scale": 20.0}}, _FOUND, family="nearest mean",
           source=_DECOUPLING),
    Method("tau-norm", "tau-norm", 12, "nothing", "baseline", _tau_norm,
           {"paper": {}, "no-bias": {"keep_bias": False}}, family="post hoc", source=_DECOUPLING, tune=_TAU),
    Method("tau-norm-select", "tau-norm-select", 13, "nothing", "baseline", _tau_norm_select,
           {"paper": {}, "released": {"background": False, "tail_only": True}}, family="post hoc", source=_DECOUPLING,
           tune=_TAU, corrected={"paper": "2026-11-26"}),
    Method("bags", "BAGS", 14, "classifier", "baseline", _bags,
           {"released": {}, "paper": {"background_loss": "sigmoid"}}, schedule=classifier_schedule,
           family="group softmax", tune={"beta": (2.0, 8.0, 32.0)},
           notes={"paper": "group 0 is one sigmoid logit (section 4.1), not two under a softmax (4.2, as released)"}),
    # At the full rate the five summed losses on fresh W, b kill the ReLUs of the tiny head within an epoch.
    Method("bags-head", "BAGS, whole head trained", None, "head", "baseline", partial(_bags, beta=1.0),
           schedule=lambda schedule: replace(schedule, lr=schedule.lr / 4), family="group softmax",
           on_validation="a quarter of the detector's learning rate, after a collapse at the full rate"),
    Method("bags-tune-head", "BAGS, head tuned", None, "head", "bags:beta=1", _bags_tuned, schedule=tune_schedule,
           family="group softmax"),
    Method("bags-tune-all", "BAGS, all tuned", None, "all but stem", "bags:beta=1", _bags_tuned,
           schedule=tune_schedule, family="group softmax"),
)  # fmt: skip
