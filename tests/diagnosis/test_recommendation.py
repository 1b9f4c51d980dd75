"""The recommended fix, and what the rule that chooses it is worth on images that it did not choose on."""

import numpy as np
import pandas as pd
import pytest

from imbalance_bench.diagnosis.conclusions import by_heart, of_training_images
from imbalance_bench.diagnosis.fixes import _low_of_many
from imbalance_bench.diagnosis.recommendation import check_rule, draw_halves, recommend
from imbalance_bench.evaluation.bootstrap import draw_images

COLUMNS = ["tail_gain", "tail_low_of_many", "head_gain"]


def test_recommendation() -> None:
    rows = {"a": (0.05, 0.03, -0.06), "b": (0.04, 0.02, 0.0), "c": (0.06, -0.01, 0.0), "baseline": (0.0, 0.0, 0.0)}
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=COLUMNS)
    assert recommend(frame) == "b"
    assert recommend(frame.drop(index="b")) is None, "it loses more than it gains"
    assert recommend(frame.loc[["c", "baseline"]]) is None, "it may be chance"


@pytest.mark.parametrize("count", [2, 7, 8])
def test_halves(count: int) -> None:
    one, other = draw_halves(count, 50, 3)
    assert np.isin(one, (0, 1)).all() and (one + other == 1).all() and (one.sum(axis=1) == count // 2).all()
    assert len(np.unique(one, axis=0)) > 1 and (one == draw_halves(count, 50, 3)[0]).all()


def _study(gain: dict[str, float], noise: float, seed: int, images: int = 40, halves: int = 60) -> tuple[
    pd.DataFrame, dict[str, pd.DataFrame], dict[str, pd.DataFrame]
]:  # fmt: skip
    """Make runs whose AP is a mean over images, with a true gain on the tail and noise in every image."""
    rng = np.random.default_rng(seed)
    of_image = {
        name: {
            group: (value if group == "tail" else 0) + rng.normal(0, noise, images) for group in ("tail", "head", "mAP")
        }
        for name, value in {"baseline": 0.0, **gain}.items()
    }
    weights = draw_halves(images, halves, seed)

    def ap(drawn: np.ndarray) -> dict[str, pd.DataFrame]:
        return {
            name: pd.DataFrame({group: drawn @ values / drawn.sum(axis=1) for group, values in of.items()})
            for name, of in of_image.items()
        }

    rows = {}
    for name in gain:
        tail = of_image[name]["tail"] - of_image["baseline"]["tail"]
        head = of_image[name]["head"] - of_image["baseline"]["head"]
        rows[name] = (tail.mean(), tail.mean() - 1.96 * tail.std() / np.sqrt(images), head.mean())
    return pd.DataFrame.from_dict(rows, orient="index", columns=COLUMNS), ap(weights[0]), ap(weights[1])


def test_it_is_what_choosing_on_each_half_gives() -> None:
    """Against the rule itself, half after half."""
    fixes, chosen_on, measured_on = _study({"a": 0.02, "b": 0.03, "c": -0.01}, 0.05, seed=1)
    found = check_rule(fixes, chosen_on, measured_on)
    chosen, gained = [], []
    for half in range(60):
        rows = {}
        for name in fixes.index:
            tail, head = ((chosen_on[name] - chosen_on["baseline"]).loc[half, group] for group in ("tail", "head"))
            width = fixes.loc[name, "tail_gain"] - fixes.loc[name, "tail_low_of_many"]
            rows[name] = (tail, tail - np.sqrt(2) * width, head)
        name = recommend(pd.DataFrame.from_dict(rows, orient="index", columns=COLUMNS))
        chosen.append(name or "")
        gained.append(
            (measured_on[name] - measured_on["baseline"]).loc[half]
            if name
            else pd.Series(0.0, measured_on["a"].columns)
        )
    assert found["halves"] == 60 and found["chosen"] == pd.Series(chosen).value_counts().to_dict()
    assert len(found["chosen"]) > 1
    for group in ("tail", "head", "mAP"):
        values = np.array([row[group] for row in gained])
        assert found[group]["gain"] == pytest.approx(values.mean())
        assert [found[group]["low"], found[group]["high"]] == pytest.approx(np.quantile(values, [0.025, 0.975]))


def test_the_best_of_many_looks_better_than_it_is() -> None:
    """Thirty methods that do nothing: the best seems to gain, what the rule is worth is nothing."""
    best, worth = [], []
    for seed in range(30):
        fixes, *halves = _study({f"method {n}": 0.0 for n in range(30)}, 0.1, seed)
        best.append(fixes["tail_gain"].max())
        worth.append(check_rule(fixes, *halves)["tail"]["gain"])
    error = np.std(worth) / np.sqrt(len(worth))
    assert np.mean(best) > 0.03
    assert abs(np.mean(worth)) < 3 * error and np.mean(worth) < np.mean(best) / 5


def test_a_real_gain_is_found_and_measured() -> None:
    fixes, *halves = _study({"real": 0.2, **{f"none {n}": 0.0 for n in range(10)}}, 0.1, seed=0)
    found = check_rule(fixes, *halves)
    assert found["chosen"] == {"real": 60} and found["tail"]["gain"] == pytest.approx(0.2, abs=0.05)
    assert found["tail"]["low"] > 0.1


def test_halves_without_a_tail_class_choose_nothing_and_measure_nothing() -> None:
    fixes, chosen_on, measured_on = _study({"real": 0.2}, 0.01, seed=0)
    for name in ("real", "baseline"):
        chosen_on[name].loc[:9, "tail"] = np.nan
        measured_on[name].loc[50:, "tail"] = np.nan
    found = check_rule(fixes, chosen_on, measured_on)
    assert found["chosen"] == {"real": 50, "": 10}
    assert found["tail"]["gain"] == pytest.approx(0.2 * 40 / 50, abs=0.02), "ten halves chose nothing, ten say nothing"


def test_a_detector_that_knows_its_training_images_by_heart() -> None:
    assert of_training_images(0.6, 0.5) == "mAP is 60.0 on training images and 50.0 on validation images."
    assert "by heart" in of_training_images(0.84, 0.2) and by_heart(0.84, 0.2)
    assert not by_heart(0.6, 0.5) and not by_heart(0.0, 0.0)


def test_a_bound_for_all_methods_at_once() -> None:
    """Thirty methods that do nothing: one of them seems to gain in most studies, by the bound for all in few."""
    alone = many = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        of_image = rng.normal(0, 1, (80, 30)) * np.geomspace(0.1, 10, 30)  # methods whose gains vary little and much
        draws = draw_images(80, 200, seed) @ of_image / 80
        gains = {str(n): pd.Series([of_image[:, n].mean(), *draws[:, n]]) for n in range(30)}
        low = _low_of_many(gains)
        value, deviation = of_image.mean(axis=0), draws.std(axis=0, ddof=1)
        largest = sorted(max((row - value) / deviation) for row in draws)
        assert low.to_numpy() == pytest.approx(value - np.quantile(largest, 0.975) * deviation)
        many += bool((low > 0).any())
        alone += bool((2 * value - np.quantile(draws, 0.975, axis=0) > 0).any())
    assert alone > 20 and many <= 4


def test_a_method_that_changes_nothing_has_no_gain_beyond_chance() -> None:
    gains = {"baseline": pd.Series(np.zeros(21)), "some": pd.Series(np.linspace(0.1, 0.3, 21)).sort_values()}
    assert _low_of_many(gains)["baseline"] == 0
