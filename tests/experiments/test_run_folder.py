"""Run folders: locks, and files that have changed."""

import json
import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from imbalance_bench.experiments.run_folder import RunFolder
from imbalance_bench.runtime.errors import InputError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A finished run."""
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    run.per_category.write_text("label,id\n0,1\n")
    run.checkpoint.write_bytes(b"weights")
    run.finish({"method": "bags"}, {"mAP": 0.5}, {"train": 1.0})
    return run


def test_the_refused_are_told_who_holds_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/bin/imbalance-bench", "run-baseline", "--method", "bags"])
    run = RunFolder(tmp_path)
    assert not run.is_held()
    with run.lock():
        with pytest.raises(InputError) as error, run.lock():
            pass
        message = str(error.value)
        assert f"in use by process {os.getpid()} on {os.uname().nodename} since 2" in message
        assert "(imbalance-bench run-baseline --method bags)" in message and "\n" not in message
        assert run.is_held()
    assert not run.is_held()
    with run.lock():
        assert (tmp_path / ".run.lock").read_text().count("\n") == 1, "the last holder alone"


def hold_with_a_child(folder: Path, ready: "multiprocessing.connection.Connection") -> None:
    with RunFolder(folder).lock():
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        ready.send(child)
        time.sleep(60)


def test_a_folder_is_free_when_its_holder_is_killed_and_a_worker_lives_on(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    mine, theirs = context.Pipe()
    process = context.Process(target=hold_with_a_child, args=(tmp_path, theirs))
    process.start()
    child = mine.recv()
    try:
        assert RunFolder(tmp_path).is_held()
        process.kill()
        process.join()
        assert not RunFolder(tmp_path).is_held()
        with RunFolder(tmp_path).lock():
            pass
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("damage", ["changed", "cut", "deleted"])
def test_a_damaged_file_is_refused(run: RunFolder, damage: str) -> None:
    assert run.verified(run.checkpoint) == run.checkpoint
    if damage == "deleted":
        run.checkpoint.unlink()
    else:
        run.checkpoint.write_bytes(b"wEights" if damage == "changed" else b"weigh")
    with pytest.raises(InputError, match=rf"^{run.checkpoint}: .*(sha256|is not there)") as error:
        run.verified(run.checkpoint)
    assert "\n" not in str(error.value)
    assert run.verified(run.per_category) == run.per_category, "the others are as they were"


def test_what_has_no_checksum_is_taken_as_it_is(run: RunFolder) -> None:
    (run.path / "other.txt").write_text("")
    assert run.verified(run.path / "other.txt").name == "other.txt"
    record = run.record()
    assert set(record.pop("sha256")) == {"checkpoint.pth", "per_category.csv"}
    (run.path / "record.json").write_text(json.dumps(record))
    run.checkpoint.write_bytes(b"others")
    assert run.verified(run.checkpoint) == run.checkpoint
    (run.path / "record.json").unlink()
    assert run.verified(run.checkpoint) == run.checkpoint


def test_copies_without_checkpoints_and_records_of_old_are_read(run: RunFolder, tmp_path: Path) -> None:
    for name in ("record.json", "per_category.csv"):
        (tmp_path / "copy").mkdir(exist_ok=True)
        shutil.copy(run.path / name, tmp_path / "copy" / name)
    copy = RunFolder(tmp_path / "copy")
    assert copy.verified(copy.per_category).exists()
    measured = [RunFolder(path.parent) for path in (ROOT / "results/measured").glob("*/*/seed*/*/record.json")]
    assert measured
    assert all(old.verified(old.per_category).exists() for old in measured)


def test_a_finished_run_is_only_read(run: RunFolder, tmp_path: Path) -> None:
    """A copy that ``export`` made has no ``settings.json``, and none is written into it."""
    before = sorted(path.name for path in run.path.iterdir())
    assert run.begin({"method": "bags"})
    with pytest.raises(InputError, match="was run with method"):
        run.begin({"method": "baseline"})
    assert sorted(path.name for path in run.path.iterdir()) == before
    assert not RunFolder(tmp_path / "new").begin({"method": "bags"})
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["settings.json"]


def test_a_run_from_before_an_option_came_is_still_its_run(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "focal")
    before = {"method": "focal", "variant": "fixed", "options": {"released": False}}
    folder.begin(before)
    assert not folder.begin(before | {"options": {"released": False, "gamma": 2.0}})
    with pytest.raises(InputError, match="was run with options"):
        folder.begin(before | {"options": {"released": True, "gamma": 2.0}})
    with pytest.raises(InputError, match="was run with options"):
        folder.begin(before | {"options": {"gamma": 2.0}})


def test_a_metric_of_nothing_is_nan_again(run: RunFolder) -> None:
    run.finish({"method": "bags"}, {"mAP": 0.5, "AP1": float("nan")}, {"train": 1.0})
    assert '"AP1": null' in (run.path / "record.json").read_text()
    metrics = run.record()["metrics"]
    assert metrics["mAP"] == 0.5 and metrics["AP1"] != metrics["AP1"]
