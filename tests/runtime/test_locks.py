"""Locks: a waiting process names the holder, and a disk without locks is named."""

import errno
import fcntl
import os
import threading
import time
from pathlib import Path

import pytest

from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.locks import locked


def test_who_waits_says_for_whom(tmp_path: Path) -> None:
    path, said, order = tmp_path / ".lock", list[str](), list[str]()

    def hold() -> None:
        with locked(path, tmp_path, wait=True, say=said.append):
            order.append("second")

    with locked(path, tmp_path):
        other = threading.Thread(target=hold)
        other.start()
        while not said:
            time.sleep(0.01)
        order.append("first")
    other.join()
    assert order == ["first", "second"]
    assert f"process {os.getpid()}" in said[0] and said[0].endswith("waiting for it") and len(said) == 1


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        pytest.raises(InputError, match=r"no file locks \(No locks available\).* --work-dir"),
        locked(tmp_path / ".lock", tmp_path),
    ):
        pass
