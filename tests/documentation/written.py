"""The written and the generated pages of the documentation, as Markdown by their place in the site."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from analyses.documentation import pages

ROOT = Path(__file__).resolve().parents[2]


@cache
def texts() -> dict[str, str]:
    """Every page with its generated parts, but for the changelog, which is another file."""
    docs = ROOT / "docs"
    written = {path.relative_to(docs).as_posix(): path.read_text(encoding="utf-8") for path in docs.rglob("*.md")}
    filled = {
        name: re.sub(r"<!-- generated: (.*?) -->", lambda found: pages.PARTS[found[1]](), text)
        for name, text in written.items()
    }
    return {name: text for name, text in (filled | pages.generated()).items() if name != "changelog.md"}


def code(language: str) -> list[tuple[str, str]]:
    """Every block of code of a language, with the page that has it."""
    found = re.compile(rf"^```{language}\n(.*?)^```", re.DOTALL | re.MULTILINE)
    return [(name, block) for name, text in texts().items() for block in found.findall(text)]
