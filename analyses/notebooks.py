"""What the notebook of a study shows: what was measured, its figure, and what the paper prints beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from . import fidelity, outputs, published, tables
from .studies import STUDIES, Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DRAWN = ("table 1", "figure 4", "figure 5")
"""Studies with a figure."""


def show_study(name: str, root: str | Path) -> None:
    """Show the finished runs of a table or figure of the paper in a notebook.

    Args:
        name: of the study: ``table 1`` .. ``table 6``, ``figure 4``, ``figure 5``.
        root: ``<results>/<data set>/<detector>``, which holds ``seed0``, ...: exported results, or your own work_dirs.

    Raises:
        InputError: there is no finished run of the study below ``root``.
    """
    from matplotlib import pyplot as plt

    study = STUDIES[name]
    for part in parts(tables.study_runs(Path(root), study), study):
        _show(part)
    plt.close("all")


def parts(runs: pd.DataFrame, study: Study) -> Iterator[str | pd.DataFrame | Figure]:
    """Return what ``show_study`` shows, in its order: texts in Markdown, tables of strings, figures.

    Args:
        runs: result of ``tables.study_runs``.
        study: its study.
    """
    frame = tables.summary(runs, study)
    yield f"## Measured\n\n{tables.caption(runs)}"
    yield tables.shown(frame, study, tables.AP_COLUMNS)
    if set(tables.MASK_COLUMNS) & set(frame):
        yield "Masks:"
        yield tables.shown(frame, study, tables.MASK_COLUMNS)
    if study.name in DRAWN:
        yield outputs.study_figure(runs, study)
    kind, number = study.name.split()
    if kind == "table":
        yield f"## As the paper prints it\n\n{published.MEASURED_ON[int(number)]}."
        yield published.printed(int(number))
        compared = tables.versus_paper(runs, study)
        if len(compared):
            yield f"## Differences to the baseline{_of_detector(study)}, and the paper's signs\n\n{_marks(runs)}"
            yield tables.signs(compared, study)
    found = fidelity.fidelity(runs, study) if study.name != "figure 5" else pd.DataFrame()
    if len(found) and found["rows"].max() > fidelity.FEWEST:  # of three rows the order says little
        yield f"## Is the order the paper's?\n\n{fidelity.caption(runs, study)}"
        yield fidelity.shown(found)
    yield "## Accuracy of proposals\n\nShare of the proposals of a bin's classes, and of background, named right."
    yield tables.shown(frame, study, tables.ACC_COLUMNS)


def _of_detector(study: Study) -> str:
    return " of the same detector" if study.rows[0].framework else ""


def _marks(runs: pd.DataFrame) -> str:
    text = "Ours in points. ✓: the paper has the same sign; ✗: the other; ~: no difference in the paper"
    if len(set(runs["seed"])) > 1:
        return f"{text}, or within noise: twice the deviation of the difference over seeds."
    return f"{text}. One seed: noise is not known."


def _show(part: str | pd.DataFrame | Figure) -> None:
    from IPython.display import Markdown, display

    if isinstance(part, str):
        display(Markdown(part))
    elif isinstance(part, pd.DataFrame):
        display({"text/html": part.to_html(index=False, border=0), "text/plain": part.to_string(index=False)}, raw=True)
    else:
        display(part)
