"""Bootstrap intervals: the results that another draw of validation images, or of classes, could have given.

*Over images* (``uncertainty``, ``compare``, ``diagnose``): images drawn with replacement, AP of each draw, runs
compared in pairs. It tells what another set of validation images of the same size could have given. *Over classes*
(``evaluate``, correlations of weight norms): a bin's classes drawn with replacement; AP1 of LVIS v0.5 rests on 67
classes and 173 boxes. Neither tells what another training seed would give: intervals *over seeds* are Student's
(``analyses.beyond``).

All are of one kind, reflected ("basic"): 2 value - quantile (``bounds``). AP is biased upwards on few images (the
precision envelope takes maxima over few points), and a draw, having fewer distinct images, is biased once more: draws
lie higher than the value itself, and reflection takes that bias off. On subsets of 75 of 300 images, nominal 95 %
intervals of mAP held the mAP of all 300 in 97 % of cases, percentile intervals in 10 to 33 %; of paired differences in
93 to 98 % (percentile: 58 to 100 %). Over classes there is no such bias, and the two differ little (simulated, 16
skewed APs: 84 %, percentile 87 %; 67: 92 and 93 %). Where a run finds next to nothing in a bin, either covers badly.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from imbalance_bench.categories import CategoryTable
from imbalance_bench.evaluation.matching import Matches, average_precision
from imbalance_bench.evaluation.measures import AP

LEVEL = 0.95


def ap_of_draws(matches: Matches, *, resamples: int = 200, seed: int = 0) -> np.ndarray:
    """Compute the AP of each category on all images, and on images drawn with replacement.

    The draws of runs on equally many images are the same.

    Args:
        matches: matches of a run.
        resamples: R, number of draws.
        seed: seed of the random generator.

    Returns:
        (1 + R, C) fractions, all images in the first row; NaN where no image has a box of the category.
    """
    count = len(matches.image_ids)
    weights = np.concatenate([np.ones((1, count), np.int64), draw_images(count, resamples, seed)])
    return average_precision(matches, weights)


def draw_images(count: int, resamples: int, seed: int) -> np.ndarray:
    """Draw images with replacement: return (R, I) how often each of ``count`` images occurs in each draw."""
    return np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)


def mean_ap(ap: np.ndarray, categories: CategoryTable) -> pd.DataFrame:
    """Compute the keys of ``measures.AP`` for (R, C) APs: R rows, columns ``mAP``, ``AP1``.., ``APr``.. ."""
    frame, (means,) = pd.DataFrame(ap), AP.means
    return pd.DataFrame({key: frame[labels].mean(axis=1) for key, labels in means.groups(categories).items()})


def bounds(values: pd.Series, draws: pd.DataFrame) -> pd.DataFrame:
    """Compute ``low`` and ``high`` of each value, reflected quantiles of its draws (one column each), NaN left out."""
    low = 2 * values - draws.quantile((1 + LEVEL) / 2)
    high = 2 * values - draws.quantile((1 - LEVEL) / 2)
    return pd.DataFrame({"low": low, "high": high}, dtype=np.float64)


def over_classes(
    values: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], *, resamples: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """Return a statistic over classes and the bounds of its 95 % interval, with classes drawn with replacement.

    Args:
        values: (n, ...) values of each class.
        statistic: (R, n, ...) values of the classes of R draws -> (R,); draws with the result NaN are left out.
        resamples: number of draws.
        seed: seed of the random generator.
    """
    drawn = np.random.default_rng(seed).integers(len(values), size=(resamples, len(values)))
    value = float(statistic(values[None])[0])
    limits = bounds(pd.Series({"value": value}), pd.DataFrame({"value": statistic(values[drawn])})).loc["value"]
    return value, float(limits["low"]), float(limits["high"])


def interval_over_classes(
    values: pd.Series | np.ndarray, *, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Compute the 95 % interval of a mean over classes, with classes drawn with replacement.

    Args:
        values: fractions of a group's classes; NaN (no ground truth) are left out.
        resamples: number of draws.
        seed: seed of the random generator.

    Returns:
        (low, high) within 0 and 1; NaN without a value.
    """
    present = np.asarray(values, dtype=np.float64)
    present = present[~np.isnan(present)]
    if len(present) == 0:
        return float("nan"), float("nan")
    _, low, high = over_classes(present, lambda draws: draws.mean(axis=1), resamples=resamples, seed=seed)
    return min(max(low, 0.0), 1.0), min(max(high, 0.0), 1.0)
