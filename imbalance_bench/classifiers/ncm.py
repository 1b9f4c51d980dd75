"""Nearest class mean, NCM (section 7.1.2; Table 1 rows 10 and 11)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from imbalance_bench.classifiers.base import Classifier, LinearClassifier, Reduction


class NCMClassifier(Classifier):
    """Softmax over cosine similarities to class centres, times 1 - p(background) of a trained classifier.

    The paper uses the "FC feature just before classifier", which is the input of the classifier after the last ReLU, or
    the "Conv feature extracted by ROI-align", which has no ReLU. Its centres are means over training proposals. The
    released code uses the FC feature before the last ReLU, and computes the centres from ground-truth boxes.

    Logits (N, C + 1): scaled cosines, then the trained classifier's log-odds of background against all classes.
    At scale 1 (the paper) no class can exceed e/(e + C - 1) of the foreground mass; a class without a training
    feature has a zero centre and cosine 0.

    Args:
        num_classes: C.
        feature_dim: width of the features. Centres use the columns before the last ``base_dim``, or all columns
            where the trained classifier reads the same features.
        base_dim: d of the trained classifier.
        scale: inverse temperature s of the cosines.
        taps: ``("fc",)`` or ``("fc_pre_relu",)``, where centres and trained classifier share their
            features (with a ReLU for the classifier), or ``("conv", "fc")``.

    Example:
        >>> classifier = NCMClassifier(num_classes=2, feature_dim=2, base_dim=2, scale=20.0)
        >>> classifier.fit([(torch.tensor([[3.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0, 1]))])
        >>> classifier.centres
        tensor([[2., 0.],
                [0., 1.]])
        >>> classifier.scores(classifier(torch.tensor([[5.0, 0.0]])))
        tensor([[6.6667e-01, 1.3741e-09, 3.3333e-01]])
    """

    centres: Tensor
    base_weight: Tensor
    base_bias: Tensor
    needs_fit: ClassVar[bool] = True
    base_buffers: ClassVar[tuple[str, ...]] = ("base_weight", "base_bias")

    def __init__(
        self,
        num_classes: int,
        feature_dim: int,
        base_dim: int,
        scale: float = 1.0,
        taps: Sequence[str] = ("fc",),
    ) -> None:
        super().__init__(num_classes, feature_dim)
        if tuple(taps) not in (("fc",), ("fc_pre_relu",), ("conv", "fc")):
            raise ValueError(f"NCM has no taps {tuple(taps)}")
        if base_dim < 1 or (feature_dim <= base_dim if len(taps) == 2 else feature_dim != base_dim):
            expected = "more than" if len(taps) == 2 else "exactly"
            raise ValueError(
                f"expected {expected} base_dim = {base_dim} features with taps {tuple(taps)}: {feature_dim}"
            )
        self.base_dim, self.scale, self.taps = base_dim, scale, tuple(taps)
        centre_dim = feature_dim - base_dim if len(self.taps) == 2 else feature_dim
        self.register_buffer("centres", torch.zeros(num_classes, centre_dim))
        self.register_buffer("base_weight", torch.zeros(num_classes + 1, base_dim))
        self.register_buffer("base_bias", torch.zeros(num_classes + 1))

    @classmethod
    def from_base(
        cls,
        base: LinearClassifier,
        centre_dim: int,
        scale: float = 1.0,
        taps: Sequence[str] = ("fc",),
    ) -> NCMClassifier:
        """Build an NCM classifier on a trained softmax classifier, which scores background."""
        dim = centre_dim + base.feature_dim if len(taps) == 2 else centre_dim
        classifier = cls(base.num_classes, dim, base.feature_dim, scale, taps)
        classifier.base_weight.copy_(base.class_weights())
        classifier.base_bias.copy_(base.class_biases())
        return classifier

    def fit(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Compute the centres: the mean feature of each foreground class over the batches."""
        sums = torch.zeros(self.num_classes + 1, self.centres.shape[1], dtype=torch.float64, device=self.centres.device)
        counts = torch.zeros(self.num_classes + 1, dtype=torch.float64, device=self.centres.device)
        for features, labels in batches:
            sums.index_add_(0, labels, features[:, : self.centres.shape[1]].double())
            counts += labels.bincount(minlength=self.num_classes + 1)
        self.centres.copy_((sums / counts.clamp(min=1)[:, None])[:-1])

    def forward(self, features: Tensor) -> Tensor:
        """Compute (N, C + 1) logits from (N, d) features."""
        embedding = features[:, : self.centres.shape[1]]
        cosines = functional.normalize(embedding, dim=1) @ functional.normalize(self.centres, dim=1).T
        base_features = features[:, -self.base_dim :]
        if self.taps == ("fc_pre_relu",):
            base_features = base_features.relu()
        base = functional.linear(base_features, self.base_weight, self.base_bias)
        background = base[:, -1:] - base[:, :-1].logsumexp(dim=1, keepdim=True)
        return torch.cat([self.scale * cosines, background], dim=1)

    def loss(self, logits: Tensor, labels: Tensor, reduction: Reduction = "mean") -> dict[str, Tensor]:
        """Compute ``loss_cls``, the cross entropy of the scores, for monitoring; nothing is trained."""
        scores = self.scores(logits).clamp(min=torch.finfo(logits.dtype).tiny)
        return {"loss_cls": functional.nll_loss(scores.log(), labels, reduction=reduction)}

    def scores(self, logits: Tensor) -> Tensor:
        """Compute (N, C + 1) scores."""
        background = logits[:, -1:].sigmoid()
        return torch.cat([logits[:, :-1].softmax(dim=1) * (1 - background), background], dim=1)

    def category_logits(self, logits: Tensor) -> Tensor:
        """Return (N, C + 1) logits: scaled cosines to the centres, and NaN for background, which has no centre."""
        return functional.pad(logits[:, :-1], (0, 1), value=torch.nan)

    def class_weights(self) -> Tensor:
        """Return the (C + 1, d') centres, which play the role of weights; the row of background is NaN."""
        return functional.pad(self.centres, (0, 0, 0, 1), value=torch.nan)

    has_background_row = False
