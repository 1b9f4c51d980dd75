"""Fitting on arrays, for all methods of the catalogue that only need features, labels and counts."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from numpy.typing import ArrayLike

from imbalance_bench import methods
from imbalance_bench.categories import CategoryTable
from imbalance_bench.classifiers import Classifier, softmax_start
from imbalance_bench.methods import Run
from imbalance_bench.proposals import proposal_set
from imbalance_bench.proposals.proposal_set import ProposalSet
from imbalance_bench.runtime.devices import resolve_device
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.schedule import Schedule
from imbalance_bench.training.on_cache import train_classifier

ROWS, IMAGES = 512, 16
"""Default batch size: rows without images (the number of RoIs of an image), else images (section 5.1)."""
WARMUP = 500
"""Iterations of the warm-up at most (section 5.1); it is no longer than an epoch."""


def fit(
    method: str,
    features: ArrayLike | Mapping[str, ArrayLike],
    labels: ArrayLike,
    counts: ArrayLike | CategoryTable,
    *,
    variant: str | None = None,
    start: Classifier | None = None,
    image_ids: ArrayLike | None = None,
    epochs: int = 12,
    lr: float = 0.01,
    batch_size: int | None = None,
    seed: int = 0,
    device: str = "auto",
) -> Classifier:
    """Fit the classifier of a method to features from a detector or any other network.

    The schedule is the paper's (section 5.1): SGD with momentum, steps of a tenth after 2/3 and 11/12 of the epochs.

    Args:
        method: name in ``METHODS``: one that trains the classifier alone (``bags``, ``seesaw``, ``eqlv2``, ...) or
            nothing (``tau-norm``, ``ncm-fc``, ...), or ``baseline``, the plain softmax.
        features: (N, d) numbers, what the classifier reads; or, for methods that read other features as well
            (``ncm-conv``), a mapping of ``fc``, ``fc_pre_relu`` and ``conv`` to arrays of N rows.
        labels: (N,) whole numbers: 0..C-1, and C for background.
        counts: (C,) training instances of each class, or the whole table, which knows images and bins as well.
        variant: of the method: a name, or settings such as ``beta=16,others=false``; None for the default.
        start: the trained softmax classifier that the method starts from or keeps; without it, one is trained first,
            with the same schedule.
        image_ids: (N,) image of each row. Batches then consist of whole images, as in a detector. Methods that draw
            images by their classes need it.
        epochs: passes over the rows.
        lr: peak learning rate.
        batch_size: rows of an update (512), or images where ``image_ids`` are given (16).
        seed: of initial weights, of the order of rows, and of what a loss draws.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Returns:
        The classifier, on the CPU, in evaluation mode: ``scores(classifier(x))`` is (N, C + 1), background last.

    Raises:
        InputError: an unknown method or variant; one that trains the detector, or reads annotations; arrays of the
            wrong shape or kind, NaN, a label beyond C; training diverged.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> counts = np.array([400, 40, 4])
        >>> labels = np.repeat([0, 1, 2, 3], [400, 40, 4, 1000])
        >>> features = 3 * np.eye(4)[labels] + rng.normal(size=(1444, 4))
        >>> bags = fit("bags", features, labels, counts, epochs=4, lr=0.1, batch_size=64)
        >>> bags.groups, tuple(bags.scores(bags(torch.zeros(5, 4))).shape)
        ([3, 2, 1], (5, 4))
    """
    run = methods.get(method).run(variant)
    table = counts if isinstance(counts, CategoryTable) else CategoryTable.from_arrays(counts)
    _check_run(run, image_ids is not None)
    given = features if isinstance(features, Mapping) else {"fc": features}
    taps = {name: ProposalSet.from_arrays(array, labels, image_ids=image_ids) for name, array in given.items()}
    if not taps:
        raise InputError("features: none is given, expected at least 'fc'")
    own_labels = next(iter(taps.values())).labels
    if not len(own_labels):
        raise InputError("features: no rows, expected at least one")
    if own_labels.max() > table.num_classes:
        raise InputError(
            f"labels: {own_labels.max()} is among them, expected 0..{table.num_classes - 1}, and {table.num_classes} "
            f"for background, as 'counts' has {table.num_classes} classes"
        )
    dims = _Widths({name: part.features[0].dim for name, part in taps.items()})
    if start is not None:
        _check_start(start, table, dims)
    if epochs < 1 or (batch_size is not None and batch_size < 1) or not lr > 0:
        raise InputError(f"epochs, batch_size and lr: {epochs}, {batch_size} and {lr}, expected more than 0")
    size = batch_size or (ROWS if image_ids is None else IMAGES)
    iterations = -(-next(iter(taps.values())).num_images // size)
    schedule = Schedule(
        epochs=epochs,
        lr=lr,
        batch_size=size,
        milestones=(round(epochs * 2 / 3), round(epochs * 11 / 12)),
        warmup_iterations=min(WARMUP, iterations),
    )
    place = resolve_device(device)

    def fitted(run: Run, start: Classifier | None) -> Classifier:
        """Fit the classifier that a run starts from, then the classifier of the run."""
        before = methods.start_of(run)
        if start is None and before is not None:
            start = fitted(before, None)
        torch.manual_seed(seed)
        classifier = run.build(table, dims, None if start is None else softmax_start(start))
        sources = ["fc_pre_relu" if tap == "fc" and "fc" not in taps else tap for tap in classifier.taps]
        relu = [source != tap for source, tap in zip(sources, classifier.taps, strict=True)]
        read = proposal_set.join([taps[source] for source in sources], relu)
        if run.trains_nothing:
            classifier.fit(read.chunks())
        else:
            train_classifier(classifier, read, schedule, seed, sampling=run.method.sampling, device=place)
        return classifier.eval()

    with torch.random.fork_rng(devices=[]):
        return fitted(run, start)


class _Widths(dict[str, int]):
    """The width of each given tap; ``fc`` is the ReLU of ``fc_pre_relu``."""

    def __missing__(self, tap: str) -> int:
        if tap == "fc" and "fc_pre_relu" in self:
            return self["fc_pre_relu"]
        raise InputError(f"features: the method reads '{tap}', expected a mapping that has it beside {', '.join(self)}")


def _check_run(run: Run, with_images: bool) -> None:
    """Check that a run needs no more than arrays.

    Raises:
        InputError: they are not; the message says what is missing.
    """
    method = run.method
    plain = run.starts_from_scratch and method.sampling == "uniform"  # of a detector its classifier is left
    if not run.keeps_detector and not plain:
        raise InputError(
            f"method: '{run}' trains more of a detector than its classifier ({run.trains}), expected one that trains "
            "the classifier alone, or nothing"
        )
    if method.statistics:
        raise InputError(
            f"method: '{run}' reads the training annotations ({', '.join(method.statistics)}), expected one that needs "
            "features, labels and counts"
        )
    if method.sampling != "uniform" and not with_images:
        raise InputError(f"image_ids: '{run}' draws images by their classes, expected the image of each row")
    if run.fits_ground_truth:
        raise InputError(
            f"variant: '{run}' takes its centres from ground-truth boxes alone, which arrays do not tell apart; "
            "expected one that takes all rows"
        )


def _check_start(start: Classifier, table: CategoryTable, dims: _Widths) -> None:
    """Check that the classifier to start from has the same classes and features.

    Raises:
        InputError: its classes or features differ.
    """
    if (start.num_classes, start.feature_dim) != (table.num_classes, dims["fc"]):
        raise InputError(
            f"start: {type(start).__name__} of {start.num_classes} classes and {start.feature_dim} features, expected "
            f"{table.num_classes} and {dims['fc']}"
        )
