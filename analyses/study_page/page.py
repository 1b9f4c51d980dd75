"""The page of a study: what was run, methods against the control, tables, weight norms, errors, and what is missing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from imbalance_bench.evaluation import error_views
from imbalance_bench.pages import html
from imbalance_bench.pages.pictures import gains
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.files import write_text
from imbalance_bench.runtime.progress import Reporter

from . import detected, evidence, pictures, tables
from .conclusions import conclusions
from .evidence import Evidence


def write(root: Path, path: Path, data_dir: Path, reporter: Reporter | None = None) -> Path:
    """Write the page of all finished runs of a data set and a detector.

    Args:
        root: ``work_dir/<dataset>/<detector>``.
        path: the page.
        data_dir: folder of data sets; without the runs' own, what needs images or annotations is left out.
        reporter: shows progress.

    Raises:
        InputError: there is no finished run.
    """
    write_text(path, render(evidence.read(root), data_dir, reporter or Reporter()))
    return path


def render(found: Evidence, data_dir: Path, reporter: Reporter) -> str:
    """Fill the template ``study.html``."""
    errors, picture, missing = {}, None, list(found.left_out)
    try:
        seen = detected.find(found, data_dir)
    except InputError as error:
        missing.append(f"Intervals over images, kinds of errors and detections: {error}.")
    else:
        if found.control in seen.runs and found.over != "seeds":
            limits = detected.gains_over_images(seen, found.control, reporter)
            found = replace(found, settings=evidence.with_gains(found, limits), over="images")
        shown = [folder for folder in pictures.chosen(found) if folder in seen.runs]
        errors = detected.errors(seen, shown, reporter)
        try:
            picture = html.image(detected.picture(seen, shown[:3]), "", "png")
        except InputError as error:
            missing.append(f"Detections: {error}.")
    if found.control is None:
        missing.append(f"Gains: none of {' and '.join(evidence.CONTROLS)} was run, with which methods are compared.")
    with_weights = pictures.with_weights(found, found.methods.index.tolist())
    return html.render(
        __package__,
        "study.html",
        title=f"Study of {found.runs['dataset'].iloc[0]} with {found.runs['detector'].iloc[0]}",
        found=found,
        facts=_facts(found),
        conclusions=conclusions(found),
        gains=None if found.control is None else tables.gains(found),
        settings=tables.settings(found),
        table1=tables.table1(found),
        paper=tables.paper_table1(),
        order=tables.order(found),
        accuracy=tables.accuracy(found),
        norms=tables.norms(found, with_weights),
        errors={name: tables.errors(errors, name, found) for name in ERRORS} if errors else {},
        error_captions=ERRORS,
        charts=_charts(found, with_weights),
        detections=picture,
        provenance=tables.provenance(found),
        missing=missing,
    )


ERRORS = {
    error_views.DETECTIONS: "Of each class as many of its best detections as it has boxes, in percent: right (IoU of "
    ".5 or more), on a box of another class, of the right class but .1 to .5 off, wrong in class and place, a second "
    "one on a box, on background.",
    error_views.BOXES: "Boxes of each bin, in percent, by the class of the best detection on each.",
    error_views.GAINS: "AP50, and by how many points it rises where all errors of a kind are corrected (TIDE).",
}
"""Tables of errors, and what they say."""


def _charts(found: Evidence, with_weights: dict[str, pd.DataFrame]) -> dict[str, Any]:
    notes = tables.group_notes(found)
    charts: dict[str, Any] = {
        "ap": pictures.bars(found, "AP", "AP", notes, "AP by bin of train instances."),
        "gains": None,
        "norms": pictures.weight_norms(with_weights, found) if with_weights else None,
        "accuracy": None,
    }
    if found.control is not None:
        charts["gains"] = gains(found.methods.set_index("method"), found.control)
    if "ACCbg" in found.settings:
        table = found.per_category(found.methods.index[0])
        of = {f"ACC{n}": f"{part['proposals'].sum():,.0f} proposals" for n, part in table.iloc[:-1].groupby("bin")}
        of["ACCbg"] = f"{table['proposals'].iloc[-1]:,.0f} proposals"
        what = "Share of the proposals on objects of each bin, and on background, that the classifier names right."
        charts["accuracy"] = pictures.bars(found, "ACC", "accuracy", of, what)
    return charts


def _facts(found: Evidence) -> dict[str, str]:
    """Return what was run, by name."""
    runs = found.runs
    bins = "; ".join(
        f"{f'bin {number}: ' if number else ''}{row['interval']}, {row['classes']} classes, {row['val_classes']} of "
        f"them with {row['boxes']:,} validation boxes"
        for number, row in found.bins.iterrows()
    )
    seeds = sorted(set(runs["seed"]))
    schedules = {f"{s['epochs']} epochs" for s in runs["schedule"] if isinstance(s, dict) and "epochs" in s}
    facts = {
        "data set": f"{runs['dataset'].iloc[0]}, {found.bins['classes'].sum():,} classes",
        "bins by train instances": bins,
        "tail": f"bins {', '.join(map(str, found.tail))}",
        "detector": runs["detector"].iloc[0],
        "runs": f"{len(runs):,} runs of {len(found.methods)} methods in {len(found.settings)} settings",
        "seeds": ", ".join(map(str, seeds)),
        "started from": _distinct(runs["start"]),
        "schedules": ", ".join(sorted(schedules)),
        "precision of end-to-end training": _distinct(runs["precision"]),
        "machines": _distinct(runs["machine"]),
        "dates": " to ".join(dict.fromkeys(date[:10] for date in (runs["date"].min(), runs["date"].max()))),
        "versions": _distinct(runs["versions"]),
    }
    return {name: value for name, value in facts.items() if value}


def _distinct(values: pd.Series) -> str:
    return " / ".join(dict.fromkeys(str(value) for value in values.dropna()))
