"""What a classifier's training starts from: the rows of a trained one, under the other's own scores."""

from __future__ import annotations

import torch

from imbalance_bench.classifiers.base import Classifier, LinearClassifier
from imbalance_bench.classifiers.sigmoid import SigmoidClassifier
from imbalance_bench.classifiers.softmax import SoftmaxClassifier


def continued(classifier: LinearClassifier, base: LinearClassifier | None) -> LinearClassifier:
    """Copy W and b of a trained classifier of the same width, where there is one; the rest stays as it is."""
    if base is not None:
        with torch.no_grad():
            classifier.weight.copy_(base.weight)
            classifier.bias.copy_(base.bias)
    return classifier


def softmax_start(classifier: Classifier) -> Classifier:
    """Make of C sigmoids the softmax whose background has logit 0; any other classifier is returned itself.

    In both, ``exp(z_c)`` is how much likelier class c is than background.
    """
    if not isinstance(classifier, SigmoidClassifier) or classifier.has_background_row or classifier.cosine is not None:
        return classifier
    start = SoftmaxClassifier(classifier.num_classes, classifier.feature_dim)
    with torch.no_grad():
        start.weight.copy_(torch.cat([classifier.weight, torch.zeros_like(classifier.weight[:1])]))
        start.bias.copy_(torch.cat([classifier.bias, torch.zeros_like(classifier.bias[:1])]))
    return start


def sigmoid_start(classifier: SigmoidClassifier, base: LinearClassifier) -> Classifier:
    """Start sigmoids from a softmax: each class against background, and background against the mean of the classes.

    This is a choice of ours, for losses whose authors train a whole detector with them, from sigmoids at a prior.
    A cosine classifier starts anew: the norms that it takes away are what the softmax classifier had learnt.
    """
    if classifier.cosine is None:
        with torch.no_grad():
            for own, trained in ((classifier.weight, base.weight), (classifier.bias, base.bias)):
                own[: base.num_classes] = trained[:-1] - trained[-1]
                if classifier.has_background_row:
                    own[-1] = trained[-1] - trained[:-1].mean(dim=0)
    return classifier
