"""Pages in Chromium: what holds for each of them at every width."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

OVERLAPS = """
plots => plots.flatMap(plot => {
  const texts = [...plot.querySelectorAll("text")].filter(text => getComputedStyle(text).visibility === "visible");
  const rects = texts.map(text => text.getBoundingClientRect());
  return texts.flatMap((text, i) => texts.slice(i + 1).filter((_, j) => {
    const a = rects[i], b = rects[i + 1 + j];
    return a.left + 1 < b.right && b.left + 1 < a.right && a.top + 1 < b.bottom && b.top + 1 < a.bottom;
  }).map(other => text.textContent + " on " + other.textContent));
})
"""
CUT = """
tables => tables.filter(table => {
  const scroll = table.querySelector(".scroll");
  return (scroll.scrollWidth > scroll.clientWidth + 1) !== (table.querySelector(".hint").textContent !== "");
}).length
"""


@contextmanager
def opened(browser: Any, page: Path, width: int, **options: Any) -> Iterator[Any]:
    """Open a page; nothing is loaded, said or wider than the window, and no text is on another."""
    tab = browser.new_page(viewport={"width": width, "height": 900}, **options)
    requests: list[str] = []
    said: list[str] = []
    tab.on("request", lambda request: requests.append(request.url))
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("dialog", lambda dialog: said.append(dialog.message))
    tab.goto(page.as_uri())
    tab.wait_for_function("document.querySelectorAll('.label').length === 0 || document.querySelector('.label.shown')")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width, "nothing sticks out"
    assert tab.locator("svg.plot").evaluate_all(OVERLAPS) == []
    assert tab.locator(".table").evaluate_all(CUT) == 0, "columns off the screen are told, and only these"
    yield tab
    assert {url for url in requests if not url.startswith("data:")} == {page.as_uri()}
    assert not said
    assert tab.locator("svg.plot").evaluate_all(OVERLAPS) == []
    assert tab.locator("img").evaluate_all("images => images.every(image => image.naturalWidth > 0)")
    tab.close()
