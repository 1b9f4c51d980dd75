"""The base class of all classifiers: it scores proposal features, and defines its loss and its category order.

The same object serves inside a detector's box head, on cached proposals, and post hoc on a checkpoint.
"""

from __future__ import annotations

import abc
import inspect
import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from imbalance_bench.categories import CategoryTable
from imbalance_bench.runtime.errors import InputError

Reduction = Literal["mean", "none"]
"""Whether a loss is the mean over the RoIs of a batch, or one value for each RoI, with the same mean."""
COUNTS = "counts"
"""Value of an argument in a configuration that is to be computed from training counts."""

CLASSIFIERS: dict[str, type[Classifier]] = {}
"""Every concrete Classifier by class name; filled as the classes are defined."""


class Classifier(nn.Module, abc.ABC):
    """A classifier of proposals: it computes scores of C foreground classes and background from features.

    Labels are 0..C-1 in category order, C is background. A subclass's constructor takes plain values only
    (numbers, strings, lists), so that ``config()`` and the state dict together are the whole classifier.

    Attributes:
        taps: the features that ``forward`` reads, concatenated in this order: ``fc`` (after the last fully
            connected layer and its ReLU), ``fc_pre_relu`` (before that ReLU), ``conv`` (flattened RoIAlign).
        num_classes: C.
        feature_dim: d, the width of ``features``.
        needs_fit: the scores are meaningless before ``fit``.
        base_buffers: names of the buffers with the weight and bias of the trained softmax classifier, if one is needed.
        attended: ``begin_epoch`` and ``fit`` are called during training: by ``training.on_cache``, or by the
            ``ClassifierHook`` in mmengine's Runner.

    Example:
        >>> classifier = build({"type": "SoftmaxClassifier", "num_classes": 2, "feature_dim": 4})
        >>> classifier(torch.ones(5, 4)).shape, classifier.class_weights().shape
        (torch.Size([5, 3]), torch.Size([3, 4]))
        >>> classifier.config()
        {'type': 'SoftmaxClassifier', 'num_classes': 2, 'feature_dim': 4, 'loss_weights': None, 'cosine': None}
    """

    taps: tuple[str, ...] = ("fc",)
    has_background_row: ClassVar[bool] = True
    needs_fit: ClassVar[bool] = False
    base_buffers: ClassVar[tuple[str, ...]] = ()
    attended = False

    def __init__(self, num_classes: int, feature_dim: int) -> None:
        super().__init__()
        if num_classes < 1 or feature_dim < 1:
            raise ValueError(f"expected num_classes and feature_dim >= 1, got {num_classes} and {feature_dim}")
        self.num_classes = num_classes
        self.feature_dim = feature_dim

    def __init_subclass__(cls, base: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not base:
            CLASSIFIERS[cls.__name__] = cls

    @abc.abstractmethod
    def forward(self, features: Tensor) -> Tensor:
        """Compute (N, K) logits from (N, d) features; K depends on the classifier."""

    @abc.abstractmethod
    def loss(self, logits: Tensor, labels: Tensor, reduction: Reduction = "mean") -> dict[str, Tensor]:
        """Compute the losses of (N, K) logits and (N,) labels, by name; their sum is the training loss.

        Each loss is a scalar. With ``none`` it has shape (N,) and the same mean, so that RoIs can be weighted.

        Raises:
            InputError: this loss cannot be computed for each RoI.
        """

    @abc.abstractmethod
    def scores(self, logits: Tensor) -> Tensor:
        """Compute (N, C + 1) scores in category order, background last; the sum of a row may differ from 1."""

    @abc.abstractmethod
    def class_weights(self) -> Tensor:
        """Return the (C + 1, d) weight rows in category order, without helper rows; a missing row is NaN."""

    @abc.abstractmethod
    def category_logits(self, logits: Tensor) -> Tensor:
        """Return (N, C + 1) logits from (N, K): for each category the logit of its row in ``class_weights``.

        Background is last; it is NaN where no row scores background.
        """

    def class_biases(self) -> Tensor:
        """Return the (C + 1,) biases that belong to ``class_weights``; NaN for a category without a bias."""
        return torch.full((self.num_classes + 1,), math.nan)

    def fit(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Compute what is not learned by gradient, from batches of (features, labels); by default nothing.

        Training on cached proposals calls it before the first epoch, with the batches of one epoch.
        """

    def begin_epoch(self, done: float) -> None:
        """Receive the finished share of the training before each epoch, for losses that change over time."""

    @property
    def changes_over_epochs(self) -> bool:
        """Whether ``begin_epoch`` changes the loss."""
        return False

    @classmethod
    def arguments_from(cls, categories: CategoryTable, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the constructor arguments that can be computed from training counts, by name; none here.

        Args:
            categories: in the order of the labels.
            given: the other arguments.
        """
        return {}

    @property
    def lacks_base(self) -> bool:
        """Whether the trained classifier that this classifier needs has not been loaded yet."""
        return bool(self.base_buffers) and not bool(getattr(self, self.base_buffers[0]).any())

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        """Load a state dict; a plain classifier in the checkpoint becomes the trained base of this classifier."""
        for name, own in zip(("weight", "bias"), self.base_buffers, strict=False):
            if prefix + name in state_dict:
                state_dict.setdefault(prefix + own, state_dict[prefix + name])
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def config(self) -> dict[str, Any]:
        """Return ``type`` and the constructor arguments; ``build(config())`` makes a new, untrained copy."""
        names = [name for name in inspect.signature(type(self)).parameters if name != "self"]
        return {"type": type(self).__name__, **{name: getattr(self, name) for name in names}}


def build(config: dict[str, Any]) -> Classifier:
    """Build the classifier that ``config`` (``Classifier.config()``) describes, freshly initialised.

    With ``categories`` (a table, or a path that ``CategoryTable.read`` accepts), the arguments that are left out and
    have no default, and those given as ``"counts"``, are computed from training counts.

    Raises:
        ValueError: an unknown type, or arguments that the type does not take.
        InputError: ``categories`` cannot be read, or an argument cannot be computed from counts.

    Example:
        >>> table = CategoryTable.from_arrays([4, 120, 2500])
        >>> build({"type": "GroupSoftmaxClassifier", "feature_dim": 8, "categories": table}).groups
        [1, 2, 3]
    """
    arguments = dict(config)
    name = arguments.pop("type", None)
    if name not in CLASSIFIERS:
        raise ValueError(f"unknown classifier type {name!r}, expected one of {', '.join(sorted(CLASSIFIERS))}")
    arguments = _counted(CLASSIFIERS[name], arguments)
    try:
        return CLASSIFIERS[name](**arguments)
    except TypeError as error:
        raise ValueError(f"classifier {name}: {error}") from error


def _counted(kind: type[Classifier], arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the constructor arguments, completed with those that training counts give."""
    source = arguments.pop("categories", None)
    asked = [name for name, value in arguments.items() if isinstance(value, str) and value == COUNTS]
    if source is None:
        if asked:
            raise InputError(f"classifier {kind.__name__}: {asked[0]}='{COUNTS}' needs 'categories', which is missing")
        return arguments
    table = source if isinstance(source, CategoryTable) else CategoryTable.read(source)
    parameters = inspect.signature(kind).parameters.items()
    asked += [name for name, p in parameters if p.default is inspect.Parameter.empty and name not in arguments]
    found = {"num_classes": table.num_classes, **kind.arguments_from(table, arguments)}
    for name in asked:
        if name in found:
            arguments[name] = found[name]
        elif name in arguments:
            raise InputError(f"classifier {kind.__name__}: training counts do not give '{name}'")
    return arguments


def reduced(losses: Tensor, reduction: Reduction) -> Tensor:
    """Return (N,) losses unchanged (``none``), or their mean."""
    return losses.mean() if reduction == "mean" else losses


class LinearClassifier(Classifier, base=True):
    """A classifier whose logits are one linear layer of width K: ``z = W h + b`` (section 3.1).

    The parameters are called ``weight`` and ``bias``. As ``fc_cls`` of a box head they then have the same names as in
    mmdet's own checkpoints.

    Args:
        num_classes: C.
        feature_dim: d.
        width: K.
        cosine: where not None, ``z = cosine * cos(W, h) + b`` (mmdet's NormedLinear), with any loss: the norms of W,
            which grow with the training instances, then have no effect.

    Example:
        >>> from imbalance_bench.classifiers import SoftmaxClassifier
        >>> classifier = SoftmaxClassifier(num_classes=2, feature_dim=4, cosine=20.0)
        >>> classifier.class_weights().norm(dim=1).round().tolist()
        [20.0, 20.0, 20.0]
    """

    def __init__(self, num_classes: int, feature_dim: int, width: int, cosine: float | None = None) -> None:
        super().__init__(num_classes, feature_dim)
        self.cosine = cosine
        self.weight = nn.Parameter(torch.empty(width, feature_dim))
        self.bias = nn.Parameter(torch.zeros(width))
        nn.init.normal_(self.weight, std=0.01)  # mmdet's initialisation of fc_cls

    def forward(self, features: Tensor) -> Tensor:
        """Compute (N, K) logits from (N, d) features."""
        if self.cosine is not None:
            features = nn.functional.normalize(features, dim=1)
        return nn.functional.linear(features, self.effective_weight(), self.bias)

    def effective_weight(self) -> Tensor:
        """Return the (K, d) matrix that multiplies the features (features of norm 1 with a cosine)."""
        return self.weight if self.cosine is None else self.cosine * nn.functional.normalize(self.weight, dim=1)

    def rows(self) -> Tensor:
        """Return, for each of the C + 1 categories, the index of its row in W; background last."""
        return torch.arange(self.num_classes + 1, device=self.weight.device)

    def category_logits(self, logits: Tensor) -> Tensor:
        """Return (N, C + 1) logits in category order from (N, K) logits."""
        return logits[:, self.rows()]

    def class_weights(self) -> Tensor:
        """Return the (C + 1, d) weight rows in category order."""
        return self.effective_weight().detach()[self.rows()]

    def class_biases(self) -> Tensor:
        """Return the (C + 1,) biases in category order."""
        return self.bias.detach()[self.rows()]
