"""The page of a diagnosis from files: whole in itself, text is no markup, at 1,280 and 400 pixels, of 1,203 classes."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_files import NAMES, annotations, detections, write

from imbalance_bench.diagnosis.predictions import page
from imbalance_bench.diagnosis.predictions.diagnose import diagnose_predictions
from imbalance_bench.diagnosis.predictions.result import PredictionDiagnosis

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MANY = 1203


@pytest.fixture(scope="module")
def three(diagnosis: PredictionDiagnosis) -> Path:
    return page.write(diagnosis)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As many classes as LVIS v1 has, most with a few boxes."""
    folder = tmp_path_factory.mktemp("many")
    rng = np.random.default_rng(0)
    names = {number: f"a class with a long name, number {number}" for number in range(1, MANY + 1)}
    val = annotations(names, np.minimum(rng.zipf(1.6, MANY), 40).tolist(), images=120)
    train = np.geomspace(1, 5000, MANY).astype(int).tolist()
    rows = "\n".join(f"{number},{count}" for number, count in zip(names, rng.permutation(train), strict=True))
    (folder / "counts.csv").write_text(f"id,count\n{rows}\n")
    taken = {number: int(rng.integers(1, MANY + 1)) for number in names}
    right = {number: float(rng.uniform(0.2, 0.9)) for number in names}
    found = detections(val, right=right, taken_by=taken, noise=3000)
    diagnosis = diagnose_predictions(
        write(folder / "p.json", found), write(folder / "val.json", val), folder / "counts.csv", out=folder / "out"
    )
    return page.write(diagnosis)


def test_it_is_whole_in_itself(three: Path) -> None:
    text = three.read_text()
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", text)
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert len(re.findall("<script", text)) == 1, "its own"
    assert NAMES[8] not in text and "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "Do this next" in text and "arXiv 2006.10408" in text and "imbalance_bench.diagnose(predictions=" in text


def test_its_text_is_of_this_diagnosis(diagnosis: PredictionDiagnosis, three: Path) -> None:
    text = three.read_text()
    for line in (*diagnosis.summary["verdict"], *diagnosis.summary["notes"], *diagnosis.summary["fits"]):
        assert line.split("<")[0].split("'")[0] in text.replace("&#39;", "'")
    assert page.render(PredictionDiagnosis.read(diagnosis.folder)) == text, "a page of an earlier call is the same"


def test_without_fits_and_confusions_it_stands(diagnosis: PredictionDiagnosis) -> None:
    summary = {**diagnosis.summary, "thresholds": None, "fits": ["nothing was fitted: because"]}
    empty = {name: getattr(diagnosis, name).head(0) for name in ("thresholds", "operating_points", "pooled")}
    right = diagnosis.confusions[diagnosis.confusions["label"] == diagnosis.confusions["taker"]]
    text = page.render(replace(diagnosis, summary=summary, confusions=right, **empty))
    assert "nothing was fitted" in text and "Thresholds to paste" not in text
    assert "No box is detected as another class." in text


def test_a_thousand_classes_stay_small(many: Path) -> None:
    assert many.stat().st_size < 5 << 20
    text = many.read_text()
    assert text.count("a class with a long name, number 77<") >= 1
    assert "class of the best detection" not in text, "no matrix of so many"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium here")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


def opened(browser: Any, path: Path, width: int) -> tuple[Any, list[str]]:
    """A tab with a page, and what it said or asked for."""
    tab = browser.new_page(viewport={"width": width, "height": 800})
    said: list[str] = []
    tab.on("request", lambda request: said.append(request.url) if not request.url.startswith("data:") else None)
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("dialog", lambda dialog: said.append(dialog.message))
    tab.goto(path.as_uri())
    return tab, said


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("name", ["three", "many"])
def test_in_a_browser(name: str, width: int, browser: Any, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(name)
    tab, said = opened(browser, path, width)
    assert said == [path.as_uri()], "nothing but the page is asked for, and nothing is complained of"
    assert tab.evaluate("document.documentElement.scrollWidth") <= width, "nothing sticks out"
    assert tab.locator("svg.plot").evaluate_all("all => all.every(plot => plot.getBoundingClientRect().height > 150)")
    classes = tab.locator("table").last
    heads = [head.inner_text().strip() for head in classes.locator("th button").all()]
    rows = classes.locator("tbody tr")
    assert rows.count() == (3 if name == "three" else MANY)
    column = heads.index("validation boxes")
    classes.locator("th button").nth(column).click()
    values = classes.locator(f"tbody tr td:nth-child({column + 1})").evaluate_all(
        "cells => cells.map(cell => parseFloat(cell.dataset.value))"
    )
    assert values == sorted(values, reverse=True)
    tab.close()


def test_what_a_square_of_the_matrix_says(three: Path, browser: Any, diagnosis: PredictionDiagnosis) -> None:
    tab, _ = opened(browser, three, 1280)
    squares = tab.locator(".matrix rect[data-tip]")
    assert squares.count() == len(diagnosis.confusions)
    square = tab.locator(".matrix rect[data-tip^='forklift'][data-tip*='detected as person']")
    square.scroll_into_view_if_needed()
    square.hover()
    share = diagnosis.confusions.query("label == 1 and taker == 0")["boxes"].item()
    assert f"forklift\ndetected as person: {share} of 40 boxes" in tab.locator("#tip").inner_text()
    tab.close()


def test_a_thousand_classes_are_searched(many: Path, browser: Any) -> None:
    tab, _ = opened(browser, many, 1280)
    search = tab.locator("input[type=search]").last
    search.fill("number 77")
    searched = search.locator("xpath=following::table[1]")
    shown, every = (searched.locator(f"tbody tr{rows}").all_text_contents() for rows in (":not([hidden])", ""))
    assert shown and all("77" in row for row in shown) and len(shown) < len(every) / 2
    tab.close()
