"""Predictions of a classifier for proposals, against slow loops."""

import numpy as np
import pytest

from imbalance_bench.categories import CategoryTable
from imbalance_bench.evaluation.calibration import calibration_error
from imbalance_bench.evaluation.predictions import (
    Predictions,
    accuracy_by_group,
    destinations,
    losses_by_class,
    reliability,
)

COUNTS = np.array([5, 2000, 50, 300, 0])
CATEGORIES = CategoryTable(np.arange(1, 6), tuple("abcde"), COUNTS, COUNTS, ("r", "f", "c", "f", "r"))
"""Bins 1, 4, 2, 3, 1; background is 5."""


@pytest.fixture
def said() -> Predictions:
    rng = np.random.default_rng(0)
    size, images = 400, 8
    labels = rng.choice(6, size, p=[0.1, 0.2, 0.1, 0.1, 0.0, 0.5])
    predicted = np.where(rng.random(size) < 0.5, labels, rng.choice([1, 2, 3, 5], size))
    return Predictions(np.sort(rng.integers(0, images, size)), labels, predicted, rng.random(size, np.float32), images)


def test_accuracy_by_group(said: Predictions) -> None:
    frame = accuracy_by_group(said, CATEGORIES)
    bins = [*CATEGORIES.bins, 0]
    for group in (1, 2, 3, 4, 0):
        own = [i for i, label in enumerate(said.labels) if bins[label] == group]
        right = sum(said.labels[i] == said.predicted[i] for i in own)
        lost = sum(said.predicted[i] == 5 and said.labels[i] != 5 for i in own)
        row = frame.loc[str(group) if group else "background"]
        assert row["proposals"] == len(own)
        assert row["accuracy"] == pytest.approx(right / len(own))
        assert row["as_background"] == pytest.approx(lost / len(own))
        assert row["low"] <= row["accuracy"] <= row["high"]
        assert row["low"] < row["high"]


def test_destinations(said: Predictions) -> None:
    frame = destinations(said, CATEGORIES)
    assert frame.index.tolist() == ["1", "2", "3", "4", "background"]
    bins = [*CATEGORIES.bins, 0]
    for name, row in frame.iterrows():
        own = [i for i, label in enumerate(said.labels) if bins[label] == (0 if name == "background" else int(name))]
        for column in frame:
            count = 0
            for i in own:
                if said.labels[i] == said.predicted[i]:
                    went = "right"
                else:
                    went = "background" if said.predicted[i] == 5 else f"bin {bins[said.predicted[i]]}"
                count += went == column
            assert row[column] == pytest.approx(count / len(own))


def test_losses_by_class(said: Predictions) -> None:
    frame = losses_by_class(said, CATEGORIES)
    assert set(frame.index) == {0, 1, 2, 3}, "no proposal of the last class"
    assert frame["accuracy"].is_monotonic_increasing
    for label, row in frame.iterrows():
        to = said.predicted[said.labels == label]
        assert row["proposals"] == len(to)
        assert row["accuracy"] == pytest.approx(np.mean(to == label))
        assert row["as_background"] == pytest.approx(np.mean(to == 5))
        more = [c for c in range(5) if COUNTS[c] > COUNTS[label]]
        assert row["as_more"] == pytest.approx(np.isin(to, more).mean())
        shares = row[["accuracy", "as_background", "as_more", "as_fewer"]]
        assert shares.sum() == pytest.approx(1)
        takers = {c: np.mean(to == c) for c in range(5) if c != label and (to == c).any()}
        assert dict(row["taken_by"]) == pytest.approx(dict(sorted(takers.items(), key=lambda t: -t[1])[:3]))


def test_reliability(said: Predictions) -> None:
    curve = reliability(said, CATEGORIES, steps=5)
    errors = calibration_error(curve)
    bins = np.array([*CATEGORIES.bins, 0])[said.predicted]
    for group in ("all", "1", "2", "3", "4", "background"):
        own = bins > 0 if group == "all" else bins == (0 if group == "background" else int(group))
        error = 0.0
        for step in range(5):
            inside = own & (said.confidence >= step / 5) & (said.confidence < (step + 1) / 5)
            if not inside.any():
                continue
            (row,) = curve[(curve["group"] == group) & np.isclose(curve["low"], step / 5)].itertuples()
            assert row.proposals == inside.sum()
            accuracy, confidence = said.correct[inside].mean(), said.confidence[inside].mean()
            assert row.accuracy == pytest.approx(accuracy)
            assert row.confidence == pytest.approx(confidence, rel=1e-5)
            error += inside.sum() / own.sum() * abs(accuracy - confidence)
        assert errors[group] == pytest.approx(error, rel=1e-4)


def test_perfect_predictions() -> None:
    labels = np.array([0, 1, 5])
    said = Predictions(np.array([0, 0, 1]), labels, labels, np.ones(3, np.float32), 2)
    assert (calibration_error(reliability(said, CATEGORIES)) == 0).all()
    assert (losses_by_class(said, CATEGORIES)["accuracy"] == 1).all()
