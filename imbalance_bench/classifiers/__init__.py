"""Classifiers: one file a family, all behind one abstraction."""

from imbalance_bench.classifiers.base import CLASSIFIERS, Classifier, LinearClassifier, build
from imbalance_bench.classifiers.focal import ReleasedFocalClassifier, SigmoidFocalClassifier
from imbalance_bench.classifiers.group_softmax import GROUP_EDGES, GroupSoftmaxClassifier, groups_by_count
from imbalance_bench.classifiers.ncm import NCMClassifier
from imbalance_bench.classifiers.softmax import (
    SoftmaxClassifier,
    effective_number_weights,
    inverse_count_weights,
)
from imbalance_bench.classifiers.tau_norm import TauNormSelectClassifier, tau_norm, tau_normalize

__all__ = [
    "CLASSIFIERS",
    "GROUP_EDGES",
    "Classifier",
    "GroupSoftmaxClassifier",
    "LinearClassifier",
    "NCMClassifier",
    "ReleasedFocalClassifier",
    "SigmoidFocalClassifier",
    "SoftmaxClassifier",
    "TauNormSelectClassifier",
    "build",
    "effective_number_weights",
    "groups_by_count",
    "inverse_count_weights",
    "tau_norm",
    "tau_normalize",
]
