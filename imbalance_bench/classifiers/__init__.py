"""Classifiers: one file a family, all behind one abstraction.

The import of torch takes a second, so the names are imported on first access. The catalogue of methods is read without
torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imbalance_bench.classifiers.base import CLASSIFIERS, Classifier, LinearClassifier, build
    from imbalance_bench.classifiers.dual_head import DualHeadClassifier
    from imbalance_bench.classifiers.feature_sampling import BACLClassifier, H2TClassifier, LOCEClassifier
    from imbalance_bench.classifiers.focal import ReleasedFocalClassifier, SigmoidFocalClassifier
    from imbalance_bench.classifiers.group_softmax import GroupSoftmaxClassifier
    from imbalance_bench.classifiers.groups import balanced_edges, group_edges, groups_by_count
    from imbalance_bench.classifiers.iif import IIFClassifier, iif_scaled, inverse_image_frequency
    from imbalance_bench.classifiers.label_smoothing import LOSClassifier
    from imbalance_bench.classifiers.logit_transforms import (
        LogitTransformClassifier,
        LogNClassifier,
        fractal_calibrated,
        fractal_dimensions,
        generalized_weights,
        log_counts,
        logit_adjusted,
    )
    from imbalance_bench.classifiers.ncm import NCMClassifier
    from imbalance_bench.classifiers.score_maps import IsotonicClassifier, RepairClassifier
    from imbalance_bench.classifiers.sigmoid import (
        ClassWeightedSigmoidClassifier,
        GumbelClassifier,
        SigmoidClassifier,
        inverse_power_weights,
    )
    from imbalance_bench.classifiers.sigmoid_losses import (
        ACSLClassifier,
        DropLossClassifier,
        ECMClassifier,
        EQLClassifier,
        EQLv2Classifier,
        FCBLClassifier,
        FederatedClassifier,
    )
    from imbalance_bench.classifiers.softmax import SoftmaxClassifier, class_balanced_weights
    from imbalance_bench.classifiers.softmax_losses import (
        BalancedSigmoidClassifier,
        EquilibriumClassifier,
        SeesawClassifier,
        ShiftedSoftmaxClassifier,
        ldam_margins,
        log_odds,
    )
    from imbalance_bench.classifiers.starts import continued, sigmoid_start, softmax_start
    from imbalance_bench.classifiers.tau_normalization import TauNormSelectClassifier, tau_norm, tau_normalize

__all__ = [
    "CLASSIFIERS",
    "ACSLClassifier",
    "BACLClassifier",
    "BalancedSigmoidClassifier",
    "ClassWeightedSigmoidClassifier",
    "Classifier",
    "DropLossClassifier",
    "DualHeadClassifier",
    "ECMClassifier",
    "EQLClassifier",
    "EQLv2Classifier",
    "EquilibriumClassifier",
    "FCBLClassifier",
    "FederatedClassifier",
    "GroupSoftmaxClassifier",
    "GumbelClassifier",
    "H2TClassifier",
    "IIFClassifier",
    "IsotonicClassifier",
    "LOCEClassifier",
    "LOSClassifier",
    "LinearClassifier",
    "LogNClassifier",
    "LogitTransformClassifier",
    "NCMClassifier",
    "ReleasedFocalClassifier",
    "RepairClassifier",
    "SeesawClassifier",
    "ShiftedSoftmaxClassifier",
    "SigmoidClassifier",
    "SigmoidFocalClassifier",
    "SoftmaxClassifier",
    "TauNormSelectClassifier",
    "balanced_edges",
    "build",
    "class_balanced_weights",
    "continued",
    "fractal_calibrated",
    "fractal_dimensions",
    "generalized_weights",
    "group_edges",
    "groups_by_count",
    "iif_scaled",
    "inverse_image_frequency",
    "inverse_power_weights",
    "ldam_margins",
    "log_counts",
    "log_odds",
    "logit_adjusted",
    "sigmoid_start",
    "softmax_start",
    "tau_norm",
    "tau_normalize",
]

_FAMILIES = (
    "base",
    "dual_head",
    "feature_sampling",
    "focal",
    "group_softmax",
    "groups",
    "iif",
    "label_smoothing",
    "logit_transforms",
    "ncm",
    "score_maps",
    "sigmoid",
    "sigmoid_losses",
    "softmax",
    "softmax_losses",
    "starts",
    "tau_normalization",
)


def __getattr__(name: str) -> Any:
    """Import all families on the first access to a public name, so that ``CLASSIFIERS`` is complete."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    for family in _FAMILIES:
        module = importlib.import_module(f"{__name__}.{family}")
        globals().update({public: getattr(module, public) for public in __all__ if hasattr(module, public)})
    return globals()[name]


def __dir__() -> list[str]:
    return sorted(__all__)
