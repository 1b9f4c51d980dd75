"""The table of what diagnoses recommend: a row for each that is kept, with its own numbers."""

import shutil
from pathlib import Path

from test_result_pages import cells

from analyses.documentation import gallery, pages
from analyses.documentation.advice import advice
from imbalance_bench.diagnosis.result import Diagnosis
from imbalance_bench.pages.cells import shown_gain


def test_each_kept_diagnosis_has_its_row() -> None:
    kept = {path.parent.name: Diagnosis.read(path) for path in pages.RESULTS.glob("*/diagnosis")}
    assert kept
    head, _, *rows = cells(advice(pages.RESULTS))
    assert {row[0] for row in rows} == set(kept)
    for row in rows:
        shown, diagnosis = dict(zip(head, row, strict=True)), kept[row[0]]
        rule, name = diagnosis.summary["rule"], diagnosis.recommended
        for group in ("tail", "head"):
            ends = (rule[group][end] for end in ("gain", "low", "high"))
            assert shown[f"{group} gain on other images"] == shown_gain(*ends)
        if name is None:
            assert shown["recommended"] == "nothing" and not shown["tail gain"]
        else:
            assert f"methods/{name}.md" in shown["recommended"]
            assert shown["tail gain"].startswith(f"{100 * diagnosis.fixes.loc[name, 'tail_gain']:+.1f} [")


def test_each_kept_diagnosis_is_a_page_of_the_gallery(tmp_path: Path) -> None:
    for path in pages.RESULTS.glob("*/diagnosis"):
        shutil.copytree(path, tmp_path / path.parent.name / "diagnosis")
    found = gallery.pages(tmp_path)
    assert len(found) == 1 + len(list(tmp_path.iterdir()))
    for path in tmp_path.iterdir():
        text = found[f"gallery/{path.name}.html"]
        assert "Does it hold? The same rule" in text
        assert text.count("data:image/png") == len(list((path / "diagnosis" / "examples").glob("*.png")))
