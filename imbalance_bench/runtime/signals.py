"""SIGTERM and Ctrl-C: stop a command cleanly, or defer the stop until long work has saved its state."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(BaseException):
    """Raised when the process was asked to stop; open files and contexts are closed on the way out.

    Attributes:
        status: exit status by the shell's custom, 143 after SIGTERM, 130 after Ctrl-C.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Make both signals raise ``Stopped`` instead of ending the process at once."""
    process = os.getpid()

    def stop(number: int, _: FrameType | None) -> None:
        if os.getpid() != process:  # a worker that was forked: its parent closes what is open
            os._exit(128 + number)
        raise Stopped(number)

    with _handled_by(stop):
        yield


@contextlib.contextmanager
def deferred() -> Iterator[Callable[[], int | None]]:
    """Record the first signal, so that the work can stop at a good moment; a second one stops at once.

    Yields:
        What gives the signal's number, or None. Leaving the context delivers a signal that was noted.
    """
    noted: list[int] = []
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def note(number: int, _: FrameType | None) -> None:
        if noted:
            signal.signal(number, before[signal.Signals(number)])
            signal.raise_signal(number)
        noted.append(number)

    with _handled_by(note):
        yield lambda: noted[0] if noted else None
    if noted:
        signal.raise_signal(noted[0])


@contextlib.contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Install a handler of both signals in the main thread; an ignored signal (``nohup``) stays ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heeded = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in heeded}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
