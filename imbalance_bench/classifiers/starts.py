"""Initial weights of a classifier, taken from a trained classifier that may have another kind of scores."""

from __future__ import annotations

import torch

from imbalance_bench.classifiers.base import Classifier, LinearClassifier
from imbalance_bench.classifiers.sigmoid import SigmoidClassifier
from imbalance_bench.classifiers.softmax import SoftmaxClassifier


def continued(classifier: LinearClassifier, base: LinearClassifier | None) -> LinearClassifier:
    """Copy W and b of a trained classifier of the same width, if there is one; all else stays unchanged."""
    if base is not None:
        with torch.no_grad():
            classifier.weight.copy_(base.weight)
            classifier.bias.copy_(base.bias)
    return classifier


def softmax_start(classifier: Classifier) -> Classifier:
    """Convert C sigmoids to the softmax whose background has logit 0; return any other classifier unchanged.

    In both, ``exp(z_c)`` is the ratio of the probabilities of class c and background.
    """
    if not isinstance(classifier, SigmoidClassifier) or classifier.has_background_row or classifier.cosine is not None:
        return classifier
    start = SoftmaxClassifier(classifier.num_classes, classifier.feature_dim)
    with torch.no_grad():
        start.weight.copy_(torch.cat([classifier.weight, torch.zeros_like(classifier.weight[:1])]))
        start.bias.copy_(torch.cat([classifier.bias, torch.zeros_like(classifier.bias[:1])]))
    return start


def sigmoid_start(classifier: SigmoidClassifier, base: LinearClassifier) -> Classifier:
    """Initialise sigmoids from a softmax: classes against background, background against the mean of the classes.

    This is our choice. The authors of these losses train a whole detector, and start from sigmoids with a low prior.
    A cosine classifier is not changed: it removes the norms, and with them what the softmax classifier has learnt.
    """
    if classifier.cosine is None:
        with torch.no_grad():
            for own, trained in ((classifier.weight, base.weight), (classifier.bias, base.bias)):
                own[: base.num_classes] = trained[:-1] - trained[-1]
                if classifier.has_background_row:
                    own[-1] = trained[-1] - trained[:-1].mean(dim=0)
    return classifier
