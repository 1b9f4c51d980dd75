"""The page of two files side by side: what it says of groups and classes, and how it looks."""

import math
import re
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from browsing import opened

from imbalance_bench.categories import CategoryTable
from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.evaluation.ground_truth import GroundTruth
from imbalance_bench.evaluation.uncertainty import paired, paired_classes
from imbalance_bench.pages import comparison

BAD = '<script>alert("x")</script>'
NAMES = ("old <b>.json", "new.json")


@pytest.fixture(scope="module")
def case() -> tuple[pd.DataFrame, pd.DataFrame, CategoryTable]:
    """30 classes; the second file places the boxes of two better, of one worse; one has few images, one no box."""
    counts = np.array([3, 8, *np.geomspace(5, 4000, 28).astype(int)])
    names = (BAD, *(f"a class of number {number}" for number in range(1, 30)))
    letters = tuple(np.select([counts < 10, counts < 100], ["r", "c"], "f"))
    categories = CategoryTable(np.arange(1, 31), names, counts, counts, letters)
    rng = np.random.default_rng(0)
    boxes = [
        {"image_id": int(image), "category_id": label + 1, "bbox": [*rng.uniform(0, 900, 2).tolist(), 30.0, 30.0]}
        for label in range(29)
        for image in rng.choice(80, 4 if label == 5 else 30, replace=False)
    ]
    truth = GroundTruth.read({"images": [{"id": i} for i in range(80)], "annotations": boxes}, categories)

    def found(seed: int, noise: dict[int, float]) -> Detections:
        rng, rows = np.random.default_rng(seed), []
        for box in boxes:
            x, y, w, h = box["bbox"]
            dx, dy = rng.normal(0, noise.get(box["category_id"] - 1, 5), 2)
            rows.append((box["image_id"], box["category_id"] - 1, x + dx, y + dy, x + w + dx, y + h + dy, rng.random()))
        columns = np.array(rows)
        return Detections(columns[:, 0].astype(int), columns[:, 1].astype(int), columns[:, 2:6], columns[:, 6])

    pair = found(1, {}), found(2, {0: 0.5, 1: 1, 20: 14})
    return paired(*pair, truth, resamples=60), paired_classes(*pair, truth, resamples=60), categories


@pytest.fixture(scope="module")
def page(case: tuple[pd.DataFrame, pd.DataFrame, CategoryTable], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("compared") / "page.html"
    path.write_text(comparison.render(NAMES, *case, ["rules: <COCO>"], {"first": "a"}))
    return path


def test_what_it_says(case: tuple[pd.DataFrame, pd.DataFrame, CategoryTable], page: Path) -> None:
    groups, classes, _ = case
    assert classes.index[classes["real"]].tolist() == [0, 1, 20]
    text = page.read_text()
    assert BAD not in text and "<b>" not in text.partition("<body>")[2].partition('id="marked"')[0]
    said = unescape(text)
    a, b = (100 * groups.loc["mAP", column] for column in "ab")
    assert f"new.json has an mAP of {b:.1f}, old <b>.json of {a:.1f}: " in said
    assert (
        f"By bin of train instances, new.json is better in bin 1 ({100 * groups.loc['AP1', 'difference']:+.1f})" in said
    )
    assert "By class, 3 of 28 differ beyond chance: 2 in favour of new.json, 1 of old <b>.json (adjusted for 28" in said
    assert "1 more with boxes in fewer than 10 images: too few to judge alone." in said
    assert "rules: <COCO>" in said
    rows = re.findall(r'<tr data-key="([^"]*)">(.*?)</tr>', text, flags=re.DOTALL)
    assert len(rows) == 29, "a class without a box has no row"
    words = {unescape(key): re.findall(r'data-value="([^"]*)"', row)[2] for key, row in rows}
    assert words[BAD] == "new.json better" and unescape(words["a class of number 20"]) == "old <b>.json better"
    assert words["a class of number 5"] == "fewer than 10 images"
    assert set(map(unescape, words.values())) == {
        "new.json better", "old <b>.json better", "fewer than 10 images", "no difference beyond chance",
    }  # fmt: skip
    shown = re.search(r'data-key="a class of number 20">.*?data-value="([^"]*)">([^<]*)<', text, flags=re.DOTALL)
    assert shown is not None


def test_no_difference_is_no_news(case: tuple[pd.DataFrame, pd.DataFrame, CategoryTable]) -> None:
    groups, classes, categories = case
    same = groups.assign(difference=0.0, images_low=-0.01, images_high=0.01, real=False)
    none = classes.assign(difference=classes["difference"] * 0, p=1.0, q=1.0, real=False)
    behind = comparison.conclusions(NAMES, same, none, categories)
    assert "+0.0 [-1.0, +1.0] points, which may be chance." in behind[0]
    assert behind[1] == "In no bin of train instances the difference is beyond chance."
    assert behind[2].startswith("By class, 0 of 30 differ beyond chance")
    empty = none.assign(a=math.nan, b=math.nan, difference=math.nan, p=math.nan, q=math.nan)
    assert "By class, 0 of 0 differ" in comparison.render(NAMES, same.assign(a=np.nan, b=np.nan), empty, categories)


@pytest.mark.parametrize("width", [1280, 400])
def test_in_a_browser(width: int, page: Path, browser: Any) -> None:
    with opened(browser, page, width) as tab:
        plot = tab.locator("svg.plot").nth(1)
        assert plot.locator("[data-tip]").count() == 29
        assert BAD in plot.locator(".label").all_text_contents()
        plot.scroll_into_view_if_needed()
        dot = plot.locator("[data-key='a class of number 20'] .dot").bounding_box()
        tab.mouse.click(dot["x"] + dot["width"] / 2, dot["y"] + dot["height"] / 2)
        assert "old <b>.json better" in tab.locator("#tip").inner_text()
        row = tab.locator("tr.marked")
        assert row.count() == 1 and row.locator("td").first.inner_text() == "a class of number 20"
        table = tab.locator(".table").last
        table.locator("input").fill("new.json better")
        assert table.locator("tbody tr:visible").count() == 2
