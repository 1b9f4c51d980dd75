"""Pages of results: every row of the tables, with provenance; sentences whose numbers follow the tables."""

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analyses.documentation import pages, result_pages
from analyses.documentation.measured import measured
from imbalance_bench.evaluation import per_category

SMALL = "emoji-lt-small"
RESULTS = pages.RESULTS


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A copy of the tables of one data set, to be changed."""
    kept = shutil.ignore_patterns("seed1", "seed2", "*.png", "*.md", "*.tex")
    shutil.copytree(RESULTS / SMALL, tmp_path / SMALL, ignore=kept)
    return tmp_path


def cells(text: str) -> list[list[str]]:
    """Every row of every Markdown table."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


def test_a_page_has_every_row_with_its_provenance() -> None:
    text = result_pages.page(RESULTS, SMALL)
    beyond = pd.read_csv(RESULTS / SMALL / "beyond.csv")
    rows = cells(text)
    for row in beyond.to_dict("records"):
        shown = f"{100 * row['mAP']:.1f}±{100 * row['mAP_std']:.1f}"
        assert any(cell[0] == row["method"] and cell[2] == shown for cell in rows), row["method"]
    for number in (1, 4, 5):
        table = pd.read_csv(RESULTS / SMALL / f"table{number}.csv")
        assert f"## Table {number}: " in text
        for command in table["command"].unique():
            assert command in text
    for version in set("; ".join(beyond["versions"].unique()).split("; ")):
        assert version.split(" / ")[0] in text
    assert text.count('??? info "Where these numbers come from"') == 6
    for link in re.findall(r"\]\((\.\./\.\./results/measured/[^)]*)\)", text):
        assert (pages.ROOT / "docs" / "results" / link).resolve().is_file(), link


def test_the_first_version_is_told_apart() -> None:
    assert "first version of `emoji-lt-small`" in result_pages.page(RESULTS, f"{SMALL}-v1")
    assert "first version" not in result_pages.page(RESULTS, SMALL)


def test_findings_follow_the_tables(results: Path) -> None:
    text = result_pages.findings(measured(results), results)
    default = pd.read_csv(results / SMALL / "beyond.csv").query("kind == 'default'").set_index("method")
    others = default.drop(index=["baseline", "x2-cls"])
    better = others[others["tail_over_control_low"] > 0]
    assert f"{len(better)} of {len(others) + 1} methods beat" in text, "ncm-conv is in Table 1 alone"
    best = better["tail_over_control"].idxmax()
    assert text.index(f"(../methods/{best}.md)") == text.index("(../methods/")
    free = better[better["head_over_control_high"] >= 0]
    assert f"{len(free)} of these {len(better)} cost the head nothing" in text
    table = per_category.read(results / SMALL / "tiny" / "seed0" / "baseline" / "per_category.csv").iloc[:-1]
    ranks = table[["weight_norm", "instance_count"]].rank()
    assert f"{np.corrcoef(ranks.T)[0, 1]:.2f} for [Softmax baseline]" in text

    path = results / SMALL / "beyond.csv"
    frame = pd.read_csv(path)
    over = [column for column in frame if "_over_control" in column]
    frame.loc[frame["method"] == "lws", over] = 0.5
    frame.to_csv(path, index=False)
    assert "First are [LWS](../methods/lws.md) (+50.0±0.0)" in result_pages.findings(measured(results), results)


def test_few_methods_or_one_seed_tell_nothing(results: Path) -> None:
    path = results / SMALL / "beyond.csv"
    frame = pd.read_csv(path)
    for few in (frame[frame["method"].isin(["baseline", "x2-cls", "bags"])], frame[:0]):
        few.to_csv(path, index=False)
        for name in ("table1.csv", "table4.csv", "table5.csv"):
            (results / SMALL / name).unlink(missing_ok=True)
        assert result_pages.findings(measured(results), results) == ""


def test_beside_the_paper() -> None:
    text = result_pages.versus_paper(RESULTS)
    found = [row[2:4] for row in cells(text) if row[:2] == ["(14)", "bags (released)"]]
    assert ["+5.9 ✓", "+19.7 ✓"] in found, "64 classes"
    assert ["+13.8 ✓", "+16.3 ✓"] in found, "1,230 classes"
    printed = result_pages.published_tables()
    assert all(f"### The paper's Table {number}" in printed for number in range(1, 7))
    assert ["14", "Ours", "25.96"] in [row[:3] for row in cells(printed)]
    (bags,) = [row for row in cells(result_pages.what_carries_over(RESULTS)) if row[:2] == ["bags", "+7.4"]]
    assert "+3.9±0.4" in bags
