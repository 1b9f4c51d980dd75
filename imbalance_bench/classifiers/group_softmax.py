"""Balanced group softmax, BAGS (section 4; Table 1 row 14, Tables 4 and 5, Figure 4)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from imbalance_bench.categories import CategoryTable
from imbalance_bench.classifiers.base import LinearClassifier, Reduction
from imbalance_bench.classifiers.groups import groups_by_count


class _GroupEntropies(torch.autograd.Function):
    """The mean softmax cross entropy of each group over the RoIs that count in it, with its gradient in one pass.

    Autograd would make a gradient matrix with the width of all groups, mostly zeros, for each group. Here all groups
    share one matrix.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, slices: list[tuple[int, int]], targets: Tensor, counted: Tensor) -> Tensor:
        """Compute (G,) losses of the G groups from (N, K) logits, and store the gradient.

        ``slices`` holds (start, length) of each group, ``targets`` (G, N) indices within the groups, ``counted`` a
        (G, N) mask of the RoIs that count.
        """
        gradient = torch.zeros_like(logits)
        one_pass = _on_rows_that_count if logits.device.type == "cpu" else _on_all_rows
        losses = one_pass(logits, gradient, slices, targets, counted)
        ctx.save_for_backward(gradient)
        ctx.slices = slices
        return losses

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None, None]:
        """Multiply the gradient of each group by the incoming gradient of its loss."""
        (gradient,), (weights,) = ctx.saved_tensors, grad_outputs
        if weights.device.type == "cpu" and bool((weights == 1).all()):
            return gradient, None, None, None
        lengths = torch.tensor([length for _, length in ctx.slices], device=weights.device)
        first = ctx.slices[0][0]  # logits before the first group are in none
        scale = weights.repeat_interleave(lengths, output_size=gradient.shape[1] - first)
        return gradient * functional.pad(scale, (first, 0)), None, None, None


def _on_all_rows(
    logits: Tensor, gradient: Tensor, slices: list[tuple[int, int]], targets: Tensor, counted: Tensor
) -> Tensor:
    """Compute (G,) losses and fill the gradient, without a synchronisation with the GPU."""
    weights = counted.to(logits)
    weights /= weights.sum(dim=1, keepdim=True).clamp(min=1)
    losses = []
    for (start, length), target, weight in zip(slices, targets[:, :, None], weights[:, :, None], strict=True):
        log_p = logits.narrow(1, start, length).log_softmax(dim=1)
        losses.append(-(log_p.gather(1, target) * weight).sum())
        share = log_p.exp_().scatter_add_(1, target, -torch.ones_like(weight))
        torch.mul(share, weight, out=gradient.narrow(1, start, length))
    return torch.stack(losses)


def _on_rows_that_count(
    logits: Tensor, gradient: Tensor, slices: list[tuple[int, int]], targets: Tensor, counted: Tensor
) -> Tensor:
    """Compute the same as ``_on_all_rows``, faster on a CPU: only with the RoIs that count in a group.

    Few RoIs count in a tail group, and on a CPU the call of every operation takes noticeable time.
    """
    totals = counted.sum(dim=1).tolist()
    rows_of, targets_of = torch.split(counted.nonzero()[:, 1], totals), torch.split(targets[counted], totals)
    losses = []
    for (start, length), total, rows, target in zip(slices, totals, rows_of, targets_of, strict=True):
        if total == 0:
            losses.append(logits.new_zeros(()))
            continue
        part, own, every = logits.narrow(1, start, length), gradient.narrow(1, start, length), total == len(logits)
        log_p = (part if every else part.index_select(0, rows)).log_softmax(dim=1)
        losses.append(functional.nll_loss(log_p, target))
        share = log_p.exp_().scatter_(1, target[:, None], -1, reduce="add")
        if every:
            torch.mul(share, 1 / total, out=own)
        else:
            own.index_copy_(0, rows, share.mul_(1 / total))
    return torch.stack(losses)


def _shares(logits: Tensor, slices: list[tuple[int, int]], targets: Tensor, counted: Tensor) -> list[Tensor]:
    """Compute (N,) loss terms for each group; their mean is the entropy of the group.

    The term of a RoI is its cross entropy times N over the number of RoIs that count; 0 where it does not count.
    """
    weights = counted.to(logits) * (len(logits) / counted.sum(dim=1, keepdim=True).clamp(min=1))
    return [
        weight * functional.cross_entropy(logits.narrow(1, start, length), target, reduction="none")
        for (start, length), target, weight in zip(slices, targets, weights, strict=True)
    ]


