"""The one abstraction: a Classifier scores proposal features, and knows its loss and its category order.

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
"""Of a loss over the RoIs of a batch: their mean, or one value for each, whose mean that is."""
COUNTS = "counts"
"""In a configuration the value of an argument that training counts give."""

CLASSIFIERS: dict[str, type[Classifier]] = {}
"""Every concrete Classifier by class name; filled as the classes are defined."""


class Classifier(nn.Module, abc.ABC):
    """Scores for C foreground classes and background from the features of proposals.

    Labels are 0..C-1 in category order, C is background. A subclass's constructor takes plain values only
    (numbers, strings, lists), so that ``config()`` and the state dict together are the whole classifier.

    Attributes:
        taps: the features that ``forward`` reads, concatenated in this order: ``fc`` (after the last fully
            connected layer and its ReLU), ``fc_pre_relu`` (before that ReLU), ``conv`` (flattened RoIAlign).
        num_classes: C.
        feature_dim: d, the width of ``features``.
        needs_fit: scores mean nothing before ``fit``.
        base_buffers: where the weight and bias of the trained softmax classifier are kept that this one stands on.
        attended: somebody calls ``begin_epoch`` and ``fit`` in a training: ``training.on_cache``, or in mmengine's
            Runner the ``ClassifierHook``.

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
        """(N, d) features -> (N, K) logits; K is the classifier's own width."""

    @abc.abstractmethod
    def loss(self, logits: Tensor, labels: Tensor, reduction: Reduction = "mean") -> dict[str, Tensor]:
        """Losses, to be summed, of (N, K) logits and (N,) labels.

        Scalars; or (``none``) of shape (N,), whose means are these, so that RoIs can be weighed.

        Raises:
            InputError: the RoIs of this loss cannot be told apart.
        """

    @abc.abstractmethod
    def scores(self, logits: Tensor) -> Tensor:
        """(N, K) logits -> (N, C + 1) scores in category order, background last; need not sum to 1."""

    @abc.abstractmethod
    def class_weights(self) -> Tensor:
        """(C + 1, d) weight rows in category order, helper rows dropped; a row that does not exist is NaN."""

    @abc.abstractmethod
    def category_logits(self, logits: Tensor) -> Tensor:
        """(N, K) logits -> (N, C + 1), of each category the one that its row of ``class_weights`` makes.

        Background last; NaN where there is none.
        """

    def class_biases(self) -> Tensor:
        """(C + 1,) biases beside ``class_weights``; NaN where there is none."""
        return torch.full((self.num_classes + 1,), math.nan)

    def fit(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Compute what is not learned by gradient from (features, labels) batches; nothing by default.

        Where there is a training on cached proposals, it is called before, with the batches of an epoch.
        """

    def begin_epoch(self, done: float) -> None:
        """Told before each epoch of training what share of it is done; for losses that change on the way."""

    @property
    def changes_over_epochs(self) -> bool:
        """Whether ``begin_epoch`` changes the loss."""
        return False

    @classmethod
    def arguments_from(cls, categories: CategoryTable, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the constructor arguments that training counts can give, by name; none here.

        Args:
            categories: in the order of the labels.
            given: the other arguments.
        """
        return {}

    @property
    def lacks_base(self) -> bool:
        """Whether the trained classifier that this one stands on is not there yet."""
        return bool(self.base_buffers) and not bool(getattr(self, self.base_buffers[0]).any())

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        """Take the trained classifier from the checkpoint of a detector that has a plain one in this place."""
        for name, own in zip(("weight", "bias"), self.base_buffers, strict=False):
            if prefix + name in state_dict:
                state_dict.setdefault(prefix + own, state_dict[prefix + name])
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def config(self) -> dict[str, Any]:
        """``type`` and constructor arguments: ``build(config())`` makes an empty twin."""
        names = [name for name in inspect.signature(type(self)).parameters if name != "self"]
        return {"type": type(self).__name__, **{name: getattr(self, name) for name in names}}


def build(config: dict[str, Any]) -> Classifier:
    """Make the classifier that ``config`` (``Classifier.config()``) describes, freshly initialised.

    With ``categories`` (a table, or a path as of ``CategoryTable.read``), training counts give the arguments that are
    left out and have no default, and those given as ``"counts"``.

    Raises:
        ValueError: an unknown type, or arguments that the type does not take.
        InputError: ``categories`` cannot be read, or counts do not give an argument.

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
    """Constructor arguments with those in place that counts give."""
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
    """Return (N,) losses as they are (``none``), or their mean."""
    return losses.mean() if reduction == "mean" else losses


class LinearClassifier(Classifier, base=True):
    """A classifier whose logits are one linear layer of width K: ``z = W h + b`` (section 3.1).

    The parameters are called ``weight`` and ``bias``, so that hosted as a box head's ``fc_cls`` they carry the
    names of mmdet's own checkpoints.

    Args:
        num_classes: C.
        feature_dim: d.
        width: K.
        cosine: where not None, ``z = cosine * cos(W, h) + b`` (mmdet's NormedLinear), under any loss: the norms of W,
            which grow with the training instances, no longer count.

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
        """(N, d) -> (N, K)."""
        if self.cosine is not None:
            features = nn.functional.normalize(features, dim=1)
        return nn.functional.linear(features, self.effective_weight(), self.bias)

    def effective_weight(self) -> Tensor:
        """(K, d) what features (of norm 1 under a cosine) are multiplied by."""
        return self.weight if self.cosine is None else self.cosine * nn.functional.normalize(self.weight, dim=1)

    def rows(self) -> Tensor:
        """(C + 1,) row of W that scores each category, background last."""
        return torch.arange(self.num_classes + 1, device=self.weight.device)

    def category_logits(self, logits: Tensor) -> Tensor:
        """(N, K) -> (N, C + 1)."""
        return logits[:, self.rows()]

    def class_weights(self) -> Tensor:
        """(C + 1, d)."""
        return self.effective_weight().detach()[self.rows()]

    def class_biases(self) -> Tensor:
        """(C + 1,)."""
        return self.bias.detach()[self.rows()]
