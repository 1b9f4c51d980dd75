"""CPU seconds of the commands that only read, and of usage errors; imports take most of the time.

    python benchmarks/commands.py [--repeats 5]

Each command runs in its own process, on the committed results; the median of user and system time is shown. There is
no alternative; the note gives the time to import only typer, rich and pandas.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import typer
from timing import Rows, row, show

ROOT = Path(__file__).resolve().parents[1]
MEASURED = ("--work-dir", "results/measured")
COMMANDS: dict[str, tuple[str, ...]] = {
    "--help": ("--help",),
    "methods": ("methods",),
    "runs": ("runs", *MEASURED),
    "table 1": ("table", "1", *MEASURED),
    "table 1 --published": ("table", "1", "--published"),
    "compare, runs without detections": (
        "compare", *(f"results/measured/emoji-lt-small/tiny/seed0/{run}" for run in ("x2-cls", "bags")),
    ),
    "figure weight-norms": ("figure", "weight-norms", *MEASURED, "-o", "{folder}/norms.png"),
    "figure weight-norms, no such run": ("figure", "weight-norms", "wrong", *MEASURED, "-o", "{folder}/norms.png"),
    "figure, no such figure": ("figure", "wrong"),
    "table, no such table": ("table", "7"),
}  # fmt: skip
IMPORTS = "import typer, rich.console, pandas"


def seconds(command: list[str]) -> float:
    """Return user and system time of a command, with any exit status."""
    before = os.times()
    subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def measure(repeats: int = 5) -> Rows:
    """Measure one row for each command."""
    rows = []
    imports = statistics.median(seconds([sys.executable, "-c", IMPORTS]) for _ in range(repeats))
    with tempfile.TemporaryDirectory() as folder:
        for name, arguments in COMMANDS.items():
            command = [sys.executable, "cli.py", *(part.format(folder=folder) for part in arguments)]
            spent = statistics.median(seconds(command) for _ in range(repeats))
            rows.append(
                row("CPU seconds of a command", name, spent, note=f"imports of typer, rich, pandas {imports:.2f} s")
            )
    return rows


def main(repeats: int = 5) -> None:
    """Print CPU seconds of each command."""
    show(measure(repeats))


if __name__ == "__main__":
    typer.run(main)
