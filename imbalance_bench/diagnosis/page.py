"""A diagnosis as one self-contained HTML page: sortable tables, figures, images, commands."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from imbalance_bench.diagnosis import gallery
from imbalance_bench.diagnosis.fixes import OVER, control_of
from imbalance_bench.diagnosis.next_step import advise
from imbalance_bench.diagnosis.result import Diagnosis
from imbalance_bench.diagnosis.tables import interval
from imbalance_bench.evaluation.calibration import INTERVALS
from imbalance_bench.evaluation.views import percent
from imbalance_bench.pages import html, looks, pictures
from imbalance_bench.pages.charts import Chart
from imbalance_bench.runtime.files import write_text
from imbalance_bench.runtime.progress import duration

PAGE = "report.html"


def write(diagnosis: Diagnosis) -> Path:
    """Write the page into the diagnosis's folder.

    Returns:
        The path of the page.
    """
    path = diagnosis.folder / PAGE
    gallery.draw(diagnosis)
    write_text(path, render(diagnosis))
    return path


def render(diagnosis: Diagnosis) -> str:
    """Fill the template ``diagnosis.html``."""
    summary, tried = diagnosis.summary, [str(name) for name in diagnosis.fixes.index if name != "baseline"]
    return html.render(
        __package__,
        "diagnosis.html",
        title=f"Diagnosis of {Path(*Path(summary['checkpoint']).parts[-2:]).as_posix()}",
        detector=Path(summary["detector"]).name,
        summary=summary,
        tried=tried,
        tuned=[name for name in tried if name in summary["tuned"]],
        control=control_of(tried),
        recommended=diagnosis.recommended,
        advice=advise(diagnosis),
        tables={
            "fixes": html.table(
                _fixes(diagnosis.fixes),
                {diagnosis.recommended: "best", "baseline": "base"},
                keys=[str(name) for name in diagnosis.fixes.index],
            ),
            "bins": html.table(_bins(diagnosis.bins)),
            "losses": html.table(_losses(diagnosis.losses)),
        },
        images=_images(diagnosis),
        charts={
            "gains": pictures.gains(diagnosis.fixes, "baseline", diagnosis.recommended),
            **_by_bin(diagnosis.bins),
        },
        examples=[
            html.picture(path.read_bytes(), path.stem.partition(" ")[2], "png")
            for path in gallery.drawn(diagnosis.folder)
        ],
        facts=_facts(summary),
    )


def _images(diagnosis: Diagnosis) -> dict[str, dict[str, str] | None]:
    """Draw the figures of the page, with their captions; None for the norms if the classifier has no weights."""
    norms = None
    if diagnosis.per_category["weight_norm"].iloc[:-1].notna().any():
        norms = html.image(
            diagnosis.figure("norms"),
            "Norm of each class's row of the classifier, by train instances.",
        )
    return {
        "norms": norms,
        "destinations": html.image(
            diagnosis.figure("proposals"),
            "Where the proposals on each bin's objects go.",
        ),
        "boxes": html.image(
            diagnosis.figure("boxes"),
            "Whose detection is the best on each bin's objects, however low its score.",
        ),
        "reliability": html.image(
            diagnosis.figure("reliability"),
            "Accuracy of predictions against their confidence, by bin of the predicted class. A bin without a curve is "
            f"never predicted. Calibration error: over {INTERVALS}.",
        ),
    }


def _by_bin(bins: pd.DataFrame) -> dict[str, Chart | None]:
    """Draw AP by bin, and what the classifier alone makes of the proposals on objects of each bin."""
    bins = bins.drop(index="background")
    groups = [f"bin {number}\n{row['interval']}" for number, row in bins.iterrows()]

    def frame(column: str, of: str) -> pd.DataFrame:
        behind = [f"{row[of]:,.0f} {of}" for _, row in bins.iterrows()]
        ends = {end: bins.get(f"{column}_{end}", np.nan) for end in ("low", "high")}
        return pd.DataFrame({"value": bins[column].astype(float), **ends, "of": behind})

    said = {"named right": frame("accuracy", "proposals"), "taken for background": frame("as_background", "proposals")}
    return {
        "bins": pictures.by_bin(
            {"baseline": frame("ap", "classes")}, {"baseline": looks.BASELINE}, groups, "AP",
            "Average precision of the detector as it is, with 95 % intervals over validation images.",
        ),
        "proposals": pictures.by_bin(
            said, dict(zip(said, (looks.RIGHT, looks.LOST), strict=True)), groups, "proposals",
            "What the classifier alone makes of the proposals on objects of each bin.",
        ),
    }  # fmt: skip


def _fixes(fixes: pd.DataFrame) -> dict[str, list[html.Cell]]:
    columns: dict[str, list[html.Cell]] = {"method": [(str(name), str(name)) for name in fixes.index]}
    columns["settings"] = [(str(text), str(text)) for text in fixes["settings"]]
    for group in ("tail", "head", "mAP"):
        columns[group] = [(percent(value), value) for value in fixes[group]]
        columns[f"{group} gain"] = _gains(fixes, group, "baseline")
    if (control := control_of(fixes.index)) is not None:
        columns[f"tail over {control}"] = _gains(fixes, "tail", "control")
    for name in fixes:
        if name.startswith("AP") and name[2:].isdigit():
            columns[name] = [(percent(value), value) for value in fixes[name]]
    columns["ACC background"] = [(percent(value), value) for value in fixes["accuracy_background"]]
    return columns


def _gains(fixes: pd.DataFrame, group: str, over: str) -> list[html.Cell]:
    rows = fixes[[f"{group}_{end}" for end in OVER[over]]].itertuples(index=False)
    compared = [name not in ("baseline", control_of(fixes.index) if over == "control" else "") for name in fixes.index]
    return [(interval(*row), row[0]) if own else ("", row[0]) for own, row in zip(compared, rows, strict=True)]


def _bins(bins: pd.DataFrame) -> dict[str, list[html.Cell]]:
    names = [name if name == "background" else f"bin {name}" for name in bins.index]
    columns: dict[str, list[html.Cell]] = {"bin": [(name, name) for name in names]}
    columns["train instances"] = [(str(text), position) for position, text in enumerate(bins["interval"])]
    columns["classes"] = [(f"{value:.0f}" if value else "", value) for value in bins["classes"]]
    for column, head in (("ap", "AP"), ("accuracy", "accuracy")):
        rows = bins[[column, f"{column}_low", f"{column}_high"]].itertuples(index=False)
        columns[head] = [
            ("-" if row[0] != row[0] else f"{100 * row[0]:.1f} [{100 * row[1]:.1f}, {100 * row[2]:.1f}]", row[0])
            for row in rows
        ]
    columns["proposals"] = [(f"{value:,.0f}", value) for value in bins["proposals"]]
    columns["as background"] = [(percent(value), value) for value in bins["as_background"]]
    columns["calibration error"] = [
        ("-" if value != value else f"{value:.3f}", value) for value in bins["calibration_error"]
    ]
    for column, head in (("chosen_recall", "covered by chosen queries"), ("proposal_recall", "covered in the end")):
        if "chosen_recall" in bins:
            columns[head] = [(percent(value), value) for value in bins[column]]
    return columns


def _losses(losses: pd.DataFrame) -> dict[str, list[html.Cell]]:
    columns: dict[str, list[html.Cell]] = {"class": [(str(name), str(name)) for name in losses["name"]]}
    for column, head in (
        ("id", "id"),
        ("instance_count", "train instances"),
        ("bin", "bin"),
        ("proposals", "proposals"),
    ):
        columns[head] = [(f"{value:,.0f}" if column != "id" else f"{value:.0f}", value) for value in losses[column]]
    for column, head in (("accuracy", "named right"), ("as_background", "as background"),
                         ("as_more", "as a more frequent class"), ("as_fewer", "as a rarer class")):  # fmt: skip
        columns[head] = [(percent(value), value) for value in losses[column]]
    columns["taken by"] = [(str(text), str(text)) for text in losses["taken_by"]]
    return columns


def _facts(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings and provenance of the diagnosis, by name."""
    provenance = summary["provenance"]
    return {
        "date": provenance["date"],
        "machine": provenance["machine"],
        "took": _took(summary),
        **{name: value for name, value in summary["given"].items() if value is not None},
        "python": provenance["python"],
        **provenance["versions"],
    }


def _took(summary: Mapping[str, Any]) -> str:
    """Describe the measured time of this call, and of the runs from earlier calls."""
    line, resumed = duration(summary["seconds"]), summary["resumed"]
    if resumed["runs"]:
        line += (
            f"; {resumed['runs']} of its runs were there from an earlier call, which took "
            f"{duration(resumed['seconds'])} for them"
        )
    return line
