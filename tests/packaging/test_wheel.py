"""The wheel works when it is installed without extras into its own environment."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from reading import ROOT, arguments

pytestmark = [pytest.mark.slow, pytest.mark.wheel]

FROM_A_WHEEL = ("help", "weight-norms", "evaluate", "errors", "published", "methods", "report")
UV = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")


def uv(*command: object) -> subprocess.CompletedProcess[str]:
    assert UV is not None
    return subprocess.run([UV, *map(str, command)], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Interpreter of a fresh environment, where a package index answers."""
    if UV is None:
        pytest.skip("uv is not installed")
    folder = tmp_path_factory.mktemp("environment")
    assert uv("venv", "--python", sys.executable, folder / "venv").returncode == 0
    python = folder / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    probe = uv("pip", "install", "--python", python, "--refresh", "packaging")
    if probe.returncode:
        pytest.skip(f"no package index: {probe.stderr.strip().splitlines()[-1]}")
    return python


@pytest.fixture(scope="module")
def wheel(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source distribution, as it is for a package index."""
    folder = tmp_path_factory.mktemp("dist")
    built = uv("build", "--python", python, "--out-dir", folder, ".")
    assert built.returncode == 0, built.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def light(python: Path, wheel: Path) -> Path:
    """The console script of the wheel, installed without extras."""
    installed = uv("pip", "install", "--python", python, "--constraint", "constraints.txt", wheel)
    assert installed.returncode == 0, installed.stderr
    return python.with_name("imbalance-bench")


def test_nothing_of_a_general_name_is_installed(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.partition("/")[0] for name in archive.namelist()}
        assert {f"imbalance_bench_analyses/paper_tables/table{n}.csv" for n in range(1, 7)} <= set(archive.namelist())
    assert {name for name in tops if not name.endswith(".dist-info")} == {
        "imbalance_bench",
        "imbalance_bench_analyses",
    }


@pytest.mark.parametrize("name", FROM_A_WHEEL)
def test_light(name: str, light: Path, folder: Path, tmp_path: Path) -> None:
    ended = subprocess.run([light, *arguments(name, folder)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() and not ended.stderr


def test_the_light_install_has_no_torch(light: Path) -> None:
    listed = uv("pip", "list", "--python", light.with_name("python")).stdout
    assert "numpy" in listed and not any(name in listed for name in ("torch", "mmdet", "pycocotools", "emoji"))
    ended = subprocess.run([light, "demo", "--size", "mini"], capture_output=True, text=True, check=False)
    assert ended.returncode == 2 and "imbalance-bench[mmdet]" in ended.stderr
