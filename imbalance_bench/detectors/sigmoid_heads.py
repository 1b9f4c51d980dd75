"""Heads that score a class by a sigmoid of its own, and background by nothing: which classifiers take their place.

Sigmoids without a row for background do, as the head computes them itself. BAGS does, too: its background group is
trained anew, and the sigmoid of what it puts out is its score.
"""

from __future__ import annotations

import torch
from torch import Tensor

from imbalance_bench.classifiers import Classifier, GroupSoftmaxClassifier, LinearClassifier, SigmoidClassifier


def refusal(classifier: Classifier) -> str | None:
    """Return why a classifier cannot take the place of sigmoids without background; None if it can."""
    if isinstance(classifier, GroupSoftmaxClassifier):
        return None
    if isinstance(classifier, SigmoidClassifier) and not classifier.has_background_row:
        return None
    if not classifier.has_background_row:
        return "it is no linear layer"
    return "it scores background by a row of its own, and a head of sigmoids has none"


def refusal_in_maps(classifier: Classifier) -> str | None:
    """Return why a classifier cannot be a convolution of a head with sigmoids alone; None if it can."""
    if isinstance(classifier, LinearClassifier) and refusal(classifier) is None and classifier.cosine is not None:
        return "its cosine divides by the norm of a patch"
    return refusal(classifier)


def logits_of_scores(classifier: Classifier, logits: Tensor) -> Tensor:
    """Return (..., C) logits whose sigmoids are a classifier's scores, from its own (..., K) logits."""
    if is_linear(classifier):
        return logits
    return torch.logit(classifier.scores(logits.flatten(0, -2))[:, :-1]).unflatten(0, logits.shape[:-1])


def is_linear(classifier: Classifier) -> bool:
    """Return whether the detector's own head computes the same scores from W and b: a linear layer and sigmoids."""
    if not isinstance(classifier, SigmoidClassifier) or classifier.has_background_row or classifier.cosine is not None:
        return False
    kind = type(classifier)
    return (kind.scores, kind.probabilities) == (SigmoidClassifier.scores, SigmoidClassifier.probabilities)
