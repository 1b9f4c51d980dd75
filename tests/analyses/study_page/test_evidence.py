"""What a study's page reads from run folders: means, gains over the control by seed or by image, what is left out."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from invented import SKILLS, write_study
from scipy import stats

from analyses.study_page import detected, evidence
from analyses.study_page.conclusions import conclusions
from imbalance_bench.datasets.registry import DataSet
from imbalance_bench.evaluation.uncertainty import paired
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.files import write_json
from imbalance_bench.runtime.progress import Reporter


@pytest.fixture(scope="module")
def three(mini: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seeds of a study, as exported; bags-paper and a method that is gone in the first alone."""
    few = {name: SKILLS[name] for name in ("baseline", "x2-cls", "bags", "tau-norm")}
    root = write_study(mini, tmp_path_factory.mktemp("three"), (0, 1, 2), detections=False, skills=few)
    shutil.copytree(root / "seed0" / "bags", root / "seed0" / "bags-paper")
    shutil.copytree(root / "seed0" / "bags", root / "seed0" / "gone")
    for folder, changes in (("bags-paper", {"variant": "paper"}), ("gone", {"method": "gone", "variant": "default"})):
        path = root / "seed0" / folder / "record.json"
        record = json.loads(path.read_text())
        record["settings"] |= changes
        write_json(path, record)
    return root


@pytest.fixture
def copy(three: Path, tmp_path: Path) -> Path:
    return shutil.copytree(three, tmp_path / "emoji-lt-mini" / "tiny")


def change(path: Path, **settings: object) -> None:
    record = json.loads(path.read_text())
    record["settings"] |= settings
    write_json(path, record)


def test_means_and_gains_over_seeds(three: Path) -> None:
    found = evidence.read(three)
    assert found.control == "x2-cls" and found.over == "seeds" and found.left_out == []
    assert found.settings.index.tolist() == ["baseline", "x2-cls", "tau-norm", "bags", "bags-paper", "gone"]
    assert found.methods.index.tolist() == ["baseline", "x2-cls", "tau-norm", "bags", "gone"]
    assert found.settings["own_control"].tolist() == ["baseline", "x2-cls", "x2-cls", "x2-cls", "x2-cls", "-"]
    assert found.settings["family"].tolist()[-2:] == ["group softmax", "no longer in the catalogue"]
    tables = {
        (folder, seed): pd.read_csv(three / f"seed{seed}" / folder / "per_category.csv").iloc[:-1]
        for folder in ("bags", "x2-cls") for seed in range(3)
    }  # fmt: skip
    bags = found.settings.loc["bags"]
    groups = {"tail": [1, 2], "head": [3, 4], "mAP": [1, 2, 3, 4], "AP3": [3]}
    for group, bins in groups.items():
        ap = {key: table.loc[table["bin"].isin(bins), "ap"].mean() for key, table in tables.items()}
        own = [ap["bags", seed] for seed in range(3)]
        assert bags[group] == pytest.approx(np.mean(own))
        assert bags[f"{group}_std"] == pytest.approx(np.std(own, ddof=1))
        differences = [ap["bags", seed] - ap["x2-cls", seed] for seed in range(3)]
        interval = stats.ttest_1samp(differences, 0).confidence_interval()
        expected = [np.mean(differences), interval.low, interval.high]
        assert bags[[f"{group}_{end}" for end in ("gain", "low", "high")]].tolist() == pytest.approx(expected)
    alone = found.settings.loc["bags-paper"]
    assert alone["seeds"] == 1 and np.isnan(alone["tail_low"]) and np.isnan(alone["tail_std"])
    first = tables["bags", 0].loc[lambda table: table["bin"] <= 2, "ap"].mean()
    control = tables["x2-cls", 0].loc[lambda table: table["bin"] <= 2, "ap"].mean()
    assert alone["tail_gain"] == pytest.approx(first - control), "against the control of its own seed"
    assert found.settings.loc["x2-cls", "tail_gain"] == 0
    assert found.bins["boxes"].tolist() == [48, 48, 72, 120] and found.bins["classes"].tolist() == [2, 2, 3, 5]
    norms = [pd.read_csv(three / f"seed{seed}" / "bags" / "per_category.csv")["weight_norm"] for seed in range(3)]
    np.testing.assert_allclose(found.per_category("bags")["weight_norm"], sum(norms) / 3)


