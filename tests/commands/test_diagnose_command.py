"""Wrong options of `diagnose` give one clear line, before mmdet is loaded or anything is written."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

import imbalance_bench as ib
from imbalance_bench.diagnosis.predictions.example import FILES

Run = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"--config": "none.py"}, "option '--config' is 'none.py', which is not there, expected a file"),
        ({"--checkpoint": "folder"}, "option '--checkpoint' is 'folder', a folder, expected a file"),
        ({"--val-annotations": "none.json"}, "option '--val-annotations' is 'none.json', which is not there"),
        ({"--images": "file"}, "option '--images' is 'file', a file, expected a folder"),
        ({"--val-images": "none"}, "option '--val-images' is 'none', which is not there, expected a folder"),
        ({"--output": "file"}, "option '--output' is 'file', a file, expected a folder"),
        ({"--methods": "x2-cls, bagz"}, "unknown method 'bagz', did you mean 'bags'?"),
        ({"--methods": "x2-cls, bags", "--export": "tau-nrom"}, "unknown method 'tau-nrom', did you mean 'tau-norm'?"),
    ],
)
def test_wrong_words(
    changes: dict[str, str], line: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("imbalance_bench.diagnosis.diagnose.diagnose", lambda *_, **__: pytest.fail("it has begun"))
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    files = ("--config", "--checkpoint", "--train-annotations", "--val-annotations")
    given = {**dict.fromkeys(files, "file"), "--images": "folder", **changes}
    status, _, error = run("diagnose", *(part for pair in given.items() for part in pair))
    assert status == 2
    assert line in error and error.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"file", "folder"}


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({}, "option '--config' is missing: give --predictions and --val-annotations of result files, or --config"),
        ({"--model": "x"}, "option '--model' has no use with --framework mmdet"),
        ({"--framework": "torchvision"}, "option '--model' is missing: give --predictions"),
        ({"--framework": "torchvision", "--config": "file"}, "option '--config' has no use with --framework torchvis"),
        ({"--framework": "transformers", "--config": "file"}, "option '--config' has no use with --framework transfor"),
        ({"--framework": "ultralytics", "--config": "file"}, "option '--config' has no use with --framework ultraly"),
        ({"--framework": "keras", "--model": "x"}, "unknown framework 'keras' (known: mmdet, torchvision, transf"),
    ],
)
def test_a_framework_and_what_describes_its_detector(
    options: dict[str, str], line: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    files = ("--checkpoint", "--train-annotations", "--val-annotations")
    given = {**dict.fromkeys(files, "file"), "--images": "folder", **options}
    status, _, error = run("diagnose", *(part for pair in given.items() for part in pair))
    assert status == 2
    assert line in error and error.count("\n") == 1


def test_a_folder_holds_the_weights(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    files = ("--train-annotations", "file", "--val-annotations", "file", "--images", "folder")
    status, _, error = run("diagnose", "--framework", "transformers", "--model", "folder", *files)
    assert status == 2
    assert "option '--checkpoint' is 'folder/model.safetensors', which is not there, expected a file" in error


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({}, "option '--predictions' is missing: give --predictions and --val-annotations of result files"),
        ({"--predictions": "file"}, "option '--val-annotations' is missing: give --predictions"),
        ({"--val-annotations": "file"}, "option '--predictions' is missing: give --predictions"),
        ({"--predictions": "none", "--val-annotations": "file"}, "option '--predictions' is 'none', which is not"),
        ({"--predictions": "file", "--val-annotations": "file", "--images": "file"},
         "option '--images' is 'file', a file, expected a folder"),
        ({"--predictions": "file", "--val-annotations": "file", "--max-images": "0"},
         "option '--max-images' has no use with --predictions"),
        ({"--predictions": "file", "--val-annotations": "file", "--device": "auto"},
         "option '--device' has no use with --predictions"),
        ({"--predictions": "file", "--checkpoint": "file"}, "option '--predictions' has no use with --checkpoint"),
        ({"--predictions": "file", "--val-annotations": "file", "--bin-edges": "9,3"}, "option '--bin-edges': "),
        ({"--predictions": "file", "--val-annotations": "file"}, "file: not readable as JSON (the file is empty)"),
        ({"--predictions": "file", "--val-annotations": "file", "-o": "file"}, "option '--output' is 'file', a file"),
    ],
)  # fmt: skip
def test_result_files(
    options: dict[str, str], line: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    status, _, error = run("diagnose", *(part for pair in options.items() for part in pair))
    assert status == 2
    assert line in error and error.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"file"}, "nothing is written"


def test_the_example_takes_nothing_else(run: Run, tmp_path: Path) -> None:
    status, _, error = run("diagnose", "--example", "--predictions", tmp_path)
    assert status == 2 and "option '--predictions' has no use with --example" in error and error.count("\n") == 1


def test_the_example(run: Run, tmp_path: Path) -> None:
    """The bundled detector: its page and tables, and the same again from Python."""
    status, out, error = run("diagnose", "--example", "--output", tmp_path)
    assert status == 0, error
    assert "next: Treat the classifier" in out and f"written: {tmp_path / 'report.html'}" in out
    found = ib.PredictionDiagnosis.read(tmp_path)
    for line in found.summary["verdict"]:
        assert line in out
    assert found.summary["classes"] == 12 and found.summary["images"] == 36
    again = ib.diagnose(
        predictions=FILES["predictions"], annotations=FILES["val_annotations"],
        train_annotations=FILES["train_annotations"], out=tmp_path / "again",
    )  # fmt: skip
    pd.testing.assert_frame_equal(again.bins, found.bins, check_dtype=False)


def test_a_file_in_the_place_of_a_folder_is_bad_input(run: Run, tmp_path: Path, data_root: Path) -> None:
    """Wherever it is found: one line with the path."""
    file = tmp_path / "file"
    file.touch()
    status, _, error = run("export", "--work-dir", Path(__file__).parents[2] / "results" / "measured", "-o", file)
    assert status == 2 and str(file) in error and error.count("\n") == 1
    status, _, error = run("demo", "--size", "mini", "--data-dir", data_root, "--work-dir", file)
    assert status == 2 and str(file) in error and error.count("\n") == 1
    status, _, error = run("detectors", "check", "tiny", "--pretrained", tmp_path)
    assert status == 2 and "option '--pretrained' is" in error
