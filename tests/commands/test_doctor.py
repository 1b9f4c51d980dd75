"""`doctor` reports what is installed, and what to do about missing parts."""

import errno
import fcntl
import os
from collections.abc import Callable
from importlib import metadata
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from imbalance_bench.commands import doctor, main

Run = Callable[[], tuple[int, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """``run()`` -> (exit status, output)."""

    def call() -> tuple[int, str]:
        out = StringIO()
        monkeypatch.setattr(doctor, "console", Console(file=out, width=200))
        folders = ["--work-dir", str(tmp_path / "work"), "--data-dir", str(tmp_path / "data")]
        monkeypatch.setattr("sys.argv", ["imbalance-bench", "doctor", *folders])
        with pytest.raises(SystemExit) as stop:
            main.main()
        return int(stop.value.code or 0), out.getvalue()

    return call


def line(out: str, what: str) -> str:
    """The table's line, then the advice."""
    lines = [line.strip() for line in out.splitlines() if line.strip().startswith(what)]
    return " / ".join(lines)


def test_a_machine_in_order(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "MEMORY_NEED", 0)
    status, out = run()
    assert status == 0
    assert out.rstrip().endswith("ready")
    assert metadata.version("onedl-mmdetection") in line(out, "onedl-mmdetection")
    for what in ("python", "torch with torchvision", "mmdet's operators", "cores", "disk of runs", "file locks"):
        assert line(out, what).endswith(" ok"), what
    assert not list(tmp_path.iterdir()), "nothing was made"


def test_what_is_missing_and_what_does_not_fit(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    version = metadata.version

    def other(package: str) -> str:
        if package in ("scipy", "ray"):
            raise metadata.PackageNotFoundError(package)
        return "1.0" if package == "pandas" else version(package)

    monkeypatch.setattr(metadata, "version", other)
    status, out = run()
    assert status == 1
    assert line(out, "scipy").endswith("broken / scipy: pip install 'scipy>=1.13'")
    assert "1.0, expected >=2.2" in line(out, "pandas") and "look / pandas: pip install 'pandas>=2.2'" in line(
        out, "pandas"
    )
    assert "not there" in line(out, "many machines")
    assert out.rstrip().endswith("to fix first: scipy")


def test_other_packages_of_the_same_names(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    provided = {"mmdet": ["mmdet", "onedl-mmdetection"], "mmcv": ["mmcv-full"], "mmengine": ["onedl-mmengine"]}
    monkeypatch.setattr(metadata, "packages_distributions", lambda: provided)
    status, out = run()
    assert status == 1
    assert "files of mmdet and onedl-mmdetection" in line(out, "import mmdet")
    assert "pip uninstall -y mmcv-full, then pip install --force-reinstall 'onedl-mmcv'" in line(out, "import mmcv")
    assert not line(out, "import mmengine")


def test_without_what_trains(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    version = metadata.version

    def light(package: str) -> str:
        if package == "onedl-mmdetection":
            raise metadata.PackageNotFoundError(package)
        return version(package)

    monkeypatch.setattr(metadata, "version", light)
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    status, out = run()
    assert status == 0
    assert not line(out, "torch with torchvision") and not line(out, "mmdet's operators")
    assert "training: optional, pip install 'imbalance-bench[mmdet]'" in out


def test_with_torchvision_alone(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the extra of that name installs it: mmdet is not missed, and torch is looked at."""
    monkeypatch.setattr(doctor, "find_spec", lambda name: name if name in ("torch", "torchvision") else None)
    status, out = run()
    assert status == 0
    assert line(out, "torch with torchvision") and not line(out, "mmdet's operators")
    assert not line(out, "onedl-mmdetection")


def test_operators_that_fail(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("operator torchvision::nms does not exist\nat all")

    monkeypatch.setattr("torchvision.ops.nms", fail)
    monkeypatch.setattr("mmcv.ops.nms", fail)
    status, out = run()
    assert status == 1
    assert "RuntimeError: operator torchvision::nms does not exist at all" in line(out, "torch with torchvision")
    assert "--force-reinstall torch torchvision" in out
    assert out.rstrip().endswith("to fix first: torch with torchvision, mmdet's operators")


def test_a_gpu_that_torch_does_not_see(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(doctor, "_driver", lambda: "570.1")
    status, out = run()
    assert status == 0, "the CPU does"
    assert "driver 570.1, but torch (built" in line(out, "GPU") and "look" in line(out, "GPU")


def test_a_gpu(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: f"GPU number {number}")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda number: (3 << 30, 8 << 30))
    monkeypatch.setattr(doctor, "_driver", lambda: "570.1")
    assert "GPU number 0, 3 of 8 GiB free" in line(run()[1], "cuda:0")


def test_a_busy_machine(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(doctor, "usable_cores", lambda: 4.0)
    for load, state in ((1.0, "ok"), (7.5, "look")):
        monkeypatch.setattr(os, "getloadavg", lambda load=load: (load, 0.0, 0.0))
        found = line(run()[1], "load")
        assert f"{load} over the last minute, of 8" in found and state in found
    assert "OMP_NUM_THREADS=2" in found
    assert "4 of 8" in line(run()[1], "cores")


def test_threads(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    monkeypatch.setattr(doctor, "usable_cores", lambda: 2.5)
    found = line(run()[1], "threads")
    assert "64 on 2.5 cores" in found and "OMP_NUM_THREADS=2 before" in found
    monkeypatch.setattr(doctor, "usable_cores", lambda: 64.0)
    assert "64, asleep while they wait" in line(run()[1], "threads")
    monkeypatch.setenv("GOMP_SPINCOUNT", "300000")
    found = line(run()[1], "threads")
    assert "GOMP_SPINCOUNT=300000" in found and "unset it" in found


@pytest.mark.parametrize("what", ["read-only", "full", "no locks"])
def test_disks(run: Run, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    def refuse(number: int) -> Callable[..., Any]:
        def call(*_: object, **__: object) -> None:
            raise OSError(number, os.strerror(number))

        return call

    if what == "read-only":
        monkeypatch.setattr("tempfile.mkdtemp", refuse(errno.EROFS))
    elif what == "full":
        monkeypatch.setattr(doctor, "free", lambda folder: 100 << 20)
    else:
        monkeypatch.setattr(fcntl, "flock", refuse(errno.ENOLCK))
    status, out = run()
    if what == "read-only":
        assert status == 1
        assert "Read-only file system" in line(out, "disk of runs") and "name --work-dir" in line(out, "disk of runs")
        assert "name --data-dir" in line(out, "disk of data")
    elif what == "full":
        assert status == 0
        assert "0 GiB free" in line(out, "disk of runs") and "about 5 GiB" in line(out, "disk of runs")
    else:
        assert status == 1
        assert "No locks available" in line(out, "file locks") and out.rstrip().endswith("to fix first: file locks")
