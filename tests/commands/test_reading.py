"""Reading commands do not change a work dir; their output is neither cut nor read as markup."""

import hashlib
import io
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

import imbalance_bench
from imbalance_bench.commands import options
from imbalance_bench.datasets.registry import DataSet
from imbalance_bench.methods import METHODS
from imbalance_bench.runtime.errors import InputError, look_up

Run = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).resolve().parents[2]


def snapshot(folder: Path) -> dict[str, str]:
    """Names and checksums of all files but locks, which say who holds a folder."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """A copy of some measured runs, as ``export`` makes them: records and tables alone."""
    measured = ROOT / "results" / "measured"
    for run in ("emoji-lt-small/tiny/seed0/baseline", "emoji-lt-small/tiny/seed0/bags",
                "emoji-lt-small/tiny/seed0/rfs", "emoji-lt-small/tiny/seed0/reweight-cls",
                "emoji-balanced-small/tiny/seed0/baseline"):  # fmt: skip
        shutil.copytree(measured / run, tmp_path / "measured" / run)
    return tmp_path / "measured"


def test_copies_are_read_and_stay_as_they_are(run: Run, exported: Path, tmp_path: Path) -> None:
    before, work = snapshot(exported), ("--work-dir", exported)
    seed = exported / "emoji-lt-small" / "tiny" / "seed0"
    out = tmp_path / "out"
    for command in (
        ("runs", *work),
        ("table", 1, *work),
        ("table", 1, *work, "-o", out),
        ("figure", 1, *work, "-o", out / "1.png"),
        ("figure", 3, *work, "-o", out / "3.png"),
        ("figure", "ap-by-bin", *work, "-o", out / "ap.png"),
        ("per-category", seed / "baseline", seed / "bags", "-o", out / "joined.csv"),
        ("proposal-accuracy", seed / "bags"),
        ("export", *work, "-o", out / "again"),
    ):
        status, said, error = run(*command)
        assert status == 0, (command, error)
        assert said
    for command in (("figure", "detections", *work, "-o", out / "d.png"), ("evaluate", seed / "bags")):
        status, _, error = run(*command, "--data-dir", tmp_path / "data")
        assert status == 2 and "detections.npz: " in error and error.count("\n") == 1
    assert not (tmp_path / "data").exists(), "nothing is drawn before it is known that detections are not there"
    assert snapshot(exported) == before


def test_a_training_command_does_not_write_into_a_finished_copy(
    run: Run, folders: tuple[str, ...], tmp_path: Path
) -> None:
    status, _, _ = run("export", *folders[:2], "-o", tmp_path / "copy")
    assert status == 0
    before = snapshot(tmp_path)
    given = ("--dataset", "emoji-lt-mini", "--work-dir", tmp_path / "copy", *folders[2:])
    status, _, error = run("beyond", "--methods", "baseline,bags", *given)
    assert status == 2 and "was run with" in error
    assert snapshot(tmp_path) == before


def test_measuring_commands_only_read(
    run: Run, folders: tuple[str, ...], finished: Path, mini: DataSet, tmp_path: Path
) -> None:
    before, baseline = snapshot(finished), finished / "baseline"
    for command in (
        ("evaluate", baseline),
        ("errors", baseline),
        ("proposal-accuracy", baseline),
        ("compare", baseline, finished / "bags", "--resamples", 10),
    ):
        status, _, error = run(*command, *folders[2:])
        assert status == 0, (command, error)
    assert run("weight-norms", baseline / "checkpoint.pth")[0] == 0
    assert snapshot(finished) == before


def test_published_tables_are_not_written(run: Run, tmp_path: Path) -> None:
    status, _, error = run("table", 1, "--published", "-o", tmp_path)
    assert status == 2 and "'--output' has no use with '--published'" in error


def test_brackets_are_no_markup(run: Run, exported: Path, tmp_path: Path) -> None:
    folder = tmp_path / "exp[bold]"
    shutil.copytree(exported / "emoji-lt-small" / "tiny" / "seed0" / "bags", folder)
    target = folder / "joined[red].csv"
    status, out, _ = run("per-category", folder / "per_category.csv", "-o", target)
    assert status == 0 and target.is_file()
    assert f"written: {target}" in out and f"{folder.name}/per_category" in out
    status, _, error = run("per-category", tmp_path / "[/red]" / "none.csv")
    assert status == 2 and "[/red]/none.csv: no such file" in error


FRAME = pd.DataFrame(
    {"name": ["a-very-long-method-name", "b"], "variants": ["paper, effective-number", "x"],
     **{f"AP{i}": ["12.34±0.56"] * 2 for i in range(12)}}
)  # fmt: skip


def shown(monkeypatch: pytest.MonkeyPatch, width: int, terminal: bool) -> list[str]:
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None)
    monkeypatch.setattr(options, "console", console)
    options.show(FRAME, "title [x]", "caption")
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_a_pipe_gets_every_column_with_tabs_between(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(monkeypatch, 80, terminal=False)
    assert lines[0] == "# title [x]" and lines[-2:] == ["# caption", ""]
    read = pd.read_csv(io.StringIO("\n".join(lines)), sep="\t", comment="#")
    pd.testing.assert_frame_equal(read, FRAME, check_dtype=False)


def test_the_version(run: Run) -> None:
    status, out, _ = run("--version")
    assert status == 0 and out == f"imbalance-bench {imbalance_bench.__version__}\n"


@pytest.mark.parametrize("width", [40, 80, 100])
def test_a_terminal_gets_whole_names_and_is_told_what_is_left_out(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    lines = shown(monkeypatch, width, terminal=True)
    table = [line for line in lines if "left out" not in line]
    assert all(len(line) <= width for line in table if line)
    text = "\n".join(table)
    assert "a-very-long-method-name" in text
    (left,) = [line for line in lines if "left out" in line]
    columns = left.partition(": ")[2].partition(" (")[0].split(", ")
    for column in FRAME:
        assert (column in columns) != (column in " ".join(table).split()), column
    if width >= 80:
        assert "effective-number" in text and "paper," in text


def test_a_misspelt_name_gets_a_near_one_or_none() -> None:
    with pytest.raises(InputError, match="did you mean 'tau-norm'"):
        look_up(METHODS, "tau-nrom", "method")
    with pytest.raises(InputError, match=r"unknown method 'qqqq' \(known: baseline, ") as error:
        look_up(METHODS, "qqqq", "method")
    assert "did you mean" not in str(error.value)


@pytest.mark.parametrize("name", ["--dataset", "--detector"])
def test_names_are_checked_before_mmdet_is_imported(name: str, tmp_path: Path) -> None:
    code = (
        "import sys; from imbalance_bench.commands.options import setup; from pathlib import Path\n"
        "from imbalance_bench.runtime.errors import InputError\n"
        f"given = {{'--dataset': 'emoji-lt-mini', '--detector': 'tiny', {name!r}: 'nosuch'}}\n"
        "try: setup(given['--dataset'], given['--detector'], Path('.'), 0, 'cpu')\n"
        "except InputError as error: print(error, 'mmdet' in sys.modules, 'torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True,
                          env={"PYTHONPATH": str(ROOT), "PATH": ""})  # fmt: skip
    assert "'nosuch'" in done.stdout and done.stdout.split()[-2] == "False"
    assert not list(tmp_path.iterdir())
