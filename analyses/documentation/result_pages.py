"""Pages of the measured results: the whole tables of each data set, the findings, and the comparison with the paper."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from imbalance_bench.evaluation import per_category
from imbalance_bench.evaluation.views import percent
from imbalance_bench.evaluation.weight_norms import spearman
from imbalance_bench.methods import METHODS

from .. import beyond, carry_over, fidelity, published, tables
from ..studies import STUDIES, Study
from .method_pages import over, sortable

FIGURES = {
    "beyond.png": "What each method gains on the tail and costs the head, over the control; 95 % intervals over seeds",
    "ap_by_bin.png": "AP of every row of Table 1 in every bin",
    "weight_norms.png": "Weight norm of each class against its rank by training instances",
    "detections.png": "Validation images: ground truth, and the best detections of baseline and BAGS",
    "learning_curves.png": "AP on validation by epoch",
    "figure1.png": "Figure 1: weight norms on the balanced twin and on the long-tailed set",
    "figure3.png": "Figure 3: weight norms of baseline, RFS, Re-weight-cls and BAGS",
    "figure4.png": "Figure 4: AP against beta of BAGS",
    "figure5.png": "Figure 5: settings of re-weighting and tau-normalisation",
}
PROVENANCE = ("machine", "versions", "command")


def worlds(results: Path) -> list[str]:
    """List the data sets that have a page: those with a table."""
    names = {path.parent.name for pattern in ("*/table[1-6].csv", "*/beyond.csv") for path in results.glob(pattern)}
    return sorted(names)


def page(results: Path, world: str) -> str:
    """Write the page of a data set: every table with its caption and provenance, and the figures."""
    folder = results / world
    parts = ["---\nhide: [toc]\n---", f"# {world}", _intro(world)]
    if (folder / "beyond.csv").exists():
        frame = pd.read_csv(folder / "beyond.csv")
        remarks = tables.remarks(zip(frame["method"] + ":" + frame["settings"], frame["date"], strict=True))
        parts += [
            "## All methods on one frozen detector",
            f"{_figure(world, 'beyond.png', folder)}{sortable(beyond.shown(frame))}",
            f"{beyond.CAPTION}. {remarks}".strip(),
            _provenance(frame, f"{world}/beyond.csv"),
        ]
    for name, study, runs in _studies(folder):
        parts += [
            f"## {name}: {study.title}",
            sortable(_cells(runs, study)),
            f"{tables.caption(runs)} [Signs and order beside the paper's](paper.md).",
            _provenance(runs, f"{world}/{study.name.replace(' ', '')}.csv"),
        ]
    scratch = folder / "from_scratch" / "table1.csv"
    if scratch.exists():
        runs = pd.read_csv(scratch)
        parts += [
            "## Table 1 from random weights",
            sortable(_cells(runs, STUDIES["table 1"])),
            "The same rows without first weights of other classes, one seed.",
            _provenance(runs, f"{world}/from_scratch/table1.csv"),
        ]
    if (folder / "oracles.csv").exists():
        runs = pd.read_csv(folder / "oracles.csv")
        columns = [column for column in tables.AP_COLUMNS if column in runs]
        shown = runs[["method", "oracle"]].join(runs[columns].map(percent))
        parts += [
            "## Oracles",
            "AP where a part of the answer is given. [How to read it](../reading.md#oracles).",
            sortable(shown),
            _provenance(runs, f"{world}/oracles.csv"),
        ]
    parts += _errors(folder)
    pictures = [_figure(world, name, folder) for name in FIGURES if name != "beyond.png"]
    if any(pictures):
        parts += ["## Figures", "".join(pictures).rstrip()]
    return "\n\n".join(part for part in parts if part) + "\n"


def _errors(folder: Path) -> list[str]:
    """Write by which classes the boxes of each bin are taken, of every run whose errors were analysed."""
    parts = []
    for path in sorted(folder.glob("errors/*/errors_boxes.csv")):
        frame = pd.read_csv(path).set_index("bin").map(percent).reset_index()
        csv = path.relative_to(folder.parent).as_posix()
        parts.append(
            f"### {path.parent.name}\n\n{sortable(frame)}\n\n[CSV](../../results/measured/{csv}), "
            f"[figure](../../results/measured/{csv.replace('errors_boxes.csv', 'errors.png')})"
        )
    if not parts:
        return []
    legend = "Boxes by the best detection on each (IoU ≥ .5), percent, seed 0."
    how = "[How to read it](../reading.md#kinds-of-errors)."
    return ["## Who takes the boxes of each bin", f"{legend} {how}", *parts]


def _cells(runs: pd.DataFrame, study: Study) -> pd.DataFrame:
    columns = [*tables.AP_COLUMNS, *tables.MASK_COLUMNS, *tables.ACC_COLUMNS]
    return tables.shown(tables.summary(runs, study), study, columns)


def _intro(world: str) -> str:
    if world.endswith("-v1"):
        return (
            f"Measured on the first version of `{world.removesuffix('-v1')}`: classes that do not look alike, clean "
            "drawings, trainings from random weights. Do not compare its numbers with those of the set as it is now."
        )
    return "Every number was measured by the code of this project; the CSV of each table has all columns."


def _studies(folder: Path) -> Iterator[tuple[str, Study, pd.DataFrame]]:
    """Yield each table of the paper that was run, with its runs; results outlive rows of the catalogue."""
    for number in range(1, 7):
        path, study = folder / f"table{number}.csv", STUDIES[f"table {number}"]
        if path.exists():
            runs = pd.read_csv(path, keep_default_na=True)
            yield f"Table {number}", study, runs[runs["run"].isin([str(row.run) for row in study.rows])]


def _figure(world: str, name: str, folder: Path) -> str:
    if not (folder / name).exists():
        return ""
    return f"![{FIGURES[name]}](../../results/measured/{world}/{name})\n\n{FIGURES[name]}.\n\n"


def _provenance(runs: pd.DataFrame, csv: str) -> str:
    """Write which machines, versions, commands and days a table comes from, folded."""
    dates = sorted(date for text in runs["date"].dropna() for date in str(text).split(" / "))
    lines = [f"    From {dates[0][:10]} to {dates[-1][:10]}. [All columns](../../results/measured/{csv}) (CSV).", ""]
    for column in PROVENANCE:
        if column in runs:
            found = dict.fromkeys(text for cell in runs[column].dropna() for text in str(cell).split(" / "))
            lines += [f"    - {column}: `{text}`" for text in found]
    return "\n".join(['??? info "Where these numbers come from"', "", *lines])


def findings(runs: pd.DataFrame, results: Path) -> str:
    """Write what the measured results say, a section a data set with several seeds; no number is written by hand.

    Args:
        runs: result of ``measured.measured``.
        results: the folder that they are from.
    """
    parts = []
    for world, own in runs[runs["kind"] == "default"].groupby("world", sort=False):
        told = _beside_control(own[own["tail_over_half"].notna()])
        if told:
            folder = results / str(world)
            told += [*_with_cosine(runs[runs["world"] == world]), *_norms(folder), *_oracle(folder), *_takers(folder)]
            lines = "\n".join(f"- {line}" for line in told)
            parts.append(f"### {world}\n\n{lines}\n\n[All tables of {world}]({world}.md)")
    return "\n\n".join(parts)


def _beside_control(own: pd.DataFrame) -> list[str]:
    """Tell which methods are better than plain longer training, and what BAGS gains."""
    own = own[own["control"] == beyond.CONTROL]
    others = own[~own["method"].isin(["baseline", beyond.CONTROL])].drop_duplicates("method")
    if len(others) < 5:
        return []
    better = others[others["tail_over"] > others["tail_over_half"]].sort_values("tail_over", ascending=False)
    costly = better[better["head_over"] < -better["head_over_half"]]
    first = ", ".join(f"{_linked(row['method'])} ({over(row, 'tail')})" for row in better.head(3).to_dict("records"))
    lines = [
        f"{len(better)} of {len(others)} methods beat the control `{beyond.CONTROL}` on the tail with a 95 % interval "
        f"over seeds that leaves out 0. First are {first}, in points of AP on tail classes.",
        f"{len(better) - len(costly)} of these {len(better)} cost the head nothing beyond chance."
        + (f" The others: {', '.join(_linked(name) for name in costly['method'])}." if len(costly) else ""),
    ]
    for row in others[others["method"] == "bags"].to_dict("records"):
        place = int((others["tail_over"] > row["tail_over"]).sum()) + 1
        lines.append(
            f"{_linked('bags')} gains {over(row, 'tail')} on the tail and {over(row, 'head')} on the head over the "
            f"control; it is number {place} of {len(others)} on the tail."
        )
    return lines


def _with_cosine(runs: pd.DataFrame) -> list[str]:
    """Tell which method is best under a cosine classifier, and what it adds to the plain one."""
    under = runs[(runs["kind"] == "cosine") & runs["tail_over_half"].notna()]
    if under.empty:
        return []
    best = under.loc[under["mAP"].idxmax()]
    top = runs[runs["kind"] == "default"]["mAP"].max()
    return [
        f"Under a cosine classifier (s = 20) {_linked(best['method'])} has the highest mAP, {100 * best['mAP']:.1f}; "
        f"the best method with default settings has {100 * top:.1f}. Over a plain cosine classifier it gains "
        f"{over(best.to_dict(), 'tail')} on the tail."
    ]


def _norms(folder: Path) -> list[str]:
    """Tell how weight norms follow the counts, of the baseline and of two methods."""
    found = {}
    for run in ("baseline", "reweight-cls", "bags"):
        paths = sorted(folder.glob(f"*/seed0/{run}/per_category.csv"))
        if paths:
            found[run] = spearman(per_category.read(paths[0]))
    if "baseline" not in found:
        return []
    told = ", ".join(f"{value:.2f} for {_linked(run)}" for run, value in found.items())
    return [f"Rank correlation of weight norm and training instances (seed 0): {told}."]


def _oracle(folder: Path) -> list[str]:
    """Tell what AP1 would be if a part of the answer were known."""
    if not (folder / "oracles.csv").exists():
        return []
    frame = pd.read_csv(folder / "oracles.csv")
    ap = frame[frame["method"] == "baseline"].set_index("oracle")["AP1"]
    told = ", ".join(f"{100 * value:.1f} {name}" for name, value in ap.items())
    return [f"AP1 of the baseline, where a part of the answer is given ([oracles](../reading.md#oracles)): {told}."]


def _takers(folder: Path) -> list[str]:
    """Tell what the best detections on the rarest classes' boxes are called."""
    path = folder / "errors" / "baseline" / "errors_boxes.csv"
    if not path.exists():
        return []
    rarest = pd.read_csv(path).set_index("bin").loc["1"]
    bins = [name for name in rarest.index if name.startswith("bin ")]
    head = rarest[bins[len(bins) // 2 :]].sum()
    right, head, none = (f"{100 * share:.1f} %" for share in (rarest["right"], head, rarest["no proposal"]))
    return [
        f"Of the boxes of bin 1 the baseline finds {right}. On {head} the best detection is of a class of the upper "
        f"half of the bins. No proposal covers {none}."
    ]


def _linked(method: str) -> str:
    return f"[{METHODS[method].title}](../methods/{method}.md)"


def versus_paper(results: Path) -> str:
    """Write for each data set and table the signs of the differences beside the paper's, and their order."""
    parts = []
    for world in worlds(results):
        for name, study, runs in _studies(results / world):
            compared = tables.signs(tables.versus_paper(runs, study), study)
            if compared.empty:
                continue
            ordered = fidelity.fidelity(runs, study)
            parts += [f"### {name} on {world}", sortable(compared)]
            if not ordered.empty:
                parts += [sortable(fidelity.shown(ordered)), fidelity.caption(runs, study)]
    return "\n\n".join(parts)


def published_tables() -> str:
    """Write the paper's own tables, as printed."""
    titles = {number: STUDIES[f"table {number}"].title for number in range(1, 7)}
    parts = [
        f"### The paper's Table {number}\n\n{title}.\n\n{sortable(published.printed(number))}"
        for number, title in titles.items()
    ]
    return "\n\n".join(parts)


def what_carries_over(results: Path) -> str:
    """Write the gain of every method on the tail over its control, in every data set and in the paper."""
    gains = carry_over.collect(results)
    return "\n\n".join(
        f"### {heading}\n\n{sortable(carry_over.table(gains, group))}"
        for group, heading in (("tail", "AP on tail classes over the control"), ("head", "AP on head classes"))
    )
