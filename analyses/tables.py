"""Tables of measured results from run folders: a study's runs, means over seeds, and the comparison with the paper."""

from __future__ import annotations

import glob
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from imbalance_bench.bins import bin_names, number_of_classes, parse_edges
from imbalance_bench.experiments.run_folder import RunFolder
from imbalance_bench.methods import METHODS, parse
from imbalance_bench.runtime.errors import InputError

from . import published
from .studies import Row, Study

AP_COLUMNS = ("mAP", "AP1", "AP2", "AP3", "AP4", "APr", "APc", "APf")
ACC_COLUMNS = ("ACC", "ACC1", "ACC2", "ACC3", "ACC4", "ACCbg", "ACCmacro")
MASK_COLUMNS = tuple(f"{name}^m" for name in AP_COLUMNS)
COLUMNS = (*AP_COLUMNS, *MASK_COLUMNS, *ACC_COLUMNS)
COMPARED = ("mAP", "AP1", "AP2", "AP3", "AP4", *MASK_COLUMNS[:5], "ACC1", "ACC2", "ACC3", "ACC4", "ACCbg")
"""Measures whose direction is compared with the paper's."""


def study_runs(root: Path, study: Study) -> pd.DataFrame:
    """Read every finished run of a study, one row for each run and seed, in the study's order.

    Args:
        root: ``work_dir/<dataset>/<detector>``, which holds ``seed0``, ``seed1``, ...; rows of frameworks are
            searched in the folders beside it, at that detector's scale.
        study: study to read.

    Returns:
        The study's label columns, ``run``, ``seed``, the measures as fractions with the number of classes behind each
        AP (``<name>_classes``), and the provenance.

    Raises:
        InputError: there is no finished run of the study below ``root``.
    """
    runs = []
    for row in study.rows:
        detector = root.with_name(row.detector(root.name))
        folders = sorted(detector.glob(f"seed*/{glob.escape(row.run.folder)}"))
        runs += [_run(row, folder) for path in folders if (folder := RunFolder(path)).is_done]
    if not runs:
        raise InputError(f"{root}: no finished run of {study.name}, 'run-all' makes them")
    return pd.DataFrame(runs)


def _runs_of(runs: pd.DataFrame, row: Row) -> pd.DataFrame:
    """Return the runs of one row of a study, indexed by seed."""
    chosen = runs["run"] == str(row.run)
    if row.framework is not None:
        chosen &= runs["framework"] == row.framework
    return runs[chosen].set_index("seed").sort_index()


def _run(row: Row, folder: RunFolder) -> dict[str, Any]:
    record = folder.record()
    settings, provenance = record["settings"], record["provenance"]
    return {
        **row.labels,
        "run": str(row.run),
        "seed": settings["seed"],
        **record["metrics"],
        "dataset": settings["dataset"],
        "bin_edges": " ".join(map(str, settings["bin_edges"])),
        "detector": settings["detector"],
        "epochs": settings["schedule"]["epochs"] if settings["schedule"] else 0,
        "train_seconds": provenance["seconds"].get("train"),
        "machine": provenance["machine"],
        "date": provenance["date"],
        "versions": "; ".join(f"{name} {version}" for name, version in provenance["versions"].items()),
        "command": provenance["command"],
    }


def summary(runs: pd.DataFrame, study: Study, over: str | None = None) -> pd.DataFrame:
    """Compute mean and standard deviation over seeds, one row for each setting with a run, in the study's order.

    Args:
        runs: result of ``study_runs``.
        study: its study.
        over: ``method`` (its first variant with a run) or ``method:variant``: compute the differences to that row, seed
            by seed, over the seeds that both have; the row itself stays as it is.

    Returns:
        The label columns, ``run``, ``detector``, ``seeds`` (their number), ``is_difference``, each measure's mean under
        its name and its standard deviation (of the sample; NaN for one seed) under ``<name>_std``.

    Raises:
        InputError: the study has no finished run of ``over``.
    """
    measures = [column for column in COLUMNS if column in runs]
    bases: dict[str | None, Row] = {}  # by framework
    for row in study.rows if over else ():
        if over in (str(row.run), row.run.method.name) and len(_runs_of(runs, row)):
            bases.setdefault(row.framework, row)
    if over and not bases:
        raise InputError(f"{study.name} has no finished run '{over}' to compare with")
    rows = []
    for row in study.rows:
        of_row = _runs_of(runs, row)
        if len(of_row):
            base, values = bases.get(row.framework, row), of_row[measures]
            if base is not row:
                values = (values - _runs_of(runs, base)[measures]).dropna(how="all")
            known = {"run": str(row.run), "detector": of_row["detector"].iloc[0], "seeds": len(values)}
            known["is_difference"] = base is not row
            rows.append({**row.labels, **known, **values.mean(), **values.std().add_suffix("_std")})
    return pd.DataFrame(rows)


