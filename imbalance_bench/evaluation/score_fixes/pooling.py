"""A class with few boxes borrows from its bin, and a bin with few boxes from all classes.

Whatever is fitted to a class optimises a mean of two objectives: its own, with the weight of its boxes (or detections),
and that of its bin, with the weight of ``strength`` more of them. The objective of the bin is mixed with that of all
classes in the same way. The strength is chosen by cross-validation among ``STRENGTHS``, from one fit for all classes
(infinity) to each class alone (0). A class gets a fit of its own only if such fits help on images they have not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

STRENGTHS = (np.inf, 1000.0, 100.0, 10.0, 0.0)


def own_share(weight: np.ndarray, strength: float) -> np.ndarray:
    """Return the share of the own objective of weights (boxes or detections) of any shape; 0 where both are 0."""
    if np.isinf(strength):
        return np.zeros(np.shape(weight))
    total = weight + strength
    share: np.ndarray = np.divide(weight, total, out=np.zeros(np.shape(weight)), where=total > 0)
    return share


def choose(
    splits: Sequence[list[int]],
    measured: Callable[[list[int], float], np.ndarray],
    goodness: Callable[[np.ndarray], float],
) -> float:
    """Return the strength that is best on folds that are left out.

    Args:
        splits: the folds that are left out, in turn; with fewer than two, all classes get one fit.
        measured: (left out, strength) -> sums over these folds, with a fit to the other folds.
        goodness: value of these sums, added over the splits; of equal values, the fit that borrows most is chosen.
    """
    if len(splits) < 2:
        return STRENGTHS[0]
    values = [goodness(np.sum([measured(out, strength) for out in splits], axis=0)) for strength in STRENGTHS]
    return STRENGTHS[int(np.argmax(values))]
