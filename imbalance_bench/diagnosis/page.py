"""A diagnosis as one HTML page that needs nothing beside it: tables that sort, figures, images, commands."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
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
"""The classifier as it is, trained as much longer as the methods train theirs."""
GALLERY, LOOKED_AT = 6, 400
"""Images that are shown, and that are searched for them."""

STYLE = """
:root { color-scheme: light; --line: #d9dde3; --soft: #f5f7f9; --ink: #1c2430; --dim: #5b6675; --good: #0072b2; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 84rem; padding: 1.5rem 1rem 4rem; color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; } h2 { font-size: 1.25rem; margin: 2.6rem 0 .5rem; }
p, li { max-width: 46rem; } .dim { color: var(--dim); font-size: .9rem; } ul { padding-left: 1.2rem; }
.verdict { border-left: 4px solid var(--good); background: var(--soft); padding: .7rem 1rem; margin: 1.2rem 0; }
.verdict p { margin: .3rem 0; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; max-height: 34rem; }
table { border-collapse: collapse; font-size: .86rem; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .45rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { white-space: normal; vertical-align: bottom; }
th:first-child, td:first-child, td.text, th.text { text-align: left; }
td.wrap { white-space: normal; min-width: 14rem; }
thead th { position: sticky; top: 0; background: var(--soft); z-index: 2; }
th:first-child, td:first-child { position: sticky; left: 0; background: #fff; z-index: 1; }
thead th:first-child { background: var(--soft); z-index: 3; }
thead button { font: inherit; font-weight: 600; color: inherit; background: none; border: 0; padding: 0;
  text-align: inherit; cursor: pointer; }
thead button:hover { text-decoration: underline; } thead button::after { content: " \\2195"; color: #a9b2bd; }
th[aria-sort=ascending] button::after { content: " \\2191"; color: inherit; }
th[aria-sort=descending] button::after { content: " \\2193"; color: inherit; }
tr.best td { background: #e8f3fa; font-weight: 600; } tr.base td { background: var(--soft); }
figure { margin: 1rem 0; } img { max-width: 100%; height: auto; display: block; }
figcaption { color: var(--dim); font-size: .88rem; max-width: 46rem; }
.pair { display: grid; gap: 1.5rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); }
pre { background: var(--soft); border: 1px solid var(--line); border-radius: 6px; padding: .7rem; overflow-x: auto;
  font-size: .82rem; white-space: pre-wrap; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; font-size: .9rem; } dd { margin: 0;
  overflow-wrap: anywhere; } dt { color: var(--dim); }
"""

SCRIPT = """
for (const button of document.querySelectorAll("thead button")) {
  button.addEventListener("click", () => {
    const head = button.closest("th"), table = head.closest("table"), body = table.tBodies[0];
    const column = [...head.parentNode.children].indexOf(head);
    const down = head.getAttribute("aria-sort") !== "descending";
    for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = row => row.cells[column].dataset.value;
    const numeric = head.dataset.kind === "number";
    const rows = [...body.rows].sort((a, b) => {
      if (!numeric) return (down ? -1 : 1) * key(a).localeCompare(key(b));
      const x = parseFloat(key(a)), y = parseFloat(key(b));
      if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
      return down ? y - x : x - y;
    });
    body.append(...rows);
  });
}
"""


def write(diagnosis: Diagnosis) -> Path:
    """Write the page into the diagnosis's folder.

    Returns:
        Its path.
    """
    path = diagnosis.folder / PAGE
    write_text(path, render(diagnosis))
    return path


def render(diagnosis: Diagnosis) -> str:
    """The page; no text of the diagnosis is markup in it, and the browser is told to run this script alone."""
    script = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{script}'"
    title = f"Diagnosis of {Path(diagnosis.summary['checkpoint']).name}"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(_sections(diagnosis, title))
        + f"\n<script>{SCRIPT}</script>\n</body></html>\n"
    )


def _sections(diagnosis: Diagnosis, title: str) -> Iterator[str]:
    summary, fixes = diagnosis.summary, diagnosis.fixes
    best_fix = diagnosis.recommended
    yield f'<h1>{escape(title)}</h1><p class="dim">{escape(_what(diagnosis))}</p>'
    advice = _advice(diagnosis)
    yield (
        '<div class="verdict">' + "".join(f"<p>{escape(line)}</p>" for line in [*summary["verdict"], advice]) + "</div>"
    )
    if summary["notes"]:
        yield "<ul>" + "".join(f"<li>{escape(note)}</li>" for note in summary["notes"]) + "</ul>"

    yield "<h2>What helps</h2>"
    yield f"<p>{escape(_how(diagnosis))}</p>"
    if exported := summary["exported"]:
        needs = "plain mmdet runs it" if exported["plain"] else "it needs this package where it runs (custom_imports)"
        line = f"{exported['method']} was exported: config.py and checkpoint.pth in {exported['folder']}/; {needs}."
        yield f"<p>{escape(line)}</p>"
    yield _table(_fixes(fixes), best=best_fix, base="baseline")
    yield _figure(
        figures.gains(fixes, best_fix),
        "Up and to the right is better. Dashed: methods that no other beats on both.",
    )

    yield "<h2>Is the classifier imbalanced?</h2>"
    bin_names = summary["bin_names"]
    frame = diagnosis.per_category.rename(columns=str)
    if frame["weight_norm"].iloc[:-1].notna().any():
        yield _figure(
            plotting.weight_norms({"as it is": frame}, bin_names),
            "Norm of each class's row of the classifier, by train instances.",
        )
    yield _figure(
        figures.by_bin(diagnosis.bins),
        "Average precision, and what the classifier alone makes of proposals on objects of each bin.",
    )
    yield _table(_bins(diagnosis.bins))

    yield "<h2>Whom do the classes lose to?</h2>"
    yield _figure(
        figures.stacked(diagnosis.destinations, "proposals (%)"),
        "Where the proposals on each bin's objects go.",
    )
    yield _figure(
        figures.stacked(diagnosis.boxes, "validation boxes (%)"),
        "Whose detection is the best on each bin's objects, however low its score.",
    )
    yield _table(_losses(diagnosis.losses))

    yield "<h2>Can its scores be believed?</h2>"
    yield _figure(
        figures.reliability(diagnosis.reliability, calibration_error(diagnosis.reliability)),
        "Accuracy of predictions against their confidence, by bin of the predicted class. A bin without a curve is "
        f"never predicted. Calibration error: over {INTERVALS}.",
    )
    yield from _gallery(diagnosis)
    yield "<h2>How this was made</h2>" + _provenance(summary)


def _what(diagnosis: Diagnosis) -> str:
    summary = diagnosis.summary
    return (
        f"{Path(summary['detector']).name}, {summary['classes']:,} classes; bins by train instances: "
        + ", ".join(f"{n}: {name}" for n, name in enumerate(summary["bin_names"], start=1))
        + f"; tail: bins {', '.join(map(str, summary['tail_bins']))}"
    )


def _how(diagnosis: Diagnosis) -> str:
    """How the methods were fitted and compared, in this very run."""
    tried = [str(name) for name in diagnosis.fixes.index if name != "baseline"]
    tuned = [name for name in tried if name in diagnosis.summary["tuned"]]
    lines = [
        "Each method was fitted to the same cached proposals of the detector as it is, and measured on the validation "
        "images."
    ]
    if tuned:
        of = f"of {len(tuned)} of the {len(tried)} methods" if len(tuned) < len(tried) else "of each"
        rest = " The others have their default settings." if len(tuned) < len(tried) else ""
        lines.append(
            f"The settings {of} were chosen by mAP on training images that the method had not been fitted to (the "
            f"detector itself had seen them).{rest}"
        )
    else:
        lines.append("No settings were chosen: each has its default ones.")
    lines.append(
        "Gains are over the detector as it is, with 95 % intervals over validation images, the same images for all; "
        "they do not cover the seed of training"
        + (", and the best of many methods looks a little better than it is." if len(tried) > 1 else ".")
    )
    if CONTROL in tried:
        lines.append(f"{CONTROL} is the control: the same classifier, trained as much longer.")
    return " ".join(lines)


def _advice(diagnosis: Diagnosis) -> str:
    if diagnosis.recommended is None:
        return "No method gains on the tail beyond chance without losing overall."
    row = diagnosis.fixes.loc[diagnosis.recommended]
    gains = {group: interval(*(row[f"{group}_{end}"] for end in ("gain", "low", "high"))) for group in ("tail", "head")}
    line = (
        f"Recommended: {diagnosis.recommended} ({row['settings']}): {gains['tail']} AP on tail classes, "
        f"{gains['head']} on head classes."
    )
    if CONTROL in diagnosis.fixes.index and diagnosis.recommended != CONTROL:
        longer = 100 * diagnosis.fixes.loc[CONTROL, "tail_gain"]
        line += f" Training the same classifier as much longer gives {longer:+.1f} on tail classes by itself."
    return line


Cell = tuple[str, Any]
"""What is shown, and what a column is sorted by."""


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


def _table(columns: Mapping[str, list[Cell]], best: str | None = None, base: str | None = None) -> str:
    """A table whose heads sort it; the rows of ``best`` and ``base`` are marked."""
    kinds = {
        name: "text" if any(isinstance(value, str) for _, value in cells) else "number"
        for name, cells in columns.items()
    }
    head = "".join(
        f'<th scope="col" class="{kind}" data-kind="{kind}"><button type="button">{escape(name)}</button></th>'
        for name, kind in kinds.items()
    )
    rows = []
    for cells in zip(*columns.values(), strict=True):
        mark = {best: "best", base: "base"}.get(cells[0][0]) if cells[0][0] is not None else None
        tag = f'<tr class="{mark}">' if mark else "<tr>"
        rows.append(tag + "".join(map(_cell, cells, kinds.values())) + "</tr>")
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _cell(cell: Cell, kind: str) -> str:
    shown, value = cell
    wide = " wrap" if kind == "text" and len(shown) > 40 else ""
    return f'<td class="{kind}{wide}" data-value="{escape(str(value))}">{escape(shown)}</td>'


def _figure(figure: Figure, caption: str, kind: str = "svg") -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=130)
    plt.close(figure)
    mime = "image/svg+xml" if kind == "svg" else "image/png"
    data = base64.b64encode(buffer.getvalue()).decode()
    return (
        f'<figure><img alt="{escape(caption)}" src="data:{mime};base64,{data}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _gallery(diagnosis: Diagnosis) -> Iterator[str]:
    """Validation images in which the recommended fix finds objects of tail classes that were missed."""
    if diagnosis.recommended is None:
        return
    found = rescued(diagnosis)
    if not found:
        return
    yield f"<h2>What {escape(diagnosis.recommended)} finds</h2>"
    yield (
        "<p>Validation images in which it finds most objects of tail classes that the detector as it is missed, so "
        "not a fair sample. Of each, as many detections as there are objects: blue is right, orange wrong.</p>"
    )
    for image_id, image, truth, by_run in found:
        sheet = plotting.contact_sheet([image], [truth], {name: [frame] for name, frame in by_run.items()})
        yield _figure(sheet, f"image {image_id}", kind="png")


def rescued(
    diagnosis: Diagnosis, count: int = GALLERY
) -> list[tuple[int, np.ndarray, pd.DataFrame, dict[str, pd.DataFrame]]]:
    """Images with the most tail objects that the recommended fix finds and the detector as it is does not.

    Returns:
        (image id, (h, w, 3) pixels, ground truth, best detections by run) of each; unreadable images left out.
    """
    assert diagnosis.recommended is not None
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


def _provenance(summary: Mapping[str, Any]) -> str:
    provenance = summary["provenance"]
    facts = {
        "date": provenance["date"],
        "machine": provenance["machine"],
        "took": _took(summary),
        **{f"{name}": str(value) for name, value in summary["given"].items() if value is not None},
        "python": provenance["python"],
        **{name: version for name, version in provenance["versions"].items()},
    }
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in facts.items())
    return f"<pre>{escape(summary['called'])}</pre><dl>{rows}</dl>"


def _took(summary: Mapping[str, Any]) -> str:
    """Measured time of this call, and of what earlier ones had done."""
    line, resumed = duration(summary["seconds"]), summary["resumed"]
    if resumed["runs"]:
        line += (
            f"; {resumed['runs']} of its runs were there from an earlier call, which took "
            f"{duration(resumed['seconds'])} for them"
        )
    return line
