"""Records and tables of runs are checked, field by field; those in the repository pass."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from imbalance_bench.experiments.model_index import model_index
from imbalance_bench.experiments.record_check import problems
from imbalance_bench.experiments.run_folder import RunFolder

Run = Callable[..., tuple[int, str, str]]
RESULTS = Path(__file__).resolve().parents[2] / "results"
BAGS = RESULTS / "measured" / "hdbpmn" / "small" / "seed0" / "bags"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(BAGS, tmp_path / "run")
    return tmp_path / "run"


def change(folder: Path, *keys: str, to: Any) -> None:
    """Set a field of a record, or take it away."""
    path = folder / "record.json"
    content = part = json.loads(path.read_text())
    for key in keys[:-1]:
        part = part[key]
    if to is None:
        del part[keys[-1]]
    else:
        part[keys[-1]] = to
    path.write_text(json.dumps(content))


def test_all_committed_runs_pass() -> None:
    runs = sorted(path.parent for path in RESULTS.rglob("record.json"))
    assert len(runs) > 400
    assert [problem for folder in runs for problem in problems(folder)] == []


@pytest.mark.parametrize(
    ("keys", "to", "told"),
    [
        (("settings", "seed"), "one", "field 'settings.seed': 'one' is not of type 'integer'"),
        (("settings", "annotations_sha256"), ["0"], "field 'settings.annotations_sha256"),
        (("settings", "precision"), "fp8", "field 'settings.precision': 'fp8' is not one of"),
        (("settings", "schedule"), {"epochs": 12}, "field 'settings.schedule'"),
        (("provenance", "machine"), None, "field 'provenance': 'machine' is a required property"),
        (("provenance", "versions"), {"torch": "2"}, "'imbalance-bench' is a required property"),
        (("metrics", "AP2"), 32.7, "field 'metrics.AP2': 32.7 is greater than the maximum of 1"),
        (("metrics", "ACCbg"), -0.1, "field 'metrics.ACCbg': -0.1 is less than the minimum of 0"),
        (("metrics",), None, "record.json: field 'record': 'metrics' is a required property"),
        (("metrics", "AP2"), 0.5, "field 'metrics.AP2' is 0.500000, expected 0.32"),
        (("metrics", "ACC1"), 0.5, "field 'metrics.ACC1' is 0.500000, expected"),
        (("settings", "bin_edges"), [10], "field 'settings.bin_edges' makes 2 bins, expected 4"),
        (("provenance", "command"), "train --data /home/me/data", "'provenance.command' names a path of one machine"),
        (("provenance", "command"), "train --data=~/data", r"\(=~/data\), expected relative paths"),
        (("provenance", "command"), r"train C:\data", "names a path of one machine"),
    ],
)
def test_what_is_wrong_is_named(copy: Path, keys: tuple[str, ...], to: Any, told: str) -> None:
    assert problems(copy) == []
    change(copy, *keys, to=to)
    found = "\n".join(problems(copy))
    assert told.replace("\\", "") in found.replace("\\", ""), found
    assert all(line.startswith(str(copy / "record.json")) for line in found.splitlines())


def test_a_table_that_was_changed(copy: Path) -> None:
    table = pd.read_csv(copy / "per_category.csv", keep_default_na=False)
    table.loc[0, "ap"] = "1.5"
    table.to_csv(copy / "per_category.csv", index=False)
    found = "\n".join(problems(copy))
    assert "column 'ap' has values outside of 0 to 1" in found
    assert "field 'metrics.mAP' is" in found and "changed since the run" in found
    (copy / "per_category.csv").unlink()
    assert [problem.partition(": ")[2] for problem in problems(copy)] == [
        "no such file, expected a run's per_category.csv"
    ]


def test_command(copy: Path, run: Run) -> None:
    assert run("check-runs", str(copy))[0] == 0
    change(copy, "metrics", "AP2", to=0.5)
    status, printed, _ = run("check-runs", str(copy))
    assert status == 1 and "1 runs checked, 1 problems" in printed
    assert run("check-runs", str(copy / "absent"))[0] == 2


def test_results_for_a_model_card(run: Run, tmp_path: Path) -> None:
    content = yaml.safe_load(model_index(RunFolder(BAGS)))
    (model,) = content["model-index"]
    (result,) = model["results"]
    metrics = RunFolder(BAGS).record()["metrics"]
    assert result["task"] == {"type": "object-detection"} and result["dataset"]["type"] == "hdbpmn"
    assert {"mAP", "AP1", "AP4", "ACCbg"} <= {metric["type"] for metric in result["metrics"]}
    for metric in result["metrics"]:
        assert metric["value"] == pytest.approx(100 * metrics[metric["type"]], abs=0.005)
    assert (
        next(m["name"] for m in result["metrics"] if m["type"] == "AP1") == "AP1, classes with [0,10) train instances"
    )
    assert run("model-index", str(BAGS), "-o", str(tmp_path / "card.yml"))[0] == 0
    assert yaml.safe_load((tmp_path / "card.yml").read_text()) == content
