"""Wrong options of `diagnose` give one clear line, before mmdet is loaded or anything is written."""

from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"--config": "none.py"}, "option '--config' is 'none.py', which is not there, expected a file"),
        ({"--checkpoint": "folder"}, "option '--checkpoint' is 'folder', a folder, expected a file"),
        ({"--val-annotations": "none.json"}, "option '--val-annotations' is 'none.json', which is not there"),
        ({"--images": "file"}, "option '--images' is 'file', a file, expected a folder"),
        ({"--val-images": "none"}, "option '--val-images' is 'none', which is not there, expected a folder"),
        ({"--out": "file"}, "option '--out' is 'file', a file, expected a folder"),
        ({"--methods": "x2-cls, bagz"}, "unknown method 'bagz', did you mean 'bags'?"),
        ({"--methods": "x2-cls, bags", "--export": "tau-nrom"}, "unknown method 'tau-nrom', did you mean 'tau-norm'?"),
    ],
)
def test_wrong_words(
    changes: dict[str, str], line: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("imbalance_bench.diagnosis.diagnose", lambda *_, **__: pytest.fail("it has begun"))
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    files = ("--config", "--checkpoint", "--train-annotations", "--val-annotations")
    given = {**dict.fromkeys(files, "file"), "--images": "folder", **changes}
    status, _, error = run("diagnose", *(part for pair in given.items() for part in pair))
    assert status == 2
    assert line in error and error.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"file", "folder"}


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
