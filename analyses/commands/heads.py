"""The command that puts diagnoses of detectors with other heads beside each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imbalance_bench.commands.options import show, written


def heads(
    diagnoses: Annotated[list[Path], typer.Argument(metavar="DIAGNOSIS...", help="Folders that 'diagnose' wrote.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder that takes heads.csv and heads.png.")
    ] = None,
) -> None:
    """Compare what each method gains on detectors with other heads: their diagnoses on one data set.

    Gains are over the control of each head: x2-cls, or bce where scores are sigmoids alone.

    Example: imbalance-bench heads diagnoses/faster-rcnn diagnoses/retinanet --output results
    """
    from imbalance_bench import plotting
    from imbalance_bench.runtime.files import write_text

    from .. import heads as analysis

    found = analysis.read(diagnoses)
    frame = analysis.table(found)
    caption = "points of AP; gains over the control with 95 % intervals over validation images"
    show(analysis.shown(frame), "what each method gains, head by head", caption)
    if output is not None:
        write_text(output / "heads.csv", frame.to_csv(index=False))
        written(output / "heads.csv")
        written(plotting.save(analysis.draw(found), output / "heads.png"))
