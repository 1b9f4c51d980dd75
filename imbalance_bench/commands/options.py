"""What several commands share: their options, their console, and how tables are shown."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from imbalance_bench.errors import InputError
from imbalance_bench.progress import Reporter, logged_to

if TYPE_CHECKING:
    import pandas as pd

    from imbalance_bench.benchmark import Benchmark

# Bound to the terminal, so that it shows progress while libraries are sent to a log.
console = Console(file=sys.stdout)
errors = Console(file=sys.stderr)

DatasetOption = Annotated[str, typer.Option("--dataset", help="Data set ('datasets list' shows them).")]
DetectorOption = Annotated[str, typer.Option("--detector", help="Detector ('detectors list' shows them).")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Seed of everything random.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
WorkDirOption = Annotated[Path, typer.Option("--work-dir", help="Where run folders stand.")]
DataDirOption = Annotated[Path, typer.Option("--data-dir", help="Where data sets stand.")]
OutputOption = Annotated[Path | None, typer.Option("--output", "-o", help="Write the result here.")]
LabelOrderOption = Annotated[
    str,
    typer.Option(
        "--label-order", help="What tells which class a label is: names of the checkpoint, or the annotations' file."
    ),
]

TrackOption = Annotated[
    str | None, typer.Option("--track", help="Hand training curves to tensorboard, wandb or mlflow too.")
]
BatchSizeOption = Annotated[
    int | None,
    typer.Option("--batch-size", min=1, help="Images of one update, if not the detector's; the rate scales with it."),
]
PretrainedOption = Annotated[
    Path | None,
    typer.Option("--pretrained", help="Checkpoint of a detector (COCO's, say) to start from instead of scratch."),
]
LauncherOption = Annotated[
    str, typer.Option("--launcher", help="What started this process as one of several: pytorch (torchrun), slurm, mpi.")
]

DATASET, DETECTOR = "emoji-lt-small", "tiny"
WORK_DIR, DATA_DIR = Path("work_dirs"), Path("data")


def select_device(device: str) -> None:
    """Let the libraries see the asked device only; call it before they are imported.

    Raises:
        InputError: not a device, or not there.
    """
    if device not in ("auto", "cpu") and not re.fullmatch(r"cuda(:\d+)?", device):
        raise InputError(f"option '--device' is '{device}', expected auto, cpu, cuda or cuda:N")
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    elif ":" in device:
        os.environ["CUDA_VISIBLE_DEVICES"] = device.split(":")[1]
    if device.startswith("cuda"):
        import torch

        if not torch.cuda.is_available():
            raise InputError(f"option '--device' is '{device}', but no such GPU is there")


@contextmanager
def joined(launcher: str, device: str) -> Iterator[None]:
    """Within the group of processes that a launcher started; the main one alone speaks.

    Raises:
        InputError: not started by it.
    """
    if launcher == "none":
        yield
        return
    if device not in ("auto", "cpu"):
        raise InputError(f"option '--device' is '{device}', expected auto or cpu: '--launcher' hands out the GPUs")
    select_device(device)
    from imbalance_bench.distributed import launched, rank_and_world

    with launched(launcher):
        console.quiet = rank_and_world()[0] > 0
        yield


def benchmark(
    dataset: str, detector: str, data_dir: Path, work_dir: Path, seed: int, device: str, **options: Any
) -> Benchmark:
    """The benchmark of the shared options, and of Benchmark's own."""
    select_device(device)
    with console.status("loading mmdet"), logged_to(None):
        from imbalance_bench.benchmark import Benchmark

    return Benchmark.named(dataset, detector, data_dir, work_dir, Reporter(console), seed=seed, **options)


def parse_seeds(text: str) -> list[int]:
    """Seeds separated by commas.

    Raises:
        InputError: not such a list, or one twice.
    """
    try:
        seeds = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(f"option '--seeds' is '{text}', expected numbers separated by commas") from error
    if min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise InputError(f"option '--seeds' is '{text}', expected different numbers from 0")
    return seeds


def show(frame: pd.DataFrame, title: str, caption: str | None = None) -> None:
    """A DataFrame as a table on the console; every cell as it stands, numbers to the right."""
    table = Table(header_style="bold", box=box.SIMPLE_HEAD, padding=0)
    for position, column in enumerate(frame.columns):
        numeric = frame[column].map(_is_numeric).any()
        table.add_column(str(column), justify="right" if numeric else "left", no_wrap=numeric or position == 0)
    for row in frame.itertuples(index=False):
        table.add_row(*("-" if isinstance(cell, float) and math.isnan(cell) else str(cell) for cell in row))
    console.print(f"[bold]{escape(title)}[/bold]", highlight=False, soft_wrap=True)
    console.print(table)
    if caption:
        console.print(caption, highlight=False, style="dim")


def _is_numeric(cell: object) -> bool:
    """A number, or one with its interval: ``+1.2 [+0.3, +2.0]``."""
    return Text.from_markup(str(cell)).plain.partition(" [")[0].lstrip("+-").replace(".", "").isdigit()


def image_path(output: Path | None, option: str = "--output") -> Path:
    """An output path that matplotlib can write.

    Raises:
        InputError: another suffix.
    """
    path = output or Path("figure.png")
    if path.suffix not in (".png", ".pdf", ".svg"):
        raise InputError(f"option '{option}' is '{path}', expected a name that ends in .png, .pdf or .svg")
    return path


def written(path: Path) -> None:
    """Say where a result stands."""
    console.print(f"written: {path}", highlight=False, soft_wrap=True)