def shown(frame: pd.DataFrame, study: Study, columns: Sequence[str]) -> pd.DataFrame:
    """Format labels and some measures of a summary in percent; with several seeds as mean ± deviation.

    Frameworks are named by the detector that represents them here. Differences have their sign.
    """
    result = frame[["detector" if label == "framework" else label for label in study.rows[0].labels]].copy()
    several = frame["seeds"].max() > 1
    if several:
        result["seeds"] = frame["seeds"]
    signs = ["+" if is_difference else "" for is_difference in frame["is_difference"]]
    for column in columns:
        if column not in frame:
            continue
        deviations = frame[f"{column}_std"] if several else [math.nan] * len(frame)
        cells = zip(frame[column], deviations, signs, strict=True)
        result[column] = [_cell(mean, deviation, sign, 1 if several else 2) for mean, deviation, sign in cells]
    return result


def _cell(mean: float, deviation: float, sign: str, digits: int) -> str:
    if math.isnan(mean):
        return "-"
    return f"{100 * mean:{sign}.{digits}f}" + ("" if math.isnan(deviation) else f"±{100 * deviation:.1f}")


def over_base(runs: pd.DataFrame, study: Study, row: Row) -> pd.DataFrame:
    """Compute the differences of a row to the row that it is compared with, seed by seed.

    Returns:
        One row for each seed that both have; columns ``COMPARED``, as far as they were measured, in points.
    """
    measures = [measure for measure in COMPARED if measure in runs]
    of_row, of_base = (_runs_of(runs, r)[measures] for r in (row, study.base(row)))
    return 100 * (of_row - of_base).dropna(how="all")


def differences(runs: pd.DataFrame, study: Study, rows: Iterable[Row]) -> pd.DataFrame:
    """List differences to the baseline beside the paper's, seed by seed.

    Args:
        runs: result of ``study_runs``, or any frame with its columns ``run``, ``seed`` and the measures (and
            ``framework``, if the study compares frameworks).
        study: study of a table in the paper, with rows numbered as there.
        rows: of ``study.compared``.

    Returns:
        One row for each setting, measure and seed: label columns, ``measure``, ``seed``, and in points ``paper``
        (the paper's difference to its own baseline) and ``ours``. Measures that one of the two lacks are left out.
    """
    paper = published.by_row(int(study.name.split()[-1]))
    found = []
    for row in rows:
        printed, printed_base = (paper.loc[int(r.labels["row"].strip("()"))] for r in (row, study.base(row)))
        for measure, ours in over_base(runs, study, row).items():
            if measure in paper and not pd.isna(printed[measure]):
                theirs = round(printed[measure] - printed_base[measure], 2)
                entry = {**row.labels, "measure": measure, "paper": theirs}
                found += [entry | {"seed": seed, "ours": value} for seed, value in ours.dropna().items()]
    return pd.DataFrame(found, columns=[*study.rows[0].labels, "measure", "seed", "paper", "ours"])


