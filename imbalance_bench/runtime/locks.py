"""Locks between processes: a file that one process holds and that the system frees when the process ends."""

from __future__ import annotations

import contextlib
import datetime
import errno
import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.provenance import command


@contextlib.contextmanager
def locked(path: Path, of: Path, *, wait: bool = False, say: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold a lock file.

    Args:
        path: of the lock file; its folder is made.
        of: what it guards, for messages.
        wait: for another process to let go.
        say: is told for whom.

    Raises:
        InputError: another process holds it (the message says which), and ``wait`` is False; or the file system has no
            locks.
    """
    import fcntl  # POSIX alone has it; what only reads comes here nowhere

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        if not _flock(file, path, fcntl.LOCK_EX | fcntl.LOCK_NB):
            in_use = f"{of}: in use by {_holder(path)}"
            if not wait:
                raise InputError(in_use)
            if say is not None:
                say(f"  {in_use}; waiting for it")
            _flock(file, path, fcntl.LOCK_EX)
        now = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()} since {now} ({command()})\n")
        file.flush()
        _held.append(file)
        try:
            yield
        finally:
            _held.remove(file)


def is_locked(path: Path) -> bool:
    """Tell whether a process holds a lock file."""
    if not path.exists():
        return False
    import fcntl

    with path.open(encoding="utf-8") as file:
        return not _flock(file, path, fcntl.LOCK_SH | fcntl.LOCK_NB)


_held: list[IO[str]] = []


def _let_go() -> None:
    """Close inherited lock files in a forked child, so that a data loader does not keep its killed parent's lock."""
    for file in _held:
        file.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


def _flock(file: IO[str], path: Path, operation: int) -> bool:
    """Take a lock; return False if another process holds it.

    Raises:
        InputError: the file system has no locks.
    """
    import fcntl

    try:
        fcntl.flock(file, operation)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL):
            raise
        raise InputError(
            f"{path}: its file system has no file locks ({error.strerror}), which keep two processes out of one run "
            "folder; choose a --work-dir on another disk"
        ) from error
    return True


def _holder(path: Path) -> str:
    """Read who holds a lock, as the holder wrote it there."""
    return path.read_text(encoding="utf-8", errors="replace").strip() or "another process"
