"""Files are written completely or not at all, even after errors of the disk."""

import errno
import json
import math
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from imbalance_bench.checkpoints import own as checkpoints
from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.files import (
    disk_problem,
    free,
    naming,
    numbers_of,
    remove_partials,
    sha256,
    write_atomically,
    write_json,
    write_text,
)
from imbalance_bench.training.resuming import WholeFiles

ROOT = Path(__file__).resolve().parents[2]
LARGE = np.random.default_rng(0).integers(0, 256, 200_000, dtype=np.uint8)


def save_detections(path: Path) -> None:
    boxes = np.random.default_rng(0).random((20_000, 4), dtype=np.float32)
    Detections(np.arange(20_000), np.zeros(20_000, np.int64), boxes, boxes[:, 0]).save(path)


WRITERS: dict[str, Callable[[Path], None]] = {
    "text": lambda path: write_text(path, "a" * 200_000),
    "checkpoint": lambda path: checkpoints.write(path, {"weight": torch.from_numpy(LARGE)}),
    "mmengine's checkpoint": lambda path: WholeFiles().put(LARGE.tobytes(), path),
    "detections": save_detections,
}


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a" / "file.txt"
    write_text(path, "old")

    def fail(partial: Path) -> None:
        partial.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("name", WRITERS)
def test_a_disk_that_takes_half_of_a_file(name: str, tmp_path: Path) -> None:
    """A child process may write 64 KiB into a file, no more."""
    path = tmp_path / "file"
    path.write_text("old")
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        line = "nothing was raised"
        try:
            WRITERS[name](path)
        except BaseException as error:
            line = disk_problem(error) or repr(error)
        os.write(write, line.encode())
        os._exit(0)
    os.waitpid(child, 0)
    line = os.read(read, 10_000).decode()
    assert line.startswith(f"{path}: the file grows beyond what is allowed"), line
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    WRITERS[name](path)
    assert path.stat().st_size > 1 << 16


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO])
def test_one_line_on_a_disk(number: int, tmp_path: Path) -> None:
    def fail(partial: Path) -> None:
        partial.write_text("half")
        raise OSError(number, os.strerror(number))

    with pytest.raises(OSError) as error:
        write_atomically(tmp_path / "file", fail)
    line = disk_problem(error.value)
    assert line is not None and line.startswith(f"{tmp_path / 'file'}: ") and "\n" not in line
    expected = "make room" if number in (errno.ENOSPC, errno.EDQUOT) else "make it writable"
    assert expected in line and f"({free(tmp_path) / 2**30:.1f} GiB are free there)" in line
    assert not list(tmp_path.iterdir())


def test_errors_of_others_are_not_the_disks(tmp_path: Path) -> None:
    assert disk_problem(ValueError("no")) is None
    assert disk_problem(FileNotFoundError(errno.ENOENT, "no", "file")) is None
    with pytest.raises(InputError, match=r"^bad$"), naming(tmp_path):
        try:
            raise PermissionError(errno.EACCES, "no", "file")
        except OSError as cause:
            raise InputError("bad") from cause
    with pytest.raises(PermissionError) as error, naming(tmp_path):
        raise PermissionError(errno.EACCES, "no", "file")
    assert error.value.filename == "file", "what has a name keeps it"
    with pytest.raises(OSError) as unnamed, naming(tmp_path):
        raise OSError(errno.ENOSPC, "full")
    assert unnamed.value.filename == str(tmp_path)
    assert disk_problem(OSError(errno.ENOSPC, "full")) is not None


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    def leave(partial: Path) -> None:
        partial.write_text("half")
        os.link(partial, tmp_path / f"{partial.name}.kept")
        partial.with_name(f"{partial.name}.kept").rename(partial.with_name(partial.name.replace(".txt", "x.txt")))

    write_atomically(tmp_path / "file.txt", leave)
    assert len(list(tmp_path.iterdir())) == 2
    remove_partials(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]


def test_sha256(tmp_path: Path) -> None:
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    assert sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    path.write_bytes(b"abcd")
    assert sha256(path) == "88d4266fd4e6338d13b845fcf289579d209c897823b9217da3e161936f031589"


def test_json_is_strict_and_a_number_that_is_not_there_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    content = {"mAP": 0.1, "AP1": math.nan, "parts": [{"low": np.float64("nan")}, (1, None, "NaN")]}
    for compact in (False, True):
        write_json(path, content, compact=compact)
        read = json.loads(path.read_text(), parse_constant=pytest.fail)
        assert read == {"mAP": 0.1, "AP1": None, "parts": [{"low": None}, [1, None, "NaN"]]}
    assert math.isnan(numbers_of(read)["AP1"]) and numbers_of(read)["mAP"] == 0.1
    with pytest.raises(ValueError, match=r"a\.json"):
        write_json(path, {"loss": math.inf})
    assert json.loads(path.read_text()) == read, "nothing was written"


def test_every_json_file_here_is_strict() -> None:
    found = [
        path
        for folder in ("results", "notebooks")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".json", ".ipynb")
    ]
    assert sum(path.suffix == ".json" for path in found) > 200 and any(path.suffix == ".ipynb" for path in found)
    for path in found:

        def refuse(constant: str, path: Path = path) -> None:
            pytest.fail(f"{path}: {constant}")

        json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def test_json_is_written_in_one_place() -> None:
    """Any other call of ``json.dump`` may write NaN."""
    callers = [
        path.relative_to(ROOT) for part in ("imbalance_bench", "analyses") for path in (ROOT / part).rglob("*.py")
        if "json.dump" in path.read_text(encoding="utf-8")
    ]  # fmt: skip
    assert [str(path) for path in callers] == ["imbalance_bench/runtime/files.py"]
