"""Label over-smoothing, LOS: a softmax retrained with targets that are nearly uniform."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from imbalance_bench.classifiers.base import Reduction
from imbalance_bench.classifiers.softmax import SoftmaxClassifier


class LOSClassifier(SoftmaxClassifier):
    """Label over-smoothing (LOS, arXiv 2403.00250): cross entropy with a target that hardly favours the true class.

    The target of the true class is ``1 - smoothing + smoothing / K``, that of each other class ``smoothing / K``. The
    logits then need not grow, whatever a class's count, and no counts are used. The authors retrain the last layer of
    an image classifier from its trained weights, with 20 epochs and a cosine schedule. They have no background; here it
    is one of the K = C + 1 classes. Scores are small, but their order is what AP needs.

    Args:
        num_classes: C.
        feature_dim: d.
        smoothing: share of the target that is uniform; .98 in the authors' command.
        cosine: of LinearClassifier.

    Example:
        >>> import torch
        >>> classifier = LOSClassifier(num_classes=2, feature_dim=4, smoothing=0.9)
        >>> logits, labels = torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([0])
        >>> classifier.scores(logits)
        tensor([[0.7870, 0.1065, 0.1065]])
        >>> classifier.loss(logits, labels)
        {'loss_cls': tensor(1.4395)}
    """

    def __init__(
        self, num_classes: int, feature_dim: int, smoothing: float = 0.98, cosine: float | None = None
    ) -> None:
        super().__init__(num_classes, feature_dim, cosine=cosine)
        if not 0 <= smoothing <= 1:
            raise ValueError(f"expected smoothing from 0 to 1, got {smoothing}")
        self.smoothing = smoothing

    def loss(self, logits: Tensor, labels: Tensor, reduction: Reduction = "mean") -> dict[str, Tensor]:
        """Compute ``loss_cls`` from (N, C + 1) logits."""
        losses = functional.cross_entropy(logits, labels, reduction=reduction, label_smoothing=self.smoothing)
        return {"loss_cls": losses}
