"""The page of a study in Chromium and as text, of exported folders and of a work dir with detections."""

import base64
import hashlib
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from browsing import opened
from invented import write_study

from analyses import study_page
from imbalance_bench.datasets.registry import DataSet

MEASURED = Path(__file__).resolve().parents[3] / "results" / "measured"


@pytest.fixture(scope="module")
def whole(mini: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of one seed with detections."""
    folder = tmp_path_factory.mktemp("whole")
    root = write_study(mini, folder, (0,), detections=True)
    return study_page.write(root, folder / "page.html", mini.train_images.parents[1])


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of runs in this repository: records and tables of three seeds."""
    folder = tmp_path_factory.mktemp("exported")
    for seed in range(3):
        for run in ("baseline", "x2-cls", "bags", "tau-norm", "reweight-cls", "seesaw", "ncm-fc", "bags-paper"):
            place = Path("emoji-lt-small", "tiny", f"seed{seed}", run)
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            (folder / place).symlink_to(MEASURED / place)
    return study_page.write(folder / "emoji-lt-small" / "tiny", folder / "page.html", folder / "no data")


def test_it_is_whole_in_itself(whole: Path) -> None:
    text = whole.read_text()
    (script,) = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", text)
    assert "made up <b>here</b>" not in text and "made up &lt;b&gt;here&lt;/b&gt;" in text
    for target in re.findall(r'href="#([^"]*)"', text):
        assert f'id="{target}"' in text


def test_it_says_what_it_has(whole: Path, exported: Path) -> None:
    has, lacks = (unescape(page.read_text()) for page in (whole, exported))
    for heading in ("Methods against x2-cls", "AP by bin", "Table 1, measured", "Table 1 as the paper prints it",
                    "Weight norms", "Proposal accuracy", "Every setting", "What was run"):  # fmt: skip
        assert f">{heading}</h" in has and f">{heading}</h" in lacks
    for heading in ("Kinds of errors", "Detections", "Gains in AP50"):
        assert f">{heading}</h" in has and f">{heading}</h" not in lacks
    assert "Left out" not in has
    assert (
        "Left out: Intervals over images, kinds of errors and detections: the run folders have no detections" in lacks
    )
    assert "95 % intervals over validation images, the same images for both" in has
    assert "95 % intervals over seeds, paired" in lacks
    assert "wrong class and place" in has and "24 runs of 7 methods in 8 settings" in lacks
    assert whole.stat().st_size < 5e6 and exported.stat().st_size < 1e6


@pytest.mark.parametrize("width", [1280, 400])
def test_both_in_a_browser(width: int, whole: Path, exported: Path, browser: Any) -> None:
    for page in (whole, exported):
        with opened(browser, page, width) as tab:
            assert tab.locator("svg.plot").count() == 4
            shown = tab.locator("svg.plot").first.locator(".label.shown").count()
            assert shown >= (5 if width == 1280 else 3), "most points have their name beside them"


@pytest.mark.parametrize("width", [1280, 400])
def test_a_click_marks_a_method_everywhere(width: int, exported: Path, browser: Any) -> None:
    with opened(browser, exported, width, has_touch=width == 400) as tab:
        plot, tip, bar = tab.locator("svg.plot").first, tab.locator("#tip"), tab.locator("#marked")
        plot.scroll_into_view_if_needed()
        place = plot.locator('[data-key="bags"] .dot').bounding_box()
        middle = (place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
        if width == 400:
            tab.touchscreen.tap(*middle)
        else:
            tab.mouse.move(middle[0] + 6, middle[1])
            assert tip.inner_text().startswith("bags\ntail +3.9 [+3.4, +4.3]\nhead -1.7 [-2.3, -1.0]\nmAP +1.7")
            assert not bar.is_visible()
            tab.mouse.click(*middle)
        assert tip.is_visible() and bar.inner_text().startswith("marked: bags")
        box = tip.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= width
        everywhere = tab.locator('[data-key="bags"]')
        assert everywhere.count() >= 10
        assert tab.locator('[data-key="bags"].marked').count() == everywhere.count()
        assert tab.locator('[data-key]:not([data-key="bags"]).marked').count() == 0
        assert tab.locator('tr.marked button.key[aria-pressed="true"]').count() == tab.locator("tr.marked").count()
        assert plot.locator('[data-key="bags"] .label.shown').count() == 1
        tab.locator("table").first.locator("button.key", has_text="tau-norm").click()
        assert tab.locator("#marked b").inner_text() == "bags, tau-norm"
        bar.locator("button").click()
        assert tab.locator(".marked").count() == 0 and not bar.is_visible()


def test_the_keyboard_reaches_everything(exported: Path, browser: Any) -> None:
    with opened(browser, exported, 1280) as tab:
        plot, tip = tab.locator("svg.plot").first, tab.locator("#tip")
        plot.focus()
        said = []
        for _ in range(plot.locator("[data-tip]").count()):
            tab.keyboard.press("ArrowRight")
            said.append(tip.inner_text().partition("\n")[0])
        assert set(said) == {"baseline", "bags", "tau-norm", "reweight-cls", "seesaw", "ncm-fc"}
        tab.keyboard.press("Enter")
        assert tab.locator("#marked b").inner_text() == said[-1]
        tab.keyboard.press("Escape")
        assert not tip.is_visible()
        tab.keyboard.press("Tab")
        focused = "getComputedStyle(document.activeElement)"
        assert tab.evaluate(f"{focused}.outlineStyle") == "solid" and tab.evaluate(f"{focused}.outlineWidth") == "3px"
        assert "Arrow keys" in plot.get_attribute("aria-label")


@pytest.mark.parametrize("width", [1280, 400])
def test_tables_sort_filter_and_stay_in_sight(width: int, exported: Path, browser: Any) -> None:
    with opened(browser, exported, width) as tab:
        table = tab.locator(".table", has=tab.locator("th", has_text="command"))
        table.locator("input").fill("BAGS 2026")
        rows = table.locator("tbody tr:visible")
        assert rows.count() == 6 and table.locator("output").inner_text() == "6 of 24 rows"
        head = table.locator("th", has_text="mAP")
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == "descending"
        values = [float(text) for text in table.locator("tbody tr:visible td:nth-child(3)").all_inner_texts()]
        assert values == sorted(values, reverse=True)
        table.locator("input").fill("no such run")
        assert rows.count() == 0
        table.locator("input").fill("")
        scroll = table.locator(".scroll")
        scroll.evaluate("scroll => scroll.scrollTo(200, 300)")
        inside, first = scroll.bounding_box(), table.locator("tbody td:first-child").last
        assert first.bounding_box()["x"] == pytest.approx(inside["x"] + 1, abs=1), "the first column stays"
        assert table.locator("thead th").nth(1).bounding_box()["y"] == pytest.approx(inside["y"] + 1, abs=1)
