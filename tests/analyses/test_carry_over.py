"""What carries over between data sets: gains as they were measured and printed, correlations, agreement."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analyses import carry_over, published
from analyses.carry_over import PAPER
from imbalance_bench.evaluation.per_category import COLUMNS
from imbalance_bench.runtime.errors import InputError

Run = Callable[..., tuple[int, str, str]]
METHODS = ("baseline", "x2-cls", "bags", "reweight-cls", "tau-norm", "ncm-fc")


def write(folder: Path, world: str, tail: list[float], half: float = 0.01) -> None:
    """Write the columns of a ``beyond.csv`` that are read; ``tail`` are the gains over the control."""
    columns: dict[str, object] = {"method": METHODS, "kind": "default", "seeds": 3, "over": "seeds"}
    for group in ("mAP", "tail", "head"):
        for reference in ("gain", "over_control"):
            values = np.array(tail) + (0.02 if reference == "gain" else 0)
            ends = {"": values, "_low": values - half, "_high": values + half}
            columns |= {f"{group}_{reference}{end}": column for end, column in ends.items()}
    (folder / world).mkdir(parents=True)
    frame = pd.DataFrame(columns)
    tuned = frame.assign(kind="tuned", tail_gain=9.0)
    pd.concat([frame, tuned]).to_csv(folder / world / "beyond.csv", index=False)


@pytest.fixture
def gains(tmp_path: Path) -> pd.DataFrame:
    write(tmp_path, "drawn", [-0.02, 0, 0.03, 0.02, -0.04, 0.005])
    write(tmp_path, "real", [-0.03, 0, 0.02, 0.03, -0.01, -0.05])
    return carry_over.collect(tmp_path)


def test_the_papers_gains_are_its_printed_ones() -> None:
    paper = carry_over.of_paper().set_index(["method", "group"])
    printed = published.by_row(1)
    tails = (67 * printed["AP1"] + 298 * printed["AP2"]) / 365
    heads = (284 * printed["AP3"] + 181 * printed["AP4"]) / 465
    assert paper.loc[("bags", "mAP"), "gain"] == pytest.approx(25.96 - 20.98)
    assert paper.loc[("bags", "tail"), "gain"] == pytest.approx(tails[14] - tails[1])
    assert paper.loc[("reweight-cls", "head"), "over_control"] == pytest.approx(heads[7] - heads[2])
    # Bins and their classes are right: the mean over classes is the printed mAP.
    means = (365 * tails + 465 * heads) / 830
    assert np.abs(means - printed["mAP"]).median() < 0.02
    assert paper["gain_low"].isna().all() and len(paper) == 3 * 14


def test_gains_are_in_points_of_default_settings(gains: pd.DataFrame) -> None:
    assert list(dict.fromkeys(gains["world"])) == [PAPER, "drawn", "real"]
    row = gains[(gains["world"] == "drawn") & (gains["method"] == "bags") & (gains["group"] == "tail")].iloc[0]
    assert row[["gain", "over_control", "over_control_low", "over_control_high"]].tolist() == pytest.approx(
        [5, 3, 2, 4]
    )
    assert row["seeds"] == 3 and not gains.duplicated(["world", "method", "group"]).any()


def test_correlations_are_of_the_methods_that_both_have(gains: pd.DataFrame) -> None:
    found = carry_over.correlations(gains, "tail", "over_control").set_index(["world", "other"])
    assert found.index.tolist() == [(PAPER, "drawn"), (PAPER, "real"), ("drawn", "real")]
    assert found.loc[("drawn", "real"), "methods"] == 4
    expected = stats.spearmanr([0.03, 0.02, -0.04, 0.005], [0.02, 0.03, -0.01, -0.05]).statistic
    assert found.loc[("drawn", "real"), "spearman"] == pytest.approx(expected)
    of_paper = carry_over.of_paper().set_index(["method", "group"])["over_control"]
    names = ["bags", "reweight-cls", "tau-norm", "ncm-fc"]
    printed = [of_paper[name, "tail"] for name in names]
    expected = stats.spearmanr(printed, [0.03, 0.02, -0.04, 0.005]).statistic
    assert found.loc[(PAPER, "drawn"), "spearman"] == pytest.approx(expected)


def test_agreement(gains: pd.DataFrame) -> None:
    found = carry_over.agreement(gains)
    assert found.loc[["bags", "tau-norm", "ncm-fc", "baseline"], "worlds"].tolist() == [
        "all +",
        "mixed",
        "mixed",
        "all -",
    ]
    assert found.loc["ncm-fc", ["drawn", "real"]].tolist() == ["~", "-"]
    assert PAPER not in found and "x2-cls" not in found.index
    # What was not run in a world is no minus.
    found = carry_over.agreement(gains[(gains["world"] != "real") | (gains["method"] != "bags")])
    assert found.loc["bags", ["drawn", "real", "worlds"]].tolist() == ["+", "", ""]


def test_a_table_for_readers(gains: pd.DataFrame) -> None:
    shown = carry_over.table(gains, "tail").set_index("method")
    assert shown.loc["bags", "drawn"] == "+3.0±1.0" and shown.loc["rfs", "drawn"] == "-"
    assert shown.loc["x2", PAPER] == "+0.0"


def write_runs(folder: Path) -> list[int]:
    """Write the two runs that the properties of a set are measured from; return its counts."""
    counts = [0, 1, 4, 5]
    frame = pd.DataFrame(index=pd.RangeIndex(5, name="label"), columns=list(COLUMNS))
    frame = frame.assign(
        id=[1, 2, 3, 4, 0], name=[*"abcd", "background"], image_count=[*counts, 0], instance_count=[*counts, 0],
        frequency="r", bin=[0, 1, 1, 1, 0], val_instances=[2, 2, 4, 2, np.nan], proposals=[0, 10, 10, 20, 60],
        correct=[0, 5, 1, 20, 60], proposal_recall=[0.5, 1, 0.75, 1, np.nan],
    )  # fmt: skip
    for run in ("baseline", "ncm-fc-fixed"):
        (folder / run).mkdir(parents=True)
        frame.to_csv(folder / run / "per_category.csv")
    return counts


def test_properties_of_a_set(tmp_path: Path) -> None:
    counts = write_runs(tmp_path)
    found = carry_over.properties(tmp_path)
    assert (found["classes"], found["train instances"], found["imbalance"]) == (3, 10, 5)
    differences = sum(abs(a - b) for a in counts[1:] for b in counts[1:])
    assert found["gini"] == pytest.approx(differences / (2 * 3 * 10))
    assert found["background"] == pytest.approx(0.6)
    assert found["recall"] == pytest.approx((0.5 * 2 + 2 + 3 + 2) / 10)
    assert found["separability"] == pytest.approx(np.mean([0.5, 0.1, 1]))


def test_worlds_are_described_where_their_runs_are(gains: pd.DataFrame, tmp_path: Path) -> None:
    assert carry_over.worlds(tmp_path, gains).empty
    write_runs(tmp_path / "real" / "tiny" / "seed0")
    found = carry_over.worlds(tmp_path, gains)
    assert found.index.tolist() == ["real"] and found.loc["real", "classes"] == 3
    assert found.loc["real", "best on tail"] == "reweight-cls +3.0"
    assert found.loc["real", "bags on tail"] == pytest.approx(2)


def test_what_is_no_result_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no '<data set>/beyond\.csv' there"):
        carry_over.collect(tmp_path)
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "beyond.csv").write_text("method,kind\nbags,default\n")
    with pytest.raises(InputError, match=r"odd/beyond\.csv: not a table of 'beyond' \('mAP_gain'\)"):
        carry_over.collect(tmp_path)


def test_the_command(gains: pd.DataFrame, tmp_path: Path, run: Run) -> None:
    code, out, _ = run("carry-over", tmp_path, "-o", tmp_path / "out")
    assert code == 0 and "gain over plain longer training, tail" in out and "+3.0±1.0" in out
    written = pd.read_csv(tmp_path / "out" / "carry_over.csv")
    pd.testing.assert_frame_equal(written, gains, check_dtype=False)
    assert len(pd.read_csv(tmp_path / "out" / "carry_over_correlations.csv")) == 9
    write_runs(tmp_path / "drawn" / "tiny" / "seed0")
    assert "what distinguishes the data sets" in run("carry-over", tmp_path)[1]
