"""The README's table and first picture, from the results in this repository: ``python -m analyses.readme``."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from imbalance_bench import plotting
from imbalance_bench.methods import METHODS
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.files import write_text

from . import beyond, outputs, tables

SHOWN = ("baseline", "x2-cls", "bags", "reweight-cls", "ldam-drw", "tau-norm")
"""Methods of the short table: the detector as it is, the control, and four remedies."""


def table(folder: Path) -> str:
    """Write the short table from a data set's ``beyond.csv``, in Markdown."""
    frame = pd.read_csv(folder / "beyond.csv")
    return tables.markdown(beyond.short(frame, SHOWN).reset_index())


def families() -> str:
    """Write the table of methods by family, in Markdown."""
    names: dict[str, list[str]] = {}
    for method in METHODS.values():
        if method.family == "plain":  # the baseline, and what it is compared with
            continue
        names.setdefault(method.family, []).append(method.title.partition(",")[0])
    rows = [(family, ", ".join(dict.fromkeys(titles))) for family, titles in names.items()]
    return tables.markdown(pd.DataFrame(rows, columns=["family", "methods"]))


def rewritten(text: str, folder: Path) -> str:
    """Return the text of a README with its tables written anew, between ``<!-- NAME -->`` and ``<!-- end -->``.

    Raises:
        InputError: the comments that mark a table are missing.
    """
    for name, content in (("found", table(folder)), ("methods", families())):
        found = re.search(rf"(?<=<!-- {name} -->\n).*?(?=<!-- end -->)", text, re.DOTALL)
        if found is None:
            raise InputError(f"README.md: no '<!-- {name} -->' with '<!-- end -->' after it")
        text = f"{text[: found.start()]}\n{content}\n\n{text[found.end() :]}"
    return text


if __name__ == "__main__":
    ROOT = Path(__file__).resolve().parents[1]
    RESULTS = ROOT / "results" / "measured" / "emoji-lt-small"
    readme = (ROOT / "README.md").read_text()
    write_text(ROOT / "README.md", rewritten(readme, RESULTS))
    plotting.save(outputs.overview(RESULTS), ROOT / "docs" / "overview.png", dpi=150)
