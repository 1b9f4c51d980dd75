"""Calibrators and calibration errors of detections against slow obvious versions."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from imbalance_bench.evaluation.calibration import Calibration, calibration_error
from imbalance_bench.evaluation.score_fixes import calibrators, measured
from imbalance_bench.evaluation.score_fixes.calibrators import ISOTONIC, PLATT, fit, isotonic, platt, pooled, table
from imbalance_bench.evaluation.score_fixes.outcomes import CENTRES, LEVELS, Counts, drawn_sums
from imbalance_bench.evaluation.score_fixes.pooling import STRENGTHS, choose, own_share
from imbalance_bench.evaluation.score_fixes.thresholds import f1
from imbalance_bench.evaluation.score_fixes.thresholds import fit as fit_thresholds

WIDTH = len(LEVELS)


def counts(seed, rows=4, fewest=0):
    """Detections in some of the cells, and the sums of their targets."""
    rng = np.random.default_rng(seed)
    seen = rng.poisson(3, (rows, WIDTH)) * (rng.random((rows, WIDTH)) < 0.3) + fewest
    slope, shift = np.exp(rng.normal(0, 0.5, (rows, 1))), rng.normal(0, 1, (rows, 1))
    return seen.astype(float), rng.binomial(seen, expit(slope * CENTRES + shift)).astype(float)


def test_levels_and_centres():
    assert LEVELS[0] == 0 and (np.diff(LEVELS) > 0).all() and LEVELS[-1] < 1
    assert {0.05, 0.1, 0.37, 0.5, 0.9} <= set(LEVELS.tolist())
    inner = expit(CENTRES[1:-1])
    assert (inner > LEVELS[1:-1]).all() and (inner < LEVELS[2:]).all()
    assert expit(CENTRES[0]) < LEVELS[1] and expit(CENTRES[-1]) > LEVELS[-1]


@pytest.mark.parametrize("seed", range(3))
def test_platt_is_the_least_cross_entropy(seed):
    seen, target = counts(seed)
    found = platt(seen, target)
    for row in range(len(seen)):

        def loss(parameters, row=row):
            logits = parameters[0] * CENTRES + parameters[1]
            return (seen[row] * np.logaddexp(0, logits) - target[row] * logits).sum()

        best = minimize(loss, [1.0, 0.0], bounds=[(0, None), (None, None)], method="L-BFGS-B")
        assert loss(found[row]) == pytest.approx(best.fun, rel=1e-5)
        np.testing.assert_allclose(found[row], best.x, atol=0.02)


def test_platt_where_scores_say_the_contrary_or_all():
    seen = np.zeros((4, WIDTH))
    seen[:, [20, 120]] = 50
    target = np.zeros_like(seen)
    target[0, 20] = target[1, 120] = 50  # false above right: a constant; right above false: a slope that is finite
    target[2] = seen[2]
    found = platt(seen, target)
    assert found[0, 0] == 0 and expit(found[0, 1]) == pytest.approx(0.5, abs=0.01)
    assert np.isfinite(found).all()
    values = table(PLATT, seen, target)
    assert values[1, 20] < 0.05 and values[1, 120] > 0.95
    assert values[2, [20, 120]].min() > 0.9 and values[3, [20, 120]].max() < 0.1
    assert (np.diff(values, axis=1) >= 0).all()


def test_platt_of_a_calibrated_score_is_the_score():
    seen = np.full((1, WIDTH), 1e4)
    np.testing.assert_allclose(platt(seen, seen * expit(CENTRES)), [[1, 0]], atol=1e-6)
    np.testing.assert_allclose(platt(seen, seen * expit(0.5 * CENTRES - 2)), [[0.5, -2]], atol=1e-5)


def mean(sums, first, last):
    """Mean target of some cells, by cumulated sums."""
    return (sums[0][last + 1] - sums[0][first]) / (sums[1][last + 1] - sums[1][first])


@pytest.mark.parametrize("seed", range(3))
def test_isotonic_is_the_monotone_function_with_the_least_squares(seed):
    seen, target = counts(seed)
    values = isotonic(seen, target)
    for row in range(len(seen)):
        cells = np.flatnonzero(seen[row])
        # The greatest, over starts to the left, of the least mean to an end to the right (Robertson et al., 1988).
        sums = [np.concatenate([[0], column[row, cells].cumsum()]) for column in (target, seen)]
        expected = [
            max(min(mean(sums, i, k) for k in range(j, len(cells))) for i in range(j + 1)) for j in range(len(cells))
        ]
        np.testing.assert_allclose(values[row, cells], expected, atol=1e-9)
        np.testing.assert_allclose(values[row], np.interp(range(WIDTH), cells, expected), atol=1e-9)


def test_isotonic_of_nothing_is_the_score():
    seen, target = counts(0)
    seen[2] = target[2] = 0
    np.testing.assert_array_equal(isotonic(seen, target)[2], expit(CENTRES))
    np.testing.assert_array_equal(isotonic(seen[2:3], target[2:3])[0], expit(CENTRES))


@pytest.mark.parametrize("strength", [0.0, 10.0, 1000.0])
def test_borrowed_detections_are_distributed_as_those_of_the_bin(strength):
    seen, target = counts(3)
    seen[1] = target[1] = 0
    bins = np.array([1, 1, 2, 2])
    mixed = pooled(seen, target, bins, strength)
    for number, (own, result) in enumerate(zip((seen, target), mixed, strict=True)):
        overall = own.sum(axis=0) / seen.sum()
        for row, group in enumerate(bins):
            of_bin = own[bins == group].sum(axis=0) + strength * overall
            of_bin /= seen[bins == group].sum() + strength
            expected = own[row] + strength * of_bin
            if row == 1:  # a class without detections
                np.testing.assert_allclose(result[row] / mixed[0][row].sum(), of_bin)
                continue
            np.testing.assert_allclose(result[row], expected, err_msg=str(number))
    assert pooled(seen, target, bins, np.inf)[0].shape == (1, WIDTH)


@pytest.mark.parametrize("kind", [PLATT, ISOTONIC])
def test_how_much_classes_borrow_is_chosen_on_folds_that_are_left_out(kind):
    parts = [counts(seed) for seed in range(4)]
    bins = np.array([1, 1, 2, 2])
    seen, target = (np.stack(column) for column in zip(*parts, strict=True))
    errors = {}
    for strength in STRENGTHS:
        squares, number = np.zeros(4), np.zeros(4)
        for fold in range(4):
            others = [f for f in range(4) if (f - fold) % 2]  # of two halves, the other
            values = table(kind, *pooled(seen[others].sum(axis=0), target[others].sum(axis=0), bins, strength))
            for row, own in enumerate(np.broadcast_to(values, (4, WIDTH))):
                # Each detection's target is 0 or 1.
                squares[row] += (target[fold, row] * (1 - own) ** 2).sum()
                squares[row] += ((seen[fold, row] - target[fold, row]) * own**2).sum()
                number[row] += seen[fold, row].sum()
        errors[strength] = (squares / number).mean()
    fitted = fit(kind, Counts(seen, target), bins)
    assert fitted.strength == min(errors, key=errors.get)
    expected = table(kind, *pooled(seen.sum(axis=0), target.sum(axis=0), bins, fitted.strength))
    np.testing.assert_allclose(fitted.tables[calibrators.PER_CLASS], np.broadcast_to(expected, (4, WIDTH)))
    assert (fitted.tables[calibrators.ONE] == fitted.tables[calibrators.ONE][0]).all()


def test_choice_of_the_strength():
    assert choose([[0]], lambda out, strength: np.zeros(1), lambda sums: 0.0) == np.inf
    assert choose([[0], [1, 2]], lambda out, strength: np.array(out[:1]), lambda sums: 5.0) == np.inf
    best = choose([[0], [1], [2]], lambda out, strength: np.array([min(strength, 1e6)]), lambda s: -abs(s[0] - 300))
    assert best == 100  # 300 in three splits
    assert own_share(np.array([0.0, 10.0]), 0.0).tolist() == [0, 1]
    assert own_share(np.array([0.0, 10.0]), 10.0).tolist() == [0, 0.5]
    assert own_share(np.array([0.0, 10.0]), np.inf).tolist() == [0, 0]


def test_threshold_per_class_is_that_of_the_mixed_f1():
    rng = np.random.default_rng(0)
    parts = [counts(seed, rows=5) for seed in range(3)]
    seen, target = (np.stack(column) for column in zip(*parts, strict=True))
    boxes = rng.integers(1, 60, (3, 5)).astype(float)
    boxes[:, 3] = 0
    bins = np.array([1, 1, 2, 2, 2])

    def best(folds, strength):
        curves = []
        for row in range(5):
            right, kept = (column[folds, row].sum(axis=0)[::-1].cumsum()[::-1] for column in (target, seen))
            number = boxes[folds, row].sum()
            curves.append(2 * right / (kept + number) if number else np.zeros(WIDTH))
        curves, number = np.array(curves), boxes[folds].sum(axis=0)
        overall = curves[number > 0].mean(axis=0)
        levels = []
        for row in range(5):
            own = (bins == bins[row]) & (number > 0)
            group = number[bins == bins[row]].sum()
            of_bin = (group * curves[own].mean(axis=0) + strength * overall) / (group + strength)
            mixed = (number[row] * curves[row] + strength * of_bin) / (number[row] + strength)
            levels.append(int(np.argmax(mixed)))
        return levels

    def held_out_f1(strength):
        sums = np.zeros((3, 5))
        for fold in range(3):
            for row, level in enumerate(best([f for f in range(3) if f != fold], strength)):
                sums[:, row] += target[fold, row, level:].sum(), seen[fold, row, level:].sum(), boxes[fold, row]
        return np.nanmean(f1(*sums))

    fitted = fit_thresholds(Counts(seen, target), boxes, bins)
    finite = [s for s in STRENGTHS if 0 < s < np.inf]
    values = {s: held_out_f1(s) for s in finite}
    if fitted.strength in finite:
        assert values[fitted.strength] == pytest.approx(max(values.values()), abs=1e-9)
        assert fitted.levels["per class"].tolist() == best([0, 1, 2], fitted.strength)
    shares = fitted.shares(bins)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert shares[3, 0] == 0


def detections(seed, size=400, classes=5, images=12):
    rng = np.random.default_rng(seed)
    scores = np.round(rng.random(size), 2)  # some at the ends of intervals
    right = rng.random(size) < scores**2
    return SimpleNamespace(
        images=rng.integers(images, size=size), labels=rng.integers(classes - 1, size=size), num_classes=classes,
        targets={"right": right.astype(float), "iou": np.where(right, rng.uniform(0.5, 1, size), 0.0)},
        truth_images=rng.integers(images, size=60), truth_labels=rng.integers(classes, size=60), scores=scores,
    )  # fmt: skip


GROUPS = {"all": np.arange(5), "1": np.array([0, 1]), "2": np.array([2, 4]), "3": np.array([4])}


def repeated(found, draw):
    """The detections of images as often as a draw has them."""
    rows = np.repeat(np.arange(len(found.images)), draw[found.images])
    return rows


@pytest.mark.parametrize("seed", range(3))
def test_errors_are_those_of_their_definitions(seed):
    found = detections(seed)
    draws = np.random.default_rng(seed).integers(0, 4, (3, 12))
    draws[0] = 1
    every = np.arange(len(found.images))
    rated = measured.Rated(found, every, found.scores, draws.T.astype(float))
    d_ece = measured.detection_ece(rated, GROUPS)
    of_class = measured.ece_of_classes(rated, "right", 10)
    laece = measured.ece_of_classes(rated, "iou", measured.LOCALISATION_STEPS)
    laace = measured.localisation_ace(rated)
    for number, draw in enumerate(draws):
        rows = repeated(found, draw)
        labels, scores = found.labels[rows], found.scores[rows]
        whole = Calibration(4 + 1, steps=10)
        whole.add(labels, scores, found.targets["right"][rows])
        expected = calibration_error(whole.curve(GROUPS))
        np.testing.assert_allclose(of_class[:4, number], whole.error_by_label()[:4])
        for name in ("all", "1", "2"):
            assert d_ece.loc[number, name] == pytest.approx(expected[name])
        assert np.isnan(d_ece.loc[number, "3"])
        for label in range(4):
            own = rows[labels == label]
            score, iou = found.scores[own], found.targets["iou"][own]
            error = 0.0
            for step in range(25):
                inside = np.floor(np.minimum(score, 0.999) * 25) == step
                if inside.any():
                    error += inside.mean() * abs(score[inside].mean() - iou[inside].mean())
            assert laece[label, number] == pytest.approx(error)
            assert laace[label, number] == pytest.approx(np.abs(score - iou).mean())
        assert np.isnan(laece[4, number]) and np.isnan(laace[4, number])


def test_operating_points_of_draws_are_those_of_repeated_images():
    found = detections(7)
    draws = np.random.default_rng(0).integers(0, 3, (3, 12))
    kept = found.scores > 0.4
    points = measured.operating_point(found, kept, draws.T.astype(float))
    for number, draw in enumerate(draws):
        rows = repeated(found, draw)
        for label in range(5):
            own = rows[(found.labels[rows] == label) & kept[rows]]
            boxes = draw[found.truth_images[found.truth_labels == label]].sum()
            right = found.targets["right"][own].sum()
            expected = {
                "precision": right / len(own) if len(own) and boxes else np.nan,
                "recall": right / boxes if boxes else np.nan,
                "f1": 2 * right / (len(own) + boxes) if boxes else np.nan,
            }
            assert {name: values[label, number] for name, values in points.items()} == pytest.approx(
                expected, nan_ok=True
            )


def test_means_and_intervals_leave_out_classes_without_a_value():
    values = np.array([[0.2, np.nan, 0.4], [0.1, 0.5, np.nan]]).T
    means = measured.by_group(values, {"all": np.arange(3), "1": np.array([1]), "2": np.array([], dtype=int)})
    assert means["all"].tolist() == pytest.approx([0.3, 0.3])
    assert means["1"].tolist() == pytest.approx([np.nan, 0.5], nan_ok=True) and means["2"].isna().all()
    draws = pd.DataFrame({"all": [0.5, *np.linspace(0.5, 1.5, 101)]})
    assert measured.with_interval(draws, "x").loc["all"].tolist() == pytest.approx([0.5, -0.475, 0.475])
    assert measured.share_with_interval(draws, "x").loc["all"].tolist() == pytest.approx([0.5, 0, 0.475])


def test_sums_over_drawn_images():
    draws = np.array([[1, 1, 1], [0, 2, 1]]).T
    sums = drawn_sums(draws, np.array([0, 1, 1, 2]), np.array([0, 0, 1, 1]), 3, np.array([1.0, 2.0, 4.0, 8.0]))
    assert sums.T.tolist() == [[3, 12, 0], [4, 16, 0]]
    assert drawn_sums(draws, np.array([0, 1]), np.array([0, 0]), 1).tolist() == [[2, 2]]
