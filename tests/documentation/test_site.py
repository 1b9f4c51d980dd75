"""The built site: strict, whole in itself, without dead links, and usable from disk in a browser."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag

import pytest

from imbalance_bench.methods import METHODS

pytest.importorskip("mkdocs", reason="needs the extra 'docs'")
ROOT = Path(__file__).resolve().parents[2]
LOADED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "video": "src"}


class Links(HTMLParser):
    """What a page loads, where it leads, and what can be led to in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attributes}
        self.ids += [found[name] for name in ("id", "name") if found.get(name)]
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if LOADED.get(tag) in found:
            self.loaded.append(found[LOADED[tag]])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as ``make docs`` builds it."""
    folder = tmp_path_factory.mktemp("documentation") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    assert not built.stderr.strip(), "no warning"
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Links]:
    return {path: Links(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}


def test_every_page_is_there(site: Path) -> None:
    for name in METHODS:
        assert (site / "methods" / f"{name}.html").is_file()
    for name in ("index", "faq", "changelog", "results/emoji-lt-small", "reference/commands", "reference/classifiers"):
        text = (site / f"{name}.html").read_text(encoding="utf-8")
        assert "<!-- generated" not in text and "<h1" in text, name
    sample = (site / "gallery" / "result_files.html").read_text(encoding="utf-8")
    assert "Do this next" in sample and str(ROOT) not in sample, "no folder of this machine"
    classifiers = (site / "reference" / "classifiers.html").read_text(encoding="utf-8")
    assert 'id="imbalance_bench.GroupSoftmaxClassifier"' in classifiers
    assert "&gt;&gt;&gt;" in classifiers, "examples are code"


def test_links_and_anchors_lead_somewhere(site: Path, pages: dict[Path, Links]) -> None:
    dead = []
    for path, page in pages.items():
        for link in page.links:
            place, anchor = urldefrag(unquote(link))
            if re.match(r"[a-z]+:", place) or (path.name == "404.html" and place.startswith("/")):
                continue
            target = (path.parent / place).resolve() if place else path
            target = target / "index.html" if target.is_dir() else target
            there = target.is_file() and target.is_relative_to(site)
            if not there or (anchor and target in pages and anchor not in pages[target].ids):
                dead.append((path.name, link))
    assert not dead


def test_nothing_is_loaded_from_another_host(site: Path, pages: dict[Path, Links]) -> None:
    loaded = {resource for page in pages.values() for resource in page.loaded}
    assert loaded and not [resource for resource in loaded if re.match(r"(https?:)?//", resource)]
    for path in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(https?:)?//|@import", path.read_text(encoding="utf-8")), path.name
    for path, page in pages.items():
        for resource in page.loaded:
            if not resource.startswith("data:") and path.name != "404.html":
                assert (path.parent / unquote(urldefrag(resource)[0])).exists(), (path.name, resource)


def test_the_list_for_language_models_leads_to_every_page(site: Path, pages: dict[Path, Links]) -> None:
    text = (site / "llms.txt").read_text(encoding="utf-8")
    listed = re.findall(r"^- \[.+?\]\((.+?)\)", text, re.MULTILINE)
    assert (
        len(listed)
        == len(set(listed))
        == len([path for path in pages if path.name != "404.html" and path.parent.name != "gallery"])
    )
    assert all((site / place).is_file() for place in listed)
    assert "<!-- generated" not in (site / "methods" / "index.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [1280, 400])
def test_from_disk_in_a_browser(width: int, site: Path, browser: Any) -> None:
    tab = browser.new_page(viewport={"width": width, "height": 800})
    requests: list[str] = []
    said: list[str] = []
    tab.on("request", lambda request: requests.append(request.url))
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    for name in ("index", "results/emoji-lt-small", "methods/bags", "reference/python"):
        tab.goto((site / f"{name}.html").as_uri())
        assert tab.evaluate("document.documentElement.scrollWidth") <= width, name
        assert tab.locator("img").evaluate_all("images => images.every(image => image.naturalWidth > 0)")

    tab.goto((site / "methods" / "index.html").as_uri())
    table = tab.locator(".sortable table").first
    heading = table.locator("th", has_text="tail, emoji-lt-small")
    column = heading.evaluate("cell => cell.cellIndex")

    def values() -> list[str]:
        return [cell.inner_text() for cell in table.locator(f"tbody tr td:nth-child({column + 1})").all()]

    def numbers() -> list[float]:
        return [float(text.split("±")[0]) for text in values() if text != "-"]

    heading.click()
    assert numbers() == sorted(numbers(), reverse=True) and len(set(numbers())) > 5 and values()[-1] == "-"
    heading.press("Enter")
    assert numbers() == sorted(numbers()) and values()[-1] == "-", "what has no number stays last"
    table.locator("th").first.click()
    names = table.locator("tbody tr td:first-child").all_inner_texts()
    assert names == sorted(names, key=str.casefold)

    if width >= 1280:
        tab.locator(".md-search__input").press_sequentially("hallucinated")
        tab.locator(".md-search-result__link").first.wait_for(timeout=60_000)
        assert "BACL" in tab.locator(".md-search-result__list").inner_text()
    assert not said
    assert all(url.startswith(("file:", "data:", "about:", "blob:")) for url in requests)
