"""The command that writes the page of a study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imbalance_bench.commands.options import (
    DATA_DIR,
    DATASET,
    DETECTOR,
    WORK_DIR,
    DataDirOption,
    DatasetOption,
    DetectorOption,
    console,
    written,
)

from .study import finished


def report(
    work_dir: Annotated[Path, typer.Argument(help="Where run folders stand; what 'export' copied will do.")] = WORK_DIR,
    dataset: DatasetOption = DATASET,
    detector: DetectorOption = DETECTOR,
    data_dir: DataDirOption = DATA_DIR,
    output: Annotated[Path, typer.Option("--output", "-o", help="The page (.html).")] = Path("report.html"),
) -> None:
    """Write one HTML page on all runs of a data set and a detector: methods against the control, tables, charts.

    From run folders alone; where they have detections and the data set is in --data-dir, with kinds of errors, images,
    and intervals over images where there is one seed.

    Example: imbalance-bench report results/measured -o report.html
    """
    from imbalance_bench.runtime.progress import Reporter

    root = finished(dataset, detector, work_dir)
    from .. import study_page

    written(study_page.write(root, output, data_dir, Reporter(console)))
