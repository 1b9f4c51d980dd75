"""MkDocs hooks: put the generated pages, the generated parts and the results into the site, and write ``llms.txt``."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.nav import Navigation, Section
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from analyses.documentation import llms, pages  # noqa: E402
from analyses.documentation.method_pages import FAMILIES, of_family  # noqa: E402

COPIED = (
    "notebooks/*.ipynb",
    "results/measured/*.csv",
    "results/measured/*.png",
    "results/measured/*/*.csv",
    "results/measured/*/*.png",
    "results/measured/*/errors/*/errors*",
    "results/measured/*/from_scratch/*.csv",
)
"""Files of the repository that pages link to, by the same place in the site."""
_texts: dict[str, str] = {}
_nav: Navigation


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the generated pages to the navigation."""
    sections: dict[str, list[Any]] = {heading: own for entry in config.nav or [] for heading, own in entry.items()}
    sections["Methods"] += [
        {heading: [{method.title: f"methods/{method.name}.md"} for method in of_family(family)]}
        for family, heading in FAMILIES.items()
    ]
    sections["Results"] += [name for name in pages.generated() if name.startswith("results/")]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, and the results and notebooks that pages link to."""
    for place, text in pages.generated().items():
        files.append(File.generated(config, place, content=text))
    for place, text in pages.samples().items():
        files.append(File.generated(config, place, content=text, inclusion=InclusionLevel.NOT_IN_NAV))
    for pattern in COPIED:
        for path in sorted(ROOT.glob(pattern)):
            place = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, place, abs_src_path=str(path), inclusion=InclusionLevel.NOT_IN_NAV))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Fill in the generated parts, and lead links to files of the repository to their copies in the site."""
    text = re.sub(r"<!-- generated: (.*?) -->", lambda found: pages.PARTS[found[1]](), markdown)
    here = os.path.dirname(page.file.src_uri)
    inside = re.compile(r"\]\((?:\.\./)+((?:results/measured|notebooks)/[^)]*)\)")
    text = inside.sub(lambda found: f"]({os.path.relpath(found[1], here)})", text)
    _texts[page.file.src_uri] = text
    return text


def on_nav(nav: Navigation, **_: object) -> Navigation:
    """Keep the navigation for ``llms.txt``."""
    global _nav
    _nav = nav
    return nav


def on_post_build(config: MkDocsConfig) -> None:
    """Write the Markdown of every page beside it, and ``llms.txt``."""
    site = Path(config.site_dir)
    sections = []
    for section in _nav.items:
        own = [page for page in _nav.pages if section in page.ancestors]
        entries = []
        for page in own:
            text = _texts[page.file.src_uri]
            address = page.file.src_uri
            if "\n::: " in text:  # its text is made from docstrings
                address = page.url
            else:
                (site / address).write_text(text, encoding="utf-8")
            entries.append((str(page.title), f"{config.site_url or ''}{address}", text))
        if isinstance(section, Section):
            sections.append((section.title, entries))
    (site / "llms.txt").write_text(
        llms.listed(config.site_name, config.site_description or "", sections), encoding="utf-8"
    )