def test_what_does_not_fit_is_left_out_and_said(copy: Path) -> None:
    (copy / "seed0" / "bags" / "record.json").write_text("{")
    (copy / "seed1" / "bags" / "per_category.csv").write_text("a,b\n1,2\n")
    change(copy / "seed2" / "bags" / "record.json", bin_edges=[1, 2, 3])
    record = json.loads((copy / "seed0" / "tau-norm" / "record.json").read_text())
    del record["settings"]["variant"]
    write_json(copy / "seed0" / "tau-norm" / "record.json", record)
    found = evidence.read(copy)
    assert "bags" not in found.settings.index and found.settings.loc["tau-norm", "seeds"] == 2
    said = "\n".join(found.left_out)
    assert len(found.left_out) == 4
    assert "seed0/bags/record.json" in said and "seed1/bags/per_category.csv: field 'label' is missing" in said
    assert "seed0/tau-norm/record.json: field 'variant' of a run is missing or wrong" in said
    assert "seed2/bags: of other annotations or bins than most runs" in said


def test_nothing_there(tmp_path: Path, copy: Path) -> None:
    with pytest.raises(InputError, match="no finished run there, 'run-all' makes them"):
        evidence.read(tmp_path / "none")
    for path in copy.glob("*/*/record.json"):
        path.write_text("[]")
    with pytest.raises(InputError, match=r"no finished run there \(.*record.json"):
        evidence.read(copy)


def test_without_the_control(copy: Path) -> None:
    for folder in copy.glob("*/x2-cls"):
        shutil.rmtree(folder)
    found = evidence.read(copy)
    assert found.control == "baseline"
    assert "x2-cls, the same classifier trained longer, was not run" in conclusions(found)[0]
    for folder in copy.glob("*/baseline"):
        shutil.rmtree(folder)
    found = evidence.read(copy)
    assert found.control is None and "tail_gain" not in found.settings
    assert conclusions(found) == ["Nothing to compare with was run: the tables below are levels alone."]


@pytest.fixture(scope="module")
def one(mini: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One seed, with its detections."""
    return write_study(mini, tmp_path_factory.mktemp("one"), (0,), detections=True)


def test_one_seed_has_intervals_over_images(one: Path, mini: DataSet) -> None:
    found = evidence.read(one)
    assert found.over == "" and "nothing tells which differences are chance" in conclusions(found)[1]
    seen = detected.find(found, mini.train_images.parents[1])
    assert set(seen.runs) == set(found.settings.index)
    gains = detected.gains_over_images(seen, "x2-cls", Reporter())
    expected = paired(seen.of("x2-cls"), seen.of("bags"), seen.truth)
    for measure in ("mAP", "AP1", "AP4"):
        row = gains.loc["bags", [f"{measure}_{end}" for end in ("gain", "low", "high")]]
        assert row.tolist() == pytest.approx(
            expected.loc[measure, ["difference", "images_low", "images_high"]].tolist(), abs=1e-9
        )
    assert gains.loc["x2-cls", "tail_gain"] == 0 and np.isnan(gains.loc["x2-cls", "tail_low"])
    both = evidence.with_gains(found, gains)
    assert both.loc["bags", "tail_gain"] == pytest.approx(found.settings.loc["bags", "tail_gain"], abs=1e-9)
    assert both.loc["bags", "tail_low"] == gains.loc["bags", "tail_low"]


def test_detections_without_their_data(one: Path, mini: DataSet, tmp_path: Path) -> None:
    found = evidence.read(one)
    with pytest.raises(InputError, match=r"is not in .*, '--data-dir' names another place"):
        detected.find(found, tmp_path)
    root = shutil.copytree(one, tmp_path / "emoji-lt-mini" / "tiny")
    for path in root.glob("*/*/record.json"):
        change(path, annotations_sha256=["0", "0"])
    with pytest.raises(InputError, match="is not the one that the runs were measured on"):
        detected.find(evidence.read(root), mini.train_images.parents[1])
    (root / "seed0" / "bags" / "detections.npz").write_bytes(b"0")
    with pytest.raises(InputError, match=r"detections.npz: was changed or damaged"):
        detected.find(evidence.read(root), mini.train_images.parents[1])


def test_conclusions_count_what_the_intervals_say(three: Path) -> None:
    found = evidence.read(three)
    lines = conclusions(found)
    assert lines[0].startswith("3 methods are compared with x2-cls: the same classifier, trained longer by as much")
    frame = found.methods.drop(index=["baseline", "x2-cls"]).dropna(subset="tail_low")
    gain, lose = (frame["tail_low"] > 0).sum(), (frame["tail_high"] < 0).sum()
    said = f"{gain} of the 2 with several seeds gain beyond chance and {lose} lose: 95 % intervals over seeds"
    assert said in lines[1]
    best = frame["tail_gain"].idxmax()
    assert gain and lines[2].startswith(f"Most is gained by {best} (")
