"""The page of a diagnosis: whole in itself, its text no markup, its tables sortable, at desktop and phone width."""

import base64
import hashlib
import io
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from their_detector import NAMES, Theirs

from analyses import diagnosis_page, figures
from imbalance_bench import diagnose
from imbalance_bench.diagnosis import Diagnosis

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def diagnosis(theirs: Theirs, tmp_path_factory: pytest.TempPathFactory) -> Diagnosis:
    found = diagnose(
        **theirs.arguments, out=tmp_path_factory.mktemp("page") / "out", skip_missing=True,
        methods=("x2-cls", "tau-norm", "bags"), tune=False,
    )  # fmt: skip
    # Random weights recommend nothing; a page with a gallery is what is looked at.
    return replace(found, summary={**found.summary, "recommended": "bags"})


@pytest.fixture(scope="module")
def page(diagnosis: Diagnosis) -> Path:
    return diagnosis_page.write(diagnosis)


def test_it_is_whole_in_itself(page: Path) -> None:
    text = page.read_text()
    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", text)
    assert "http://" not in text.replace("http://www.w3.org", "")
    (script,) = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text
    assert text.count("data:image/svg+xml") == 6
    assert "imbalance-bench diagnose --config" in text


def test_text_is_no_markup(page: Path) -> None:
    text = page.read_text()
    assert NAMES[0] not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


def test_the_gallery_shows_what_is_found(diagnosis: Diagnosis, monkeypatch: pytest.MonkeyPatch) -> None:
    """A detector that missed everything: each image with a tail object that the other finds is one to show."""
    from imbalance_bench.evaluation.detections import Detections

    whole = diagnosis_page.detections.read
    none = Detections.from_images([], [])
    monkeypatch.setattr(
        diagnosis_page.detections,
        "read",
        lambda path, categories: none if path.name == "baseline" else whole(path, categories),
    )
    for image_id, pixels, truth, shown in diagnosis_page.rescued(diagnosis, count=3):
        assert pixels.shape == (96, 128, 3)
        assert (truth["image_id"] == image_id).all()
        assert not len(shown["as it is"])
        found = shown["bags"]
        assert found[found["correct"]]["label"].isin(truth["label"]).all()


def test_figures_survive_names_that_look_like_formulas() -> None:
    boxes = pd.DataFrame({"x1": [1.0], "y1": [1.0], "x2": [9.0], "y2": [9.0], "name": ["$x_^$"], "bin": [1]})
    figure = figures.contact_sheet(
        [np.zeros((16, 16, 3), np.uint8)], [boxes], {"run": [boxes.assign(correct=True)]}
    )  # fmt: skip
    figure.savefig(io.BytesIO())


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium here")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_in_a_browser(width: int, page: Path, browser: Any) -> None:
    tab = browser.new_page(viewport={"width": width, "height": 800})
    requests: list[str] = []
    said: list[str] = []
    tab.on("request", lambda request: requests.append(request.url))
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("dialog", lambda dialog: said.append(dialog.message))
    tab.goto(page.as_uri())
    assert {url for url in requests if not url.startswith("data:")} == {page.as_uri()}
    assert not said
    assert tab.evaluate("document.documentElement.scrollWidth") <= width, "nothing sticks out"

    table = tab.locator("table").last
    column = [head.inner_text().strip() for head in table.locator("th").all()].index("proposals")
    button = table.locator("th button").nth(column)

    def values() -> list[float]:
        return [float(cell.inner_text()) for cell in table.locator(f"tbody tr td:nth-child({column + 1})").all()]

    before = values()
    button.click()
    assert values() == sorted(before, reverse=True)
    button.click()
    assert values() == sorted(before)
    names = table.locator("th button").first
    orders = []
    for _ in range(2):
        names.click()
        orders.append([cell.inner_text() for cell in table.locator("tbody tr td:first-child").all()])
    assert orders[0] == orders[1][::-1]
    assert set(orders[0]) == set(NAMES) - {"no val"}, "markup in a name is shown as it is"
    assert tab.locator("img").evaluate_all("images => images.every(image => image.naturalWidth > 0)")
    tab.close()
