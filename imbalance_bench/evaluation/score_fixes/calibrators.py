"""Platt and isotonic calibration of scores, for all classes or each (arXiv 2405.20459).

A calibrator is a monotone function of the score, given by its value in each cell of the grid. Platt: the logit x of the
score becomes a x + b, a >= 0, with the least cross entropy, of targets between 0 and 1 too. Isotonic: the monotone
function with the least squares.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression
from scipy.special import expit

from imbalance_bench.evaluation.score_fixes.outcomes import CENTRES, Counts
from imbalance_bench.evaluation.score_fixes.pooling import choose
from imbalance_bench.runtime.equality import ByValue

PLATT, ISOTONIC = "Platt", "isotonic"
KINDS = (PLATT, ISOTONIC)
ONE, ALONE, PER_CLASS = "one for all classes", "per class, alone", "per class"
SCOPES = (ONE, ALONE, PER_CLASS)
"""Which detections a calibrator is fitted to; ``per class`` borrows from bins and from all classes (``pooling``)."""

_RIDGE = 1e-3  # towards the score as it is: keeps the slope finite where right and false detections do not overlap
_STEPS = 30
_CLOSE = 1e-4  # of slope and intercept


@dataclass(frozen=True, eq=False)
class Calibrators(ByValue):
    """Fitted calibrators of one kind.

    Attributes:
        tables: for each of ``SCOPES`` the (C, T) calibrated scores of the cells.
        strength: detections that a class borrows with ``per class``.
    """

    tables: dict[str, np.ndarray]
    strength: float


def fit(kind: str, counts: Counts, bins: np.ndarray) -> Calibrators:
    """Fit the calibrators of all scopes.

    Args:
        kind: one of ``KINDS``.
        counts: of one target, in folds.
        bins: (C,) bin of each class.
    """
    seen, target, every = counts.seen, counts.target, list(range(len(counts.seen)))

    def sums(folds: list[int]) -> tuple[np.ndarray, np.ndarray]:
        return seen[folds].sum(axis=0), target[folds].sum(axis=0)

    def measured(out: list[int], strength: float) -> np.ndarray:
        values = table(kind, *pooled(*sums([fold for fold in every if fold not in out]), bins, strength))
        number, total = sums(out)
        # The squared error of all detections, less the squares of the targets, which are the same for all strengths.
        return np.stack([(values * (number * values - 2 * total)).sum(axis=1), number.sum(axis=1)])

    def goodness(errors: np.ndarray) -> float:
        some = errors[1] > 0
        return -float((errors[0, some] / errors[1, some]).mean()) if some.any() else 0.0

    halves = [half for half in (every[::2], every[1::2]) if half]
    strength = choose(halves, measured, goodness)
    strengths = {ONE: np.inf, ALONE: 0.0, PER_CLASS: strength}
    tables = {scope: table(kind, *pooled(*sums(every), bins, s)) for scope, s in strengths.items()}
    return Calibrators({scope: np.broadcast_to(values, seen.shape[1:]) for scope, values in tables.items()}, strength)


def pooled(seen: np.ndarray, target: np.ndarray, bins: np.ndarray, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """Add to the (C, T) counts of each class ``strength`` detections distributed as those of its bin.

    To those of the bin, as many distributed as those of all classes are added first. A class without detections gets
    the counts of its bin, and a bin without any those of all classes.

    Returns:
        The (C, T) detections and the sums of their targets; one row for infinite strength.
    """
    counts = np.stack([seen, target])
    overall = counts.sum(axis=1)
    if np.isinf(strength):
        return overall[0][None], overall[1][None]
    mixed = np.empty_like(counts)
    for group in np.unique(bins):
        rows = bins == group
        of_bin = _borrow(counts[:, rows].sum(axis=1)[:, None], overall, strength)[:, 0]
        mixed[:, rows] = _borrow(counts[:, rows], of_bin, strength)
    return mixed[0], mixed[1]


def _borrow(counts: np.ndarray, lender: np.ndarray, strength: float) -> np.ndarray:
    """Add ``strength`` detections of the (2, T) lender to each of (2, n, T) counts, and all of it to empty ones."""
    number = lender[0].sum()
    share = np.where(counts[0].sum(axis=1) > 0, strength / number if number else 0.0, 1.0)
    return np.asarray(counts + share[:, None] * lender[:, None])


def table(kind: str, seen: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Fit a calibrator to each row of (n, T) counts; return its (n, T) values."""
    if kind == PLATT:
        slope, shift = platt(seen, target).T[:, :, None]
        return np.asarray(expit(slope * CENTRES + shift))
    return isotonic(seen, target)