class GroupSoftmaxClassifier(LinearClassifier):
    """A softmax within groups of classes of similar size, calibrated by *others* and a background group.

    Logit layout: group 0 = [background, foreground], then for n = 1..N group n = [others, its classes in
    ascending label order]; the width is C + 1 + (N + 1). Without the background group, its two logits are
    absent; without *others*, the first logit of each group is absent.

    The paper has two versions of group 0. In section 4.1 it has one prediction, that of background, with a sigmoid
    cross entropy (``background_loss="sigmoid"``, the variant ``paper``), and the width is C + 1 + N. Section 4.2 adds
    *others*, here foreground, to every group, with a softmax in each, and the width is C + 1 + N + 1. This version was
    released (``"softmax"``). The one logit corresponds to the difference of the two; the scores agree, but training
    differs. Eq. 5 of section 4.2 is for one proposal; here the loss of each group is a mean over the RoIs that count.

    In group n all RoIs of its classes count. Of the RoIs whose target is *others*, a random sample of
    ``floor(beta * foreground of the group)`` counts (section 4.3). The loss of a group is the mean over the RoIs that
    count. It is exactly 0 if the batch holds no foreground of the group.

    Args:
        num_classes: C.
        feature_dim: d.
        groups: C group numbers 1..N (``groups_by_count``).
        beta: others sampled per foreground RoI; ``"n"``: all others of the activated groups; ``"all"``: all
            others of all groups (Figure 4).
        others: add the category *others* to groups 1..N (Table 4, o).
        background: add group 0 and rescale by its p(foreground) (Table 4, b).
        background_loss: ``"softmax"``: two logits, as released and in section 4.2; ``"sigmoid"``: one, section 4.1.
        cosine: of LinearClassifier.

    Example:
        >>> classifier = GroupSoftmaxClassifier(num_classes=3, feature_dim=4, groups=[1, 2, 2])
        >>> classifier.slices  # of groups 1 and 2, behind [background, foreground]
        [(2, 2), (4, 3)]
        >>> logits, labels = torch.zeros(2, 7), torch.tensor([0, 3])
        >>> classifier.scores(logits)
        tensor([[0.2500, 0.1667, 0.1667, 0.5000],
                [0.2500, 0.1667, 0.1667, 0.5000]])
        >>> classifier.loss(logits, labels)
        {'loss_bg': tensor(0.6931), 'loss_group1': tensor(0.6931), 'loss_group2': tensor(0.)}
    """

    column_of_label: Tensor
    group_of_label: Tensor
    starts: Tensor

    def __init__(
        self,
        num_classes: int,
        feature_dim: int,
        groups: Sequence[int],
        beta: float | str = 8.0,
        others: bool = True,
        background: bool = True,
        background_loss: str = "softmax",
        cosine: float | None = None,
    ) -> None:
        # Only as many groups are counted as there can be: a configuration may come from a file.
        sizes = [list(groups).count(n) for n in range(1, min(max(groups, default=0), num_classes) + 1)]
        if (
            max(groups, default=0) > num_classes
            or len(groups) != num_classes
            or min(groups, default=0) < 1
            or 0 in sizes
        ):
            raise ValueError(f"expected a group 1..N for each of {num_classes} classes and no group empty: {sizes}")
        if beta not in ("n", "all") and not (isinstance(beta, (int, float)) and beta >= 0):
            raise ValueError(f"expected beta to be a number >= 0, 'n' or 'all', got {beta!r}")
        if background_loss not in ("softmax", "sigmoid"):
            raise ValueError(f"expected background_loss 'softmax' or 'sigmoid', got {background_loss!r}")
        head = (2 if background_loss == "softmax" else 1) if background else 0
        helper = int(others)
        lengths = [size + helper for size in sizes]
        super().__init__(num_classes, feature_dim, head + sum(lengths), cosine)
        self.groups, self.beta = list(groups), beta
        self.others, self.background, self.background_loss = others, background, background_loss
        self.background_width = head
        starts = [head + sum(lengths[:n]) for n in range(len(lengths))]
        self.slices = list(zip(starts, lengths, strict=True))
        """(start, length) of groups 1..N in the logits."""

        column = torch.zeros(num_classes, dtype=torch.long)
        for n, start in enumerate(starts, start=1):
            members = torch.tensor([label for label, group in enumerate(groups) if group == n])
            column[members] = torch.arange(len(members)) + start + helper
        self.register_buffer("column_of_label", column, persistent=False)
        self.register_buffer("starts", torch.tensor(starts), persistent=False)
        # Background has no group: 0.
        self.register_buffer("group_of_label", torch.tensor([*groups, 0]), persistent=False)

    @property
    def has_background_row(self) -> bool:  # type: ignore[override]
        """Whether background has its own logit."""
        return self.background

    @classmethod
    def arguments_from(cls, categories: CategoryTable, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return ``groups``: one group for each bin of training instances (section 4.1)."""
        return {"groups": groups_by_count(categories.instance_counts, categories.bin_edges)}

    def loss(self, logits: Tensor, labels: Tensor, reduction: Reduction = "mean") -> dict[str, Tensor]:
        """Compute ``loss_bg`` over all RoIs and ``loss_group1..N`` over sampled RoIs (Eq. 5), each with weight 1."""
        if logits.dtype in (torch.float16, torch.bfloat16):
            logits = logits.float()
        losses, slices = {}, list(self.slices)
        numbers = torch.arange(1, len(slices) + 1, device=labels.device)[:, None]
        members = self.group_of_label[labels] == numbers  # (groups, N)
        counted = self._sample(members) if self.others else members
        # Others is index 0; where there is none, foreign RoIs do not count and their target is arbitrary.
        columns = self.column_of_label[labels.clamp(max=self.num_classes - 1)]
        targets = torch.where(members, columns - self.starts[:, None], 0)
        foreground = labels != self.num_classes
        softmax_background = self.background and self.background_loss == "softmax"
        if softmax_background:
            # One group more, in which every RoI counts.
            slices.insert(0, (0, self.background_width))
            targets = torch.cat([foreground.long()[None], targets])
            counted = torch.cat([torch.ones_like(foreground)[None], counted])
        elif self.background:
            binary, target = logits[:, 0], (~foreground).to(logits.dtype)
            losses["loss_bg"] = functional.binary_cross_entropy_with_logits(binary, target, reduction=reduction)
        names = [f"loss_group{n}" for n in range(1, len(self.slices) + 1)]
        if softmax_background:
            names.insert(0, "loss_bg")
        if reduction == "none":
            return losses | dict(zip(names, _shares(logits, slices, targets, counted), strict=True))
        entropies = _GroupEntropies.apply(logits, slices, targets, counted)  # type: ignore[no-untyped-call]
        return losses | dict(zip(names, entropies.unbind(), strict=True))

    def _sample(self, foreground: Tensor) -> Tensor:
        """Return a (groups, N) mask of the RoIs that count in each group: its foreground and the sampled others."""
        count = foreground.sum(dim=1, keepdim=True)
        if self.beta == "all":
            return torch.ones_like(foreground)
        if self.beta == "n":
            return foreground | (count > 0)
        # Random ranks among the others: no host synchronisation, and all of them where m >= #others.
        keys = torch.rand(foreground.shape, device=foreground.device).masked_fill(foreground, math.inf)
        most = (float(self.beta) * count).floor()
        if keys.device.type != "cpu":
            return foreground | (keys.argsort(dim=1).argsort(dim=1) < most)
        # On a CPU only the groups that leave some out are looked through, and not sorted.
        counted = foreground | (most >= foreground.shape[1] - count)
        for group, (number, all_count) in enumerate(zip(most[:, 0].tolist(), counted.all(dim=1).tolist(), strict=True)):
            if number > 0 and not all_count:
                counted[group, keys[group].topk(int(number), largest=False, sorted=False).indices] = True
        return counted

    def scores(self, logits: Tensor) -> Tensor:
        """Compute (N, C + 1) scores: softmax in each group, without *others*, times p(foreground) (section 4.4).

        Without group 0 nothing is rescaled; p(background) is then the product of p(others) of all groups, or 0
        if there is no *others* either.
        """
        probabilities, others = logits.new_empty(logits.shape), logits.new_ones(len(logits))
        for start, length in self.slices:
            group = logits[:, start : start + length].softmax(dim=1)
            probabilities[:, start : start + length] = group
            others = others * group[:, 0]
        foreground = probabilities[:, self.column_of_label]
        if self.background:
            if self.background_loss == "sigmoid":
                background = logits[:, 0].sigmoid()
            else:
                background = logits[:, :2].softmax(dim=1)[:, 0]
            foreground = foreground * (1 - background)[:, None]
        else:
            background = others if self.others else torch.zeros_like(others)
        return torch.cat([foreground, background[:, None]], dim=1)

    def rows(self) -> Tensor:
        """Return, for each of the C + 1 categories, the index of its row in W; background is row 0 of group 0."""
        return torch.cat([self.column_of_label, self.column_of_label.new_zeros(1)])

    def category_logits(self, logits: Tensor) -> Tensor:
        """Return (N, C + 1) logits without helper columns; NaN for background if there is no group 0."""
        own = super().category_logits(logits)
        return own if self.background else functional.pad(own[:, :-1], (0, 1), value=math.nan)

    def class_weights(self) -> Tensor:
        """Return the (C + 1, d) weight rows without helper rows; NaN for background if there is no group 0."""
        weights = super().class_weights()
        if not self.background:
            weights[-1] = math.nan
        return weights

    def class_biases(self) -> Tensor:
        """Return the (C + 1,) biases that belong to ``class_weights``."""
        biases = super().class_biases()
        if not self.background:
            biases[-1] = math.nan
        return biases
