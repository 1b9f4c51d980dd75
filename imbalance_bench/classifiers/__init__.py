"""Classifiers: one file a family, all behind one abstraction."""

from imbalance_bench.classifiers.base import CLASSIFIERS, Classifier, LinearClassifier, build
from imbalance_bench.classifiers.dual_head import DualHeadClassifier
from imbalance_bench.classifiers.feature_sampling import BACLClassifier, LOCEClassifier
from imbalance_bench.classifiers.focal import ReleasedFocalClassifier, SigmoidFocalClassifier
from imbalance_bench.classifiers.group_softmax import GroupSoftmaxClassifier
from imbalance_bench.classifiers.groups import balanced_edges, group_edges, groups_by_count, parse_edges
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
from imbalance_bench.classifiers.sigmoid import GumbelClassifier, SigmoidClassifier
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
from imbalance_bench.classifiers.tau_norm import TauNormSelectClassifier, tau_norm, tau_normalize

__all__ = [
    "CLASSIFIERS",
    "ACSLClassifier",
    "BACLClassifier",
    "BalancedSigmoidClassifier",
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
    "LOCEClassifier",
    "LinearClassifier",
    "LogNClassifier",
    "LogitTransformClassifier",
    "NCMClassifier",
    "ReleasedFocalClassifier",
    "SeesawClassifier",
    "ShiftedSoftmaxClassifier",
    "SigmoidClassifier",
    "SigmoidFocalClassifier",
    "SoftmaxClassifier",
    "TauNormSelectClassifier",
    "balanced_edges",
    "build",
    "class_balanced_weights",
    "fractal_calibrated",
    "fractal_dimensions",
    "generalized_weights",
    "group_edges",
    "groups_by_count",
    "ldam_margins",
    "log_counts",
    "log_odds",
    "logit_adjusted",
    "parse_edges",
    "tau_norm",
    "tau_normalize",
]