def platt(seen: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Fit (slope, intercept) to each row of (n, T) counts by Newton's method; return (n, 2)."""
    cells = np.flatnonzero(seen.any(axis=0))
    seen, target, x = seen[:, cells], target[:, cells], CENTRES[cells]
    start = np.array([[1.0, 0.0]])
    if len(seen) > 1:
        start = _newton(seen.sum(axis=0)[None], target.sum(axis=0)[None], x, start)
    found = _newton(seen, target, x, np.repeat(start, len(seen), axis=0))
    falling = found[:, 0] < 0
    found[falling, 0] = 0
    found[falling] = _newton(seen[falling], target[falling], np.zeros_like(x), found[falling])
    return found


def _newton(seen: np.ndarray, target: np.ndarray, x: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Minimise the cross entropy of each row over (slope, intercept), with a weak pull to the start."""
    powers = np.stack([x**2, x, np.ones_like(x)], axis=1)
    found, active = start.copy(), np.arange(len(seen))
    before = np.full(len(seen), np.inf)
    last = np.zeros_like(start)  # the step that led to ``found``
    for _ in range(_STEPS):
        here = found[active]
        logits = here[:, :1] * x + here[:, 1:]
        right = expit(logits)
        pull = here - start[active]
        # log(1 + exp(z)) = max(z, 0) - log(expit(|z|))
        loss = seen[active] * (np.maximum(logits, 0) - np.log(np.maximum(right, 1 - right))) - target[active] * logits
        loss = loss.sum(axis=1) + _RIDGE / 2 * (pull**2).sum(axis=1)
        worse = loss > before[active] + 1e-9 * np.abs(before[active])
        gradient = (seen[active] * right - target[active]) @ powers[:, 1:] + _RIDGE * pull
        aa, ab, bb = ((seen[active] * right * (1 - right)) @ powers).T
        aa, bb = aa + _RIDGE, bb + _RIDGE
        step = np.stack([bb * gradient[:, 0] - ab * gradient[:, 1], aa * gradient[:, 1] - ab * gradient[:, 0]], axis=1)
        step /= (ab**2 - aa * bb)[:, None]
        step[worse] = -last[active[worse]] / 2  # half of the way back
        before[active[~worse]] = loss[~worse]
        last[active] = np.where(worse[:, None], last[active] / 2, step)
        found[active] += step
        active = active[np.abs(step).max(axis=1) > _CLOSE]
        if len(active) == 0:
            break
    return found


def isotonic(seen: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Fit a monotone function to each row of (n, T) counts; empty cells are interpolated, and constant at both ends.

    A row without detections gets the score as it is.
    """
    row, cell = np.nonzero(seen)
    values = np.tile(expit(CENTRES), (len(seen), 1))
    if len(row) == 0:
        return values
    # One regression of all rows: each is 2 above the one before, so none is merged with it.
    mean = target[row, cell] / seen[row, cell] + 2.0 * row
    values[row, cell] = np.clip(isotonic_regression(mean, weights=seen[row, cell]).x - 2.0 * row, 0, 1)
    known = seen > 0
    some, first, last = np.flatnonzero(known.any(axis=1)), known.argmax(axis=1), -1 - known[:, ::-1].argmax(axis=1)
    for end, nearest in ((0, first), (-1, last)):
        values[some, end] = values[some, nearest[some]]
        known[some, end] = True
    places = np.flatnonzero(known[some])
    values[some] = np.interp(np.arange(len(some) * seen.shape[1]), places, values[some].ravel()[places]).reshape(
        len(some), -1
    )
    return values
