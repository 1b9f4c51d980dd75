"""Heads beside each other: what each method gains on detectors of one data set, from their diagnoses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib import pyplot as plt

from imbalance_bench.diagnosis import figures
from imbalance_bench.diagnosis.fixes import GROUPS, OVER, control_of
from imbalance_bench.diagnosis.result import Diagnosis
from imbalance_bench.evaluation.views import percent
from imbalance_bench.pages.cells import shown_gain
from imbalance_bench.plotting import use_style
from imbalance_bench.runtime.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ENDS = OVER["control"]


def read(folders: Sequence[Path]) -> dict[str, Diagnosis]:
    """Read diagnoses of detectors on one data set, by the names of their folders.

    Raises:
        InputError: a folder without a diagnosis, one of other classes or validation images than the first's, or two
            folders of one name.
    """
    found: dict[str, Diagnosis] = {}
    for folder in folders:
        diagnosis = Diagnosis.read(folder)
        if folder.name in found:
            raise InputError(f"{folder}: another folder has this name, which is the detector's in the table")
        first = next(iter(found.values()), diagnosis)
        for column in ("name", "val_instances"):
            if not diagnosis.per_category[column].equals(first.per_category[column]):
                raise InputError(
                    f"{folder / 'per_category.csv'}: column '{column}' differs from that of {first.folder}, expected "
                    "diagnoses on one data set"
                )
        found[folder.name] = diagnosis
    return found


def table(found: Mapping[str, Diagnosis]) -> pd.DataFrame:
    """Put the fixes of all detectors into one table.

    Returns:
        A row for each detector and method: ``detector``, ``kind`` of head, ``control``, the columns of
        ``Diagnosis.fixes``, ``recommended``, and the provenance of the diagnosis.
    """
    parts = []
    for name, diagnosis in found.items():
        fixes, made = diagnosis.fixes, diagnosis.summary["provenance"]
        frame = fixes.reset_index()
        frame.insert(0, "control", control_of(fixes.index) or "")
        frame.insert(0, "kind", diagnosis.summary["head"])
        frame.insert(0, "detector", name)
        versions = "; ".join(f"{package} {version}" for package, version in made["versions"].items())
        parts.append(
            frame.assign(
                recommended=frame["method"] == diagnosis.recommended,
                seed=diagnosis.summary["given"]["seed"],
                date=made["date"],
                machine=made["machine"],
                versions=versions,
                command=diagnosis.summary["called"],
            )
        )
    return pd.concat(parts, ignore_index=True)


def shown(frame: pd.DataFrame) -> pd.DataFrame:
    """Format the table for readers: in points of AP, gains over the control with 95 % intervals over images."""
    columns = {name: frame[name] for name in ("detector", "kind", "method", "settings")}
    columns |= {group: frame[group].map(percent) for group in GROUPS}
    for group in ("tail", "head"):
        rows = frame[[f"{group}_{end}" for end in ENDS]].itertuples(index=False)
        columns[f"{group} over control"] = pd.Series([shown_gain(*row) for row in rows], index=frame.index)
    return pd.DataFrame(columns)


def draw(found: Mapping[str, Diagnosis]) -> Figure:
    """Draw for each detector what every method gains on the tail against the head, over the control.

    A detector without a control is compared as it is.
    """
    use_style()
    columns = min(len(found), 2)
    rows = -(-len(found) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(5.6 * columns, 4.6 * rows), layout="constrained", squeeze=False)
    for axis, (name, diagnosis) in zip(axes.flat, found.items(), strict=False):
        fixes, control = diagnosis.fixes, control_of(diagnosis.fixes.index)
        if control is not None:
            fixes = fixes.assign(
                **{
                    f"{group}_{own}": fixes[f"{group}_{end}"]
                    for group in GROUPS
                    for own, end in zip(OVER["baseline"], ENDS, strict=True)
                }
            )
        title = f"{name}: {diagnosis.summary['head']}, over {control or 'the detector as it is'}"
        figures.draw_gains(axis, fixes, diagnosis.recommended, title, control or "baseline")
    for axis in list(axes.flat)[len(found) :]:
        axis.remove()
    return figure