def versus_paper(runs: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Compare the sign of each difference to the baseline with the paper's.

    For each seed that both runs have, the difference is taken; its mean over seeds is compared. The noise is twice
    the standard deviation of these differences. With one seed there is no estimate of the noise, and only the signs
    are compared.

    Args:
        runs: as of ``differences``.
        study: as of ``differences``.

    Returns:
        One row for each setting and measure: label columns, ``measure``, ``paper`` (difference to the paper's baseline,
        in points), ``ours`` (in points), ``noise`` (in points) and ``verdict``: agree, disagree, or within noise
        (also where the paper has no difference).
    """
    found = differences(runs, study, study.compared)
    by_setting = found.groupby([*study.rows[0].labels, "measure", "paper"], sort=False)["ours"]
    frame = by_setting.agg(ours="mean", noise="std").reset_index()
    theirs, ours, noise = frame["paper"], frame["ours"], 2 * frame["noise"]
    agree = np.where(np.sign(theirs) == np.sign(ours), "agree", "disagree")
    return frame.assign(noise=noise, verdict=np.where((theirs == 0) | (ours.abs() < noise), "within noise", agree))


def signs(compared: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Format ``versus_paper``, one column per measure: ``+2.1 ✓`` agrees, ``✗`` disagrees, ``~`` is within noise."""
    marks = {"agree": "✓", "disagree": "✗", "within noise": "~"}
    labels = list(study.rows[0].labels)
    rows = []
    if compared.empty:
        return pd.DataFrame(columns=labels)
    for names, part in compared.groupby(labels, sort=False):
        cells = {
            m: f"{d:+.1f} {marks[v]}" for m, d, v in zip(part["measure"], part["ours"], part["verdict"], strict=True)
        }
        rows.append({**dict(zip(labels, names, strict=True)), **cells})
    return pd.DataFrame(rows).fillna("-")


def markdown(frame: pd.DataFrame) -> str:
    """Format a DataFrame of strings as a Markdown table."""
    return str(frame.to_markdown(index=False, tablefmt="github", disable_numparse=True))


def run_bin_names(runs: pd.DataFrame) -> list[str]:
    """Return the intervals of the bins that the runs were measured in."""
    return bin_names(parse_edges(runs["bin_edges"].iloc[0], " "))


def remarks(runs: Iterable[tuple[str, str]]) -> str:
    """Write sentences on runs: their variants' notes, and runs made before their variant was corrected.

    Args:
        runs: ``method:variant`` and date of the run (ISO; several joined by `` / ``).
    """
    notes: dict[str, None] = {}
    old: dict[str, dict[str, None]] = {}
    for run, dates in runs:
        name, _, variant = run.partition(":")
        method = METHODS.get(name)  # results outlive the names in them
        variant = variant or (method.default.variant if method else "")
        if method is not None and variant in method.notes:
            notes[f"{name} ({variant}): {method.notes[variant]}."] = None
        if method is None or any(method.is_outdated(variant, date) for date in dates.split(" / ")):
            old.setdefault(name, {})[variant] = None
    named = ", ".join(f"{name} ({', '.join(variants)})" for name, variants in old.items())
    outdated = [f"Measured before the variant was corrected, and to be measured anew: {named}."] if old else []
    return " ".join([*notes, *outdated])


def caption(runs: pd.DataFrame, over: str | None = None) -> str:
    """Write the caption of a table: data set, detectors, bins with the number of classes, and ``remarks``.

    Args:
        runs: result of ``study_runs``.
        over: as of ``summary``.
    """
    first, seeds, detectors = runs.iloc[0], sorted(set(runs["seed"])), list(dict.fromkeys(runs["detector"]))
    bins = ", ".join(
        f"{number}: {name} ({number_of_classes(int(first[f'AP{number}_classes']))})"
        for number, name in enumerate(run_bin_names(runs), start=1)
    )
    frameworks = {}
    if "framework" in runs:
        frameworks = dict(zip(runs["framework"], runs["detector"], strict=True))
    places = "".join(f" {detector} stands for the paper's {name}." for name, detector in frameworks.items())
    return (
        f"Measured on {first['dataset']} with detector{'s' if len(detectors) > 1 else ''} {', '.join(detectors)}, "
        f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}; values in percent"
        f"{f', of other rows the differences to {over}, seed by seed' if over else ''}. "
        f"Bins by train instances: {bins}. Row numbers are those of the paper's table; {_on_validation(runs)}.{places} "
        f"{remarks(zip(runs['run'], runs['date'], strict=True))}"
    ).rstrip()


def _on_validation(runs: pd.DataFrame) -> str:
    """Describe the settings chosen after results on the validation set, by the methods' records, with their rows."""
    rows = runs.drop_duplicates("run")
    numbers = rows["row"] if "row" in rows else [""] * len(rows)
    told = [
        f"{f'row {number}, ' if number else ''}{method.name}: {method.on_validation}"
        for number, run in zip(numbers, rows["run"], strict=True)
        if (method := parse(run).method).on_validation
    ]
    if not told:
        return "nothing was tuned on the validation set"
    return f"set after results on the validation set: {'; '.join(told)}; nothing else was tuned there"
