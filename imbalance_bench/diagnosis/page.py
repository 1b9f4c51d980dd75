"""A diagnosis as one self-contained HTML page: sortable tables, figures, images, commands."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

from imbalance_bench import plotting
from imbalance_bench.categories import CategoryTable
from imbalance_bench.diagnosis import Diagnosis, figures
from imbalance_bench.diagnosis.tables import interval
from imbalance_bench.evaluation import detections
from imbalance_bench.evaluation.calibration import INTERVALS, calibration_error
from imbalance_bench.evaluation.examples import best, ground_truth
from imbalance_bench.evaluation.views import percent
from imbalance_bench.runtime.files import write_text
from imbalance_bench.runtime.progress import duration

PAGE = "report.html"
CONTROL = "x2-cls"
"""Control method: the unchanged classifier, trained longer by as much as the methods train theirs."""
GALLERY, LOOKED_AT = 6, 400
"""Number of images that are shown, and of images that are searched for them."""

_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("imbalance_bench.diagnosis"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
"""Values in a template are escaped: they are shown as text, never read as markup."""


def write(diagnosis: Diagnosis) -> Path:
    """Write the page into the diagnosis's folder.

    Returns:
        The path of the page.
    """
    path = diagnosis.folder / PAGE
    write_text(path, render(diagnosis))
    return path


def render(diagnosis: Diagnosis) -> str:
    """Fill the template; texts of the diagnosis are escaped, and the browser may run only the page's own script."""
    summary, tried = diagnosis.summary, [str(name) for name in diagnosis.fixes.index if name != "baseline"]
    script, style = (Markup(_TEMPLATES.get_template(f"page.{kind}").render()) for kind in ("js", "css"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return _TEMPLATES.get_template("page.html").render(
        title=f"Diagnosis of {Path(summary['checkpoint']).name}",
        digest=digest,
        style=style,
        script=script,
        detector=Path(summary["detector"]).name,
        summary=summary,
        tried=tried,
        tuned=[name for name in tried if name in summary["tuned"]],
        control=CONTROL,
        recommended=_recommended(diagnosis),
        tables={
            "fixes": _table(_fixes(diagnosis.fixes), {diagnosis.recommended: "best", "baseline": "base"}),
            "bins": _table(_bins(diagnosis.bins)),
            "losses": _table(_losses(diagnosis.losses)),
        },
        images=_images(diagnosis),
        gallery=[
            _image(plotting.contact_sheet([pixels], [truth], {n: [f] for n, f in by_run.items()}), f"image {i}", "png")
            for i, pixels, truth, by_run in rescued(diagnosis)
        ],
        facts=_facts(summary),
    )


def _recommended(diagnosis: Diagnosis) -> dict[str, Any] | None:
    """Return the texts on the recommended fix; None if there is none."""
    if diagnosis.recommended is None:
        return None
    row = diagnosis.fixes.loc[diagnosis.recommended]
    gains = {group: interval(*(row[f"{group}_{end}"] for end in ("gain", "low", "high"))) for group in ("tail", "head")}
    longer = None
    if CONTROL in diagnosis.fixes.index and diagnosis.recommended != CONTROL:
        longer = f"{100 * diagnosis.fixes.loc[CONTROL, 'tail_gain']:+.1f}"
    return {"name": diagnosis.recommended, "settings": row["settings"], "longer": longer, **gains}


def _images(diagnosis: Diagnosis) -> dict[str, dict[str, str] | None]:
    """Draw the figures of the page, with their captions; None for the norms if the classifier has no weights."""
    table = diagnosis.per_category.rename(columns=str)
    norms = None
    if table["weight_norm"].iloc[:-1].notna().any():
        norms = _image(
            plotting.weight_norms({"as it is": table}, diagnosis.summary["bin_names"]),
            "Norm of each class's row of the classifier, by train instances.",
        )
    return {
        "gains": _image(
            figures.gains(diagnosis.fixes, diagnosis.recommended),
            "Up and to the right is better. Dashed: methods that no other beats on both.",
        ),
        "norms": norms,
        "bins": _image(
            figures.by_bin(diagnosis.bins),
            "Average precision, and what the classifier alone makes of proposals on objects of each bin.",
        ),
        "destinations": _image(
            figures.stacked(diagnosis.destinations, "proposals (%)"),
            "Where the proposals on each bin's objects go.",
        ),
        "boxes": _image(
            figures.stacked(diagnosis.boxes, "validation boxes (%)"),
            "Whose detection is the best on each bin's objects, however low its score.",
        ),
        "reliability": _image(
            figures.reliability(diagnosis.reliability, calibration_error(diagnosis.reliability)),
            "Accuracy of predictions against their confidence, by bin of the predicted class. A bin without a curve is "
            f"never predicted. Calibration error: over {INTERVALS}.",
        ),
    }


def _image(figure: Figure, caption: str, kind: str = "svg+xml") -> dict[str, str]:
    """Encode a figure as a data URL."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind.partition("+")[0], dpi=130)
    plt.close(figure)
    return {"caption": caption, "source": f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"}


Cell = tuple[str, Any]
"""The text that is shown, and the value that the column is sorted by."""


def _fixes(fixes: pd.DataFrame) -> dict[str, list[Cell]]:
    columns: dict[str, list[Cell]] = {"method": [(str(name), str(name)) for name in fixes.index]}
    columns["settings"] = [(str(text), str(text)) for text in fixes["settings"]]
    for group in ("tail", "head", "mAP"):
        columns[group] = [(percent(value), value) for value in fixes[group]]
        rows = fixes[[f"{group}_gain", f"{group}_low", f"{group}_high"]].itertuples(index=False)
        columns[f"{group} gain"] = [
            ("", 0.0) if name == "baseline" else (interval(*row), row[0])
            for name, row in zip(fixes.index, rows, strict=True)
        ]
    for name in fixes:
        if name.startswith("AP") and name[2:].isdigit():
            columns[name] = [(percent(value), value) for value in fixes[name]]
    columns["ACC background"] = [(percent(value), value) for value in fixes["accuracy_background"]]
    columns["seconds"] = [(f"{value:.1f}", value) for value in fixes["seconds"]]
    return columns


def _bins(bins: pd.DataFrame) -> dict[str, list[Cell]]:
    names = [name if name == "background" else f"bin {name}" for name in bins.index]
    columns: dict[str, list[Cell]] = {"bin": [(name, name) for name in names]}
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
    return columns


def _losses(losses: pd.DataFrame) -> dict[str, list[Cell]]:
    columns: dict[str, list[Cell]] = {"class": [(str(name), str(name)) for name in losses["name"]]}
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


def _table(columns: Mapping[str, list[Cell]], marks: Mapping[str | None, str] = MappingProxyType({})) -> dict[str, Any]:
    """Convert a table for the template; ``marks`` gives the CSS class of some rows, by the text of their first cell."""
    kinds = {
        name: "text" if any(isinstance(value, str) for _, value in cells) else "number"
        for name, cells in columns.items()
    }
    rows = [
        {
            "mark": marks.get(cells[0][0]),
            "cells": [
                {"shown": shown, "value": value, "kind": kind, "is_wide": kind == "text" and len(shown) > 40}
                for (shown, value), kind in zip(cells, kinds.values(), strict=True)
            ],
        }
        for cells in zip(*columns.values(), strict=True)
    ]
    return {"heads": [{"name": name, "kind": kind} for name, kind in kinds.items()], "rows": rows}


def rescued(
    diagnosis: Diagnosis, count: int = GALLERY
) -> list[tuple[int, np.ndarray, pd.DataFrame, dict[str, pd.DataFrame]]]:
    """Find images where the recommended fix finds the most tail objects beyond those of the unchanged detector.

    Returns:
        (image id, (h, w, 3) pixels, ground truth, best detections by run) of each; unreadable images are left out.
    """
    if diagnosis.recommended is None:
        return []
    categories = CategoryTable.from_annotations(diagnosis.folder / "categories.json")
    truth = ground_truth(diagnosis.folder / "val.json", categories)
    tail = set(categories.tail_labels)
    names = {"as it is": "baseline", diagnosis.recommended: diagnosis.recommended}
    runs = {
        shown: detections.read(diagnosis.folder / diagnosis.summary["runs"][run], categories)
        for shown, run in names.items()
    }
    holding = truth[truth["label"].isin(tail)]["image_id"].drop_duplicates().sort_values().tolist()[:LOOKED_AT]
    gains = []
    for image_id in holding:
        own = truth[truth["image_id"] == image_id]
        shown = {name: best(found, image_id, own, categories) for name, found in runs.items()}
        hits = [int((frame["correct"] & frame["label"].isin(tail)).sum()) for frame in shown.values()]
        if hits[1] > hits[0]:
            gains.append((hits[1] - hits[0], image_id, own, shown))
    gains.sort(key=lambda item: (-item[0], item[1]))
    pictures: list[tuple[int, np.ndarray, pd.DataFrame, dict[str, pd.DataFrame]]] = []
    folder = Path(diagnosis.summary["given"]["val_images"])
    for _, image_id, own, shown in gains:
        if len(pictures) == count:
            break
        try:
            with Image.open(folder / own["file_name"].iloc[0]) as file:
                pictures.append((image_id, np.asarray(file.convert("RGB")), own, shown))
        except (OSError, ValueError, Image.DecompressionBombError):
            continue
    return pictures


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
