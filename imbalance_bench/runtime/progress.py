"""Progress of long work: bars with time left, and one line when a step is done."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

Advance = Callable[..., None]
"""``advance(steps=1, note=None, total=None)``: steps done since the last call, a word on how it goes, a new total."""


class Reporter:
    """Progress on a console; silent without one.

    Args:
        console: where to write; on a terminal bars are drawn, elsewhere only the closing lines appear.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(quiet=True)

    def __reduce__(self) -> tuple[type[Reporter], tuple[()]]:
        """Unpickle as a silent reporter: another process does not have this console."""
        return Reporter, ()

    def say(self, text: str, style: str | None = None) -> None:
        """Print one line as it is, without markup; a terminal wraps it between words."""
        at_once = not self.console.is_terminal
        self.console.print(text, style=style, highlight=False, markup=False, soft_wrap=at_once)

    @contextlib.contextmanager
    def task(self, description: str, total: int) -> Iterator[Advance]:
        """Show a bar over ``total`` steps; yield ``advance``, and end with a line that says how long it took."""
        columns = (
            TextColumn("  {task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        start = time.monotonic()
        visible = self.console.is_terminal and not self.console.quiet
        with Progress(*columns, console=self.console, transient=True, disable=not visible) as progress:
            bar = progress.add_task(description, total=total, note="")

            def advance(steps: int = 1, note: str | None = None, total: int | None = None) -> None:
                progress.update(bar, total=total, advance=steps)
                if note is not None:
                    progress.update(bar, note=note)

            yield advance
        spent = f" ({duration(time.monotonic() - start)})"
        self.console.print(Text.assemble("  ", ("✓", "green"), f" {description}", (spent, "dim")))

    def epochs(self, total: int, begun: float = 0) -> Callable[[int, float], None]:
        """Return the function to call at the end of each epoch, with its number from 1 and its mean loss.

        It says a line, with the time left, where no bar shows that: in a file or a pipe.

        Args:
            total: epochs of the training.
            begun: those done before, where it goes on.
        """
        start = time.monotonic()

        def end(epoch: int, loss: float) -> None:
            left = (time.monotonic() - start) / (epoch - begun) * (total - epoch)
            ahead = f", {duration(left)} left" if epoch < total else ""
            if not self.console.is_terminal:
                self.say(f"  epoch {epoch} of {total}, loss {loss:.3f}{ahead}")

        return end


def duration(seconds: float) -> str:
    """Format seconds: ``8.1 s``, ``3 min 05 s``, ``2 h 10 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


@contextlib.contextmanager
def logged_to(path: Path | None) -> Iterator[None]:
    """Send what libraries print and warn to a log file (None: nowhere) instead of the terminal.

    A Reporter made before keeps its terminal.
    """
    target = path or Path(os.devnull)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    with target.open("a", encoding="utf-8", buffering=1) as file, warnings.catch_warnings():
        warnings.showwarning = lambda message, category, filename, line, *_: print(
            f"{filename}:{line}: {category.__name__}: {message}", file=file
        )
        handlers = [h for h in logging.getLogger().handlers if getattr(h, "stream", None) in (sys.stdout, sys.stderr)]
        streams = [handler.setStream(file) for handler in handlers]  # type: ignore[attr-defined]
        try:
            with contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
                yield
        finally:
            for handler, stream in zip(handlers, streams, strict=True):
                handler.setStream(stream)  # type: ignore[attr-defined]
