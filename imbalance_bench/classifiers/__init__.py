"""Classifiers: one file a family, all behind one abstraction."""

from imbalance_bench.classifiers.base import CLASSIFIERS, Classifier, LinearClassifier, build
from imbalance_bench.classifiers.focal import ReleasedFocalClassifier, SigmoidFocalClassifier
from imbalance_bench.classifiers.group_softmax import GroupSoftmaxClassifier, group_edges, groups_by_count
from imbalance_bench.classifiers.ncm import NCMClassifier
from imbalance_bench.classifiers.softmax import SoftmaxClassifier, class_balanced_weights
from imbalance_bench.classifiers.tau_norm import TauNormSelectClassifier, tau_norm, tau_normalize

__all__ = [
    "CLASSIFIERS",
    "Classifier",
    "GroupSoftmaxClassifier",
    "LinearClassifier",
    "NCMClassifier",
    "ReleasedFocalClassifier",
    "SigmoidFocalClassifier",
    "SoftmaxClassifier",
    "TauNormSelectClassifier",
    "build",
    "class_balanced_weights",
    "group_edges",
    "groups_by_count",
    "tau_norm",
    "tau_normalize",
]
