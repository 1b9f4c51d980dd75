"""Layers of a detector with a Classifier in their place: a convolution over maps, and a linear layer on queries."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from imbalance_bench.classifiers import Classifier, LinearClassifier, SoftmaxClassifier
from imbalance_bench.detectors.sigmoid_heads import is_linear, logits_of_scores, refusal_in_maps
from imbalance_bench.proposals.blocks import split_rows
from imbalance_bench.runtime.errors import InputError


class HostingConv(nn.Module):
    """A Classifier in the place of a convolution; its output are logits whose sigmoids are the scores.

    Its filters are those of A anchor shapes, one after another: A blocks of the classifier, or all of them. Where
    several convolutions have the blocks of one classifier (levels), one of them registers it as ``fc_cls``.

    Args:
        classifier: on patches in B blocks; one that ``refusal_in_maps`` lets in.
        replaced: the detector's own convolution, with A C filters.
        first: the block of its first anchor shape.
        count: B; None: A.
        registered: the classifier is a part of this module.

    Raises:
        InputError: another classifier.
    """

    def __init__(
        self,
        classifier: Classifier,
        replaced: nn.Conv2d,
        first: int = 0,
        count: int | None = None,
        *,
        registered: bool = True,
    ) -> None:
        super().__init__()
        if (reason := refusal_in_maps(classifier)) is not None:
            raise InputError(f"{type(classifier).__name__}: {reason}")
        if registered:
            self.fc_cls = classifier
        self._hosted = (classifier,)  # in a tuple, so that it is not registered here again
        self.kernel_size, self.padding = replaced.kernel_size, replaced.padding
        self.num_anchors = replaced.out_channels // classifier.num_classes
        self.first, self.count = first, count or self.num_anchors

    def convolution(self) -> tuple[Tensor, Tensor]:
        """Return the (A K, channels, h, w) filters and (A K,) biases that the classifier is here; K is its width."""
        (classifier,) = self._hosted
        assert isinstance(classifier, LinearClassifier)
        weight, bias = split_rows(classifier.weight, classifier.bias, self.count)
        own = slice(self.first, self.first + self.num_anchors)
        return weight[own].flatten(0, 1).unflatten(1, (-1, *self.kernel_size)), bias[own].flatten()

    def forward(self, x: Tensor) -> Tensor:
        """Compute (N, A C, H, W) logits, whose sigmoids are the scores, from (N, channels, H, W) features."""
        weight, bias = self.convolution()
        logits = nn.functional.conv2d(x, weight, bias, padding=self.padding)
        rows = logits.unflatten(1, (self.num_anchors, -1)).movedim(2, -1)
        return logits_of_scores(self._hosted[0], rows).movedim(-1, 2).flatten(1, 2)


class HostingLayer(nn.Module):
    """A Classifier as ``fc_cls`` in the place of a linear layer.

    Its output are logits whose sigmoids are the scores of classes; of a softmax head, logits whose softmax they are,
    or where they are none, their logarithms.

    Args:
        classifier: reads the tap ``fc``, a query's hidden state.
        softmax: the replaced head is a softmax.

    Raises:
        InputError: the classifier reads another tap.
    """

    def __init__(self, classifier: Classifier, softmax: bool) -> None:
        super().__init__()
        if set(classifier.taps) != {"fc"}:
            taps = ", ".join(classifier.taps)
            raise InputError(f"{type(classifier).__name__} reads {taps}, expected what a query has: fc")
        self.fc_cls, self.softmax = classifier, softmax

    def forward(self, x: Tensor) -> Tensor:
        """Compute (N, Q, K) logits from (N, Q, d) hidden states; K = C, or C + 1 of a softmax head."""
        logits = self.fc_cls(x.flatten(0, -2))
        if not self.gives_logits:
            scores = self.fc_cls.scores(logits)
            logits = scores.clamp(min=torch.finfo(scores.dtype).tiny).log() if self.softmax else scores[:, :-1].logit()
        return logits.unflatten(0, x.shape[:-1])

    @property
    def gives_logits(self) -> bool:
        """Whether the classifier's own logits are the model's: a linear layer and its activation."""
        if self.softmax:
            return type(self.fc_cls).scores is SoftmaxClassifier.scores
        return is_linear(self.fc_cls)

    @property
    def gives_scores(self) -> bool:
        """Whether the head's activation makes the classifier's scores of the output: not if they are no softmax."""
        return not self.softmax or self.gives_logits


def aliases(model: nn.Module, name: str) -> list[str]:
    """Return the names of a model's layers that share their weight with a layer, that one first."""
    weight = model.get_submodule(name).weight
    shared = [
        other
        for other, module in model.named_modules(remove_duplicate=False)
        if other != name and isinstance(module, nn.Linear) and module.weight is weight
    ]
    return [name, *shared]
