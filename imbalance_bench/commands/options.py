"""Options, console and tables that several commands share."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from imbalance_bench.runtime.devices import is_device
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.progress import Reporter, logged_to

if TYPE_CHECKING:
    import pandas as pd

    from imbalance_bench.experiments.setup import Setup

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
SkipMissingOption = Annotated[
    bool, typer.Option("--skip-missing", help="Go without images that are absent, unreadable or of another size.")
]
VerifyImagesOption = Annotated[
    bool, typer.Option("--verify-images", help="Decode every image, not a sample beside every header.")
]
LabelOrderOption = Annotated[
    str,
    typer.Option(
        "--label-order", help="What tells which class a label is: names of the checkpoint, or the annotations' file."
    ),
]

TrackOption = Annotated[
    str | None, typer.Option("--track", help="Hand training curves to tensorboard, wandb or mlflow too.")
]
CurveOption = Annotated[
    bool, typer.Option("--curve", help="Measure every epoch of what is trained end to end ('figure learning-curves').")
]
BatchSizeOption = Annotated[
    int | None,
    typer.Option("--batch-size", min=1, help="Images of one update, if not the detector's; the rate scales with it."),
]
PrecisionOption = Annotated[
    str,
    typer.Option(
        "--precision", help="Of end-to-end training: fp32, bf16, fp16, or auto, the fastest that the device multiplies."
    ),
]
PretrainedOption = Annotated[
    Path | None,
    typer.Option("--pretrained", help="Checkpoint of a detector (COCO's, say) to start from."),
]
BackboneWeightsOption = Annotated[
    Path | None,
    typer.Option("--backbone-weights", help="torchvision's ImageNet weights of the backbone to start from."),
]
FromScratchOption = Annotated[
    bool,
    typer.Option("--from-scratch", help="Start from random weights, whatever others are there."),
]
LauncherOption = Annotated[
    str, typer.Option("--launcher", help="What started this process as one of several: pytorch (torchrun), slurm, mpi.")
]

DATASET, DETECTOR = "emoji-lt-small", "tiny"
WORK_DIR, DATA_DIR = Path("work_dirs"), Path("data")


def select_device(device: str) -> None:
    """Make only the requested device visible to the libraries; call this before they are imported.

    Raises:
        InputError: the text is not a device, or the device does not exist.
    """
    if not is_device(device):
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
    """Join the processes that a launcher started, for the duration of the context; only the main process prints.

    Raises:
        InputError: the launcher did not start this process.
    """
    if launcher == "none":
        yield
        return
    if device not in ("auto", "cpu"):
        raise InputError(f"option '--device' is '{device}', expected auto or cpu: '--launcher' hands out the GPUs")
    select_device(device)
    from imbalance_bench.runtime.processes import launched, rank_and_world

    with launched(launcher):
        console.quiet = rank_and_world()[0] > 0
        yield


def setup(dataset: str, detector: str, data_dir: Path, seed: int, device: str, draw: bool = True) -> Setup:
    """Set up the detector and the data set of the shared options; the data set is drawn unless ``draw`` is False.

    Raises:
        InputError: the data set, the detector or the device is unknown.
    """
    select_device(device)
    from imbalance_bench.datasets import registry

    registry.get(dataset, data_dir)  # what is misspelt is told before anything heavy is imported
    from imbalance_bench.detectors.mmdet import catalogue

    catalogue.get(detector)
    with console.status("loading mmdet"), logged_to(None):
        from imbalance_bench.experiments.setup import Setup

    return Setup.named(dataset, detector, data_dir, draw=draw, seed=seed, reporter=Reporter(console))


def parse_bin_edges(text: str | None) -> tuple[int, ...] | None:
    """Parse lower bounds of bins 2, 3, ..., separated by commas; None if the option was not given.

    Raises:
        InputError: the text is not a list of whole numbers that ascend from 1.
    """
    from imbalance_bench.bins import parse_edges

    if text is None:
        return None
    try:
        return parse_edges(",".join(part.strip() for part in text.split(",")))
    except InputError as error:
        raise InputError(f"option '--bin-edges': {error}") from error


def parse_names(text: str | None) -> tuple[str, ...] | None:
    """Parse names separated by commas, such as those of '--methods'; None if the option was not given or is empty."""
    return tuple(name.strip() for name in text.split(",")) if text else None


def parse_seeds(text: str) -> list[int]:
    """Parse seeds separated by commas.

    Raises:
        InputError: the text is not such a list, or a seed occurs twice.
    """
    try:
        seeds = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(f"option '--seeds' is '{text}', expected numbers separated by commas") from error
    if min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise InputError(f"option '--seeds' is '{text}', expected different numbers from 0")
    return seeds


def show(frame: pd.DataFrame, title: str, caption: str | None = None) -> None:
    """Show a DataFrame as a table on the console; cells are plain text or rich ``Text``, numbers are right-aligned.

    Nothing is cut: text wraps between words; numbers and the first column do not wrap. On a terminal, columns that do
    not fit are left out, the last ones first, and named below the table. A pipe or a file gets all columns with tabs
    between them, and title and caption as lines that start with ``#``.
    """
    columns = [_Column(str(name), frame.iloc[:, place], place == 0) for place, name in enumerate(frame.columns)]
    if not console.is_terminal:
        _write_tsv(columns, title, caption)
        return
    kept = len(columns)
    while kept > 1 and _width(columns[:kept]) > console.width:
        kept -= 1
    spare = console.width - _width(columns[:kept])
    table = Table(header_style="bold", box=box.SIMPLE_HEAD, padding=0)
    for column in columns[:kept]:
        extra = min(max(spare, 0), column.natural - column.least)
        spare -= extra
        column.width = column.least + extra
        justify: Literal["left", "right"] = "right" if column.is_numeric else "left"
        table.add_column(Text(column.name), justify=justify, width=column.width)
    for cells in zip(*(column.cells for column in columns[:kept]), strict=True):
        table.add_row(*cells)
    say(title, style="bold")
    console.print(_AtWidth(table, sum(column.width for column in columns[:kept]) + kept + 1), crop=False)
    if caption:
        say(caption, style="dim")
    if kept < len(columns):
        left = ", ".join(column.name for column in columns[kept:])
        say(f"left out at {console.width} columns: {left} (a wider terminal, or a pipe, shows them)", style="dim")


def _write_tsv(columns: Sequence[_Column], title: str, caption: str | None) -> None:
    """Write a table as tab-separated values; rich would expand the tabs."""
    if console.quiet:
        return
    heads = [" ".join(column.name.split()) for column in columns]
    rows = zip(*([" ".join(cell.plain.split()) for cell in column.cells] for column in columns), strict=True)
    remarks = [f"# {' '.join(text.split())}" for text in (title, caption) if text]
    lines = [remarks[0], *("\t".join(cells) for cells in (heads, *rows)), *remarks[1:], ""]
    console.file.write("\n".join(lines) + "\n")


class _Column:
    """A column of a table: its cells, and its smallest and largest width."""

    def __init__(self, name: str, cells: pd.Series, is_first: bool) -> None:
        self.name, self.width = name, 0
        self.cells = [cell if isinstance(cell, Text) else Text(_text(cell)) for cell in cells]
        self.is_numeric = any(_is_numeric(cell.plain) for cell in self.cells)
        texts = [Text(name), *self.cells]
        self.natural = max(text.cell_len for text in texts)
        words = (cell_len(word) for text in texts for word in text.plain.split())
        self.least = self.natural if self.is_numeric or is_first else max(words, default=0)


def _width(columns: Sequence[_Column]) -> int:
    """Return the smallest width of a table, with a space between columns and at both ends."""
    return sum(column.least for column in columns) + len(columns) + 1


class _AtWidth:
    """Something printed at its own width, independent of the console's width."""

    def __init__(self, content: Table, width: int) -> None:
        self.content, self.width = content, width

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from console.render(self.content, options.update(width=self.width))


def _text(cell: object) -> str:
    return "-" if isinstance(cell, float) and math.isnan(cell) else str(cell)


def _is_numeric(cell: str) -> bool:
    """Return whether a cell is a number, alone or with its interval: ``+1.2 [+0.3, +2.0]``."""
    return cell.partition(" [")[0].lstrip("+-").replace(".", "").isdigit()


def say(text: str, style: str | None = None) -> None:
    """Print a line unchanged: brackets in paths or names are not markup, and the line is not wrapped."""
    console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)


def image_path(output: Path | None, option: str = "--output") -> Path:
    """Check and return an output path that matplotlib can write.

    Raises:
        InputError: the suffix is another one.
    """
    path = output or Path("figure.png")
    if path.suffix not in (".png", ".pdf", ".svg"):
        raise InputError(f"option '{option}' is '{path}', expected a name that ends in .png, .pdf or .svg")
    return path


def written(path: Path) -> None:
    """Print the path of a written result."""
    say(f"written: {path}")
