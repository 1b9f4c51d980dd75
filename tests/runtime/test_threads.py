"""OpenMP's waiting threads sleep, unless the user sets spinning; the number of cores is the container's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from imbalance_bench.runtime.threads import SETTINGS, sleep_when_waiting, spinning, usable_cores


@pytest.mark.skipif(sys.platform != "linux", reason="asks GNU's OpenMP")
def test_torch_takes_it() -> None:
    """OpenMP prints what it has read when it is loaded: the package comes before torch."""
    env = {name: value for name, value in os.environ.items() if name not in SETTINGS} | {"OMP_DISPLAY_ENV": "true"}
    command = [sys.executable, "-c", "import analyses.commands.main, torch"]
    said = subprocess.run(command, check=True, capture_output=True, text=True, env=env).stderr
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in said


@pytest.mark.parametrize(
    ("given", "policy", "spins"),
    [
        ({}, "PASSIVE", None),
        ({"OMP_WAIT_POLICY": "active"}, "active", "OMP_WAIT_POLICY=active"),
        ({"OMP_WAIT_POLICY": "passive"}, "passive", None),
        ({"GOMP_SPINCOUNT": "1000"}, None, "GOMP_SPINCOUNT=1000"),
        ({"GOMP_SPINCOUNT": "0"}, None, None),
        ({"KMP_BLOCKTIME": "200"}, None, "KMP_BLOCKTIME=200"),
    ],
)
def test_what_the_user_has_said_stays(
    given: dict[str, str], policy: str | None, spins: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    sleep_when_waiting()
    assert os.environ.get("OMP_WAIT_POLICY") == policy
    assert spinning() == spins


def test_cores_of_a_container(tmp_path: Path) -> None:
    quota, all_of_them = tmp_path / "cpu.max", usable_cores(tmp_path / "none")
    assert all_of_them >= 1
    for text, cores in (
        ("50000 100000", 0.5),
        ("max 100000", all_of_them),
        ("9999999999 1", all_of_them),
        ("?", all_of_them),
    ):
        quota.write_text(text + "\n")
        assert usable_cores(quota) == cores
