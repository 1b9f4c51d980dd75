"""Tables over several seeds, and the comparison with the paper's signs, on records made by hand."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analyses import latex, outputs, tables
from analyses.studies import STUDIES
from imbalance_bench.methods import METHODS
from imbalance_bench.runtime.errors import InputError

STUDY = STUDIES["table 1"]


def record(root: Path, seed: int, folder: str, **metrics: float) -> None:
    path = root / f"seed{seed}" / folder
    path.mkdir(parents=True)
    settings = {"dataset": "d", "detector": "t", "seed": seed, "schedule": None, "bin_edges": [5, 20, 80]}
    provenance = {
        "seconds": {"train": 1.0},
        "machine": "m",
        "date": "today",
        "versions": {"torch": "2"},
        "command": "c",
    }
    everything = {"mAP": 0.2, "AP1": 0.0, "ACCbg": 0.9, **{f"AP{i}_classes": i for i in (1, 2, 3, 4)}} | metrics
    (path / "record.json").write_text(
        json.dumps({"settings": settings, "provenance": provenance, "metrics": everything})
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "d" / "t"
    for seed, (baseline, bags, tau) in enumerate([(0.20, 0.26, 0.10), (0.22, 0.30, 0.14), (0.24, 0.28, 0.30)]):
        record(root, seed, "baseline", mAP=baseline)
        record(root, seed, "bags", mAP=bags, AP1=0.05)
        record(root, seed, "tau-norm", mAP=tau, ACCbg=0.1)
    record(root, 0, "bags-beta=2", mAP=0.9)  # not of this study
    record(root, 0, "ncm-fc-fixed", mAP=0.1)
    return root


def test_runs_are_in_the_order_of_the_study(root: Path) -> None:
    runs = tables.study_runs(root, STUDY)
    assert runs["run"].tolist() == ["baseline"] * 3 + ["ncm-fc:fixed"] + ["tau-norm"] * 3 + ["bags"] * 3
    assert runs["seed"].tolist() == [0, 1, 2, 0, 0, 1, 2, 0, 1, 2]
    with pytest.raises(InputError, match="no finished run of table 5"):
        tables.study_runs(root, STUDIES["table 5"])


def test_mean_and_deviation(root: Path) -> None:
    frame = tables.summary(tables.study_runs(root, STUDY), STUDY)
    baseline, ncm, _, bags = (row for _, row in frame.iterrows())
    assert baseline["mAP"] == pytest.approx(0.22)
    assert baseline["mAP_std"] == pytest.approx(0.02)
    assert bags["seeds"] == 3
    assert ncm["seeds"] == 1 and np.isnan(ncm["mAP_std"])
    shown = tables.shown(frame, STUDY, ["mAP"])
    assert shown["mAP"].tolist() == ["22.0±2.0", "10.0", "18.0±10.6", "28.0±2.0"]


def test_one_seed_is_shown_with_two_decimals(root: Path) -> None:
    runs = tables.study_runs(root, STUDY)
    shown = tables.shown(tables.summary(runs[runs["seed"] == 0], STUDY), STUDY, ["mAP", "AP2"])
    assert shown.columns.tolist() == ["row", "method", "mAP"], "a measure that is not there has no column"
    assert shown["mAP"].tolist() == ["20.00", "10.00", "10.00", "26.00"]


def test_signs_against_the_paper(root: Path) -> None:
    compared = tables.versus_paper(tables.study_runs(root, STUDY), STUDY).set_index(["row", "measure"])
    bags = compared.loc[("(14)", "mAP")]
    # The paper: 25.96 - 20.98. Ours, seed by seed: 6, 8 and 4.
    assert bags["paper"] == pytest.approx(4.98)
    assert bags["ours"] == pytest.approx(6.0)
    assert bags["noise"] == pytest.approx(2 * np.std([6, 8, 4], ddof=1))
    assert bags["verdict"] == "agree"
    assert compared.loc[("(12)", "mAP"), "verdict"] == "within noise"  # -10, -8 and +6
    assert compared.loc[("(12)", "ACCbg"), "verdict"] == "agree"
    ncm = compared.loc[("(10)", "mAP")]
    assert ncm["ours"] == pytest.approx(-10), "one seed: against the baseline of that seed, not the mean of all"
    assert ncm["verdict"] == "agree", "and by the sign alone"
    assert compared.loc[("(12)", "AP1"), "verdict"] == "within noise"  # the paper has no difference
    wide = tables.signs(compared.reset_index(), STUDY).set_index("row")
    assert wide.loc["(14)", "mAP"] == "+6.0 ✓"
    assert wide.index.tolist() == ["(10)", "(12)", "(14)"]


def test_nothing_to_compare(root: Path) -> None:
    runs = tables.study_runs(root, STUDY)
    assert tables.signs(tables.versus_paper(runs[runs["run"] == "baseline:paper"], STUDY), STUDY).empty


def test_frameworks_are_compared_with_their_own_baseline(tmp_path: Path) -> None:
    study = STUDIES["table 6"]
    for detector, boxes, masks in (("tiny", 0.2, None), ("tiny-mask", 0.3, 0.1)):
        for method, gain in (("baseline", 0.0), ("bags", 0.05), ("x2-cls", 0.01)):
            extra = {} if masks is None else {"mAP^m": masks - gain}
            record(tmp_path / "d" / detector, 0, method, mAP=boxes + gain, **extra)
    record(tmp_path / "d" / "mask-rcnn-r50", 0, "bags", mAP=0.9)  # of the other scale
    runs = tables.study_runs(tmp_path / "d" / "tiny", study)
    assert runs["framework"].tolist() == ["Faster R50"] * 3 + ["Mask R50"] * 3
    frame = tables.summary(runs, study)
    assert frame["mAP"].tolist() == pytest.approx([0.2, 0.21, 0.25, 0.3, 0.31, 0.35])
    assert tables.shown(frame, study, ["mAP^m"])["mAP^m"].tolist() == ["-", "-", "-", "10.00", "9.00", "5.00"]
    compared = tables.versus_paper(runs, study).set_index(["row", "measure"])
    assert compared.loc[("(4)", "mAP"), "ours"] == pytest.approx(5.0)
    # The paper's masks are rows of their own: 20.3 - 18.0.
    assert compared.loc[("(4)", "mAP^m"), "paper"] == pytest.approx(2.3)
    assert compared.loc[("(4)", "mAP^m"), "verdict"] == "disagree"
    assert ("(2)", "mAP^m") not in compared.index
    assert tables.study_runs(tmp_path / "d" / "mask-rcnn-r50", study)["mAP"].tolist() == [0.9]


def test_markdown_and_caption(root: Path) -> None:
    frame = tables.shown(tables.summary(tables.study_runs(root, STUDY), STUDY), STUDY, ["mAP"])
    lines = tables.markdown(frame).splitlines()
    assert len(lines) == 2 + len(frame)
    assert len({len(line) for line in lines}) == 1, "columns are aligned"
    runs = tables.study_runs(root, STUDY)
    assert "seeds 0, 1, 2" in tables.caption(runs)
    assert "1: [0,5) (1 class)" in tables.caption(runs)


def test_differences_to_a_row_are_seed_by_seed(root: Path) -> None:
    runs = tables.study_runs(root, STUDY)
    frame, base = tables.summary(runs, STUDY, "baseline"), tables.summary(runs, STUDY)
    by_run = runs.pivot_table("mAP", "seed", "run")
    for (_, one), (_, own) in zip(frame.iterrows(), base.iterrows(), strict=True):
        if one["run"].startswith("baseline"):
            assert not one["is_difference"] and one["mAP"] == own["mAP"]
            continue
        expected = (by_run[one["run"]] - by_run[frame["run"].iloc[0]]).dropna()
        assert one["is_difference"] and one["seeds"] == len(expected)
        assert one["mAP"] == pytest.approx(expected.mean())
        if len(expected) > 1:
            assert one["mAP_std"] == pytest.approx(expected.std())
    cells = tables.shown(frame, STUDY, ["mAP"])["mAP"]
    assert not cells[0].startswith("+") and all(cell[0] in "+-" for cell in cells[1:])
    assert "of other rows the differences to baseline" in tables.caption(runs, "baseline")
    with pytest.raises(InputError, match="no finished run 'ncm-conv' to compare with"):
        tables.summary(runs, STUDY, "ncm-conv")


def test_latex_as_papers_print_it(root: Path) -> None:
    frame = tables.summary(tables.study_runs(root, STUDY), STUDY)
    lines = latex.table(frame, STUDY, ("mAP", "AP1", "ACCbg", "mAP^m"), "50 % of a_b").splitlines()
    assert lines[0] == r"\begin{table}[t]" and lines[-1] == r"\end{table}"
    assert r"\caption{50 \% of a\_b}" in lines
    start, end = lines.index(r"\begin{tabular}{lllrrr}"), lines.index(r"\bottomrule")
    assert lines[start + 2] == r" &  &  & \multicolumn{2}{c}{AP} & \multicolumn{1}{c}{Proposal accuracy} \\"
    assert lines[start + 3] == r"\cmidrule(lr){4-5}\cmidrule(lr){6-6}"
    assert lines[start + 4] == r"row & method & seeds & mAP & AP1 & ACCbg \\"
    body = [line.replace(r"{\scriptsize$\pm$", "{±") for line in lines[start + 6 : end]]
    assert body == [
        r"(1) & baseline & 3 & 22.0{±2.0} & 0.0{±0.0} & \textbf{90.0}{±0.0} \\",
        r"\midrule",
        r"(10) & ncm-fc (fixed) & 1 & 10.0 & 0.0 & \textbf{90.0} \\",
        r"\midrule",
        r"(12) & tau-norm (paper) & 3 & 18.0{±10.6} & 0.0{±0.0} & 10.0{±0.0} \\",
        r"\midrule",
        r"(14) & bags (released) & 3 & \textbf{28.0}{±2.0} & \textbf{5.0}{±0.0} & \textbf{90.0}{±0.0} \\",
    ]


def test_latex_escapes_what_it_is_given() -> None:
    assert latex.escaped(r"a_b \x{y} 5 % #1 ~^ ±") == (
        r"a\_b \textbackslash{}x\{y\} 5 \% \#1 \textasciitilde{}\textasciicircum{} $\pm$"
    )


def test_what_a_caption_says_of_its_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    method = replace(METHODS["bags"], notes={"paper": "a note"}, corrected={"released": "2026-03-02"})
    monkeypatch.setattr(tables, "METHODS", {"bags": method})
    before, after = "2026-03-01T23:59:59+00:00", "2026-03-02T00:00:01+00:00"
    assert tables.remarks([("bags:released", after), ("bags:groups=2", after)]) == ""
    assert tables.remarks([("bags:paper", before)]) == "bags (paper): a note."
    # Settings share the day of the default; one seed from before is enough, and so is a method that is gone.
    runs = [("bags:released", f"{after} / {before}"), ("bags:groups=2", before), ("old:paper", after)]
    assert tables.remarks([*runs, *runs]) == (
        "Measured before the variant was corrected, and to be measured anew: bags (released, groups=2), old (paper)."
    )


def test_the_caption_says_what_was_set_after_a_look_at_validation(tmp_path: Path) -> None:
    """bags-head trains at a quarter of the rate, since it collapsed at the full one; its record says so."""
    root = tmp_path / "d" / "t"
    record(root, 0, "bags-beta=1")
    record(root, 0, "bags-tune-head")
    study = STUDIES["table 5"]
    assert "nothing was tuned on the validation set" in tables.caption(tables.study_runs(root, study))
    record(root, 0, "bags-head")
    caption = tables.caption(tables.study_runs(root, study))
    assert "row (2), bags-head: a quarter of the detector's learning rate, after a collapse" in caption
    assert "nothing was tuned" not in caption and "row (3)" not in caption


def test_the_committed_tables_are_those_of_their_runs() -> None:
    measured = Path(__file__).resolve().parents[2] / "results" / "measured"
    for number in range(1, 7):
        folder = measured / ("emoji-lt-small" if number in (1, 4, 5) else "emoji-lt-small-v1")
        study, runs = STUDIES[f"table {number}"], pd.read_csv(folder / f"table{number}.csv")
        known = runs["run"].isin([str(row.run) for row in study.rows])
        runs = runs[known]
        assert (folder / f"table{number}.md").read_text() == outputs.markdown(runs, study) + "\n"
        caption = f"{study.title}. {tables.caption(runs)}"
        text = latex.table(tables.summary(runs, study), study, tables.COLUMNS, caption)
        assert (folder / f"table{number}.tex").read_text().count("textbf") == text.count("textbf")
