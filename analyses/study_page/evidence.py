"""What the run folders of a study hold: measures of every setting, means over seeds, and gains over the control."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from imbalance_bench.bins import UNTRAINED, bin_names, tail_bins
from imbalance_bench.evaluation import per_category
from imbalance_bench.evaluation.measures import PREFIXES
from imbalance_bench.experiments.run_folder import RunFolder
from imbalance_bench.methods import METHODS, parse
from imbalance_bench.runtime.errors import InputError

from .. import beyond
from ..documentation.measured import control_of

CONTROLS = (beyond.CONTROL, "baseline")
"""What methods are compared with: the first of these that was run."""
SETTINGS = ("dataset", "detector", "bin_edges", "annotations_sha256")
"""Settings that all runs of a page share."""


@dataclass(frozen=True)
class Evidence:
    """The finished runs of a data set and a detector.

    Attributes:
        root: ``work_dir/<dataset>/<detector>``.
        runs: a row for each run and seed: ``folder``, ``method``, ``variant``, and the columns of ``beyond.measures``.
        settings: index ``folder``, in the order of the catalogue: ``method``, ``variant``, ``family``, ``trains``,
            ``own_control`` (the run that is trained as much), ``seeds`` (their number); each measure's mean over seeds
            and its deviation as ``<name>_std``; for each of ``groups``, ``<group>_gain`` over the control on the same
            seeds, with its 95 % interval ``_low`` and ``_high``.
        bins: index bin number: ``interval``, ``classes``, ``val_classes`` (those with a validation box), ``boxes``.
        control: folder of the control; None without one.
        over: what the intervals are over: ``seeds``, ``images``, or empty where there are none.
        left_out: what was left out, and why.
    """

    root: Path
    runs: pd.DataFrame
    settings: pd.DataFrame
    bins: pd.DataFrame
    control: str | None
    over: str
    left_out: list[str]

    @property
    def groups(self) -> list[str]:
        """Groups of classes whose gain is shown: tail, head, all, and each bin."""
        return groups(self.bins)

    @property
    def tail(self) -> list[int]:
        """Numbers of the tail bins."""
        return tail_bins(self.runs["bin_edges"].iloc[0])

    @cached_property
    def methods(self) -> pd.DataFrame:
        """The row of ``settings`` that stands for each method: the variant that is to be compared with others."""
        chosen = {}
        for method, part in self.settings.groupby("method", sort=False):
            record, folders = METHODS.get(str(method)), list(part.index)
            preferred = [record.candidate.folder, record.default.folder] if record else []
            chosen[method] = next((folder for folder in preferred if folder in folders), folders[0])
        return self.settings.loc[list(chosen.values())]

    def per_category(self, folder: str) -> pd.DataFrame:
        """Return the per-category table of a setting, columns of numbers as means over seeds."""
        seeds = self.runs.loc[self.runs["folder"] == folder, "seed"]
        found = [per_category.read(self.root / f"seed{seed}" / folder / "per_category.csv") for seed in seeds]
        numbers = found[0].select_dtypes("number").columns.drop(["id", "image_count", "instance_count", "bin"])
        means = sum(frame[numbers] for frame in found) / len(found)
        return found[0].assign(**{name: means[name] for name in numbers})


def groups(bins: pd.DataFrame) -> list[str]:
    """Return the names of measures of AP: of tail and head classes, of all, and of each bin."""
    return ["tail", "head", "mAP", *(f"AP{number}" for number in bins.index)]


def read(root: Path) -> Evidence:
    """Read every finished run below ``work_dir/<dataset>/<detector>``; intervals of gains are over seeds.

    Raises:
        InputError: there is no finished run.
    """
    rows, settings, left_out = [], [], []
    for path in sorted(root.glob("seed*/*/record.json")):
        try:
            row, shared = _row(RunFolder(path.parent))
        except InputError as error:
            left_out.append(str(error))
            continue
        rows.append(row)
        settings.append(shared)
    if not rows:
        why = f" ({left_out[0]})" if left_out else ""
        raise InputError(f"{root}: no finished run there{why}, 'run-all' makes them")
    ((usual, _),) = Counter(settings).most_common(1)
    others = [row for row, shared in zip(rows, settings, strict=True) if shared != usual]
    left_out += [f"seed{row['seed']}/{row['folder']}: of other annotations or bins than most runs" for row in others]
    runs = pd.DataFrame([row for row, shared in zip(rows, settings, strict=True) if shared == usual])
    first = runs.iloc[0]
    bins = _bins(per_category.foreground(root / f"seed{first['seed']}" / first["folder"] / "per_category.csv"), first)
    control = next((name for name in CONTROLS if name in set(runs["folder"])), None)
    measures = [name for name in runs if name in ("tail", "head", "mAP") or name.startswith(PREFIXES)]
    frame = _settings(runs, measures)
    if control is not None:
        frame = frame.join(over_seeds(runs, control, groups(bins)))
    known = control is not None and frame["tail_low"].notna().any() | frame["mAP_low"].notna().any()
    return Evidence(root, runs, frame, bins, control, "seeds" if known else "", left_out)


def over_seeds(runs: pd.DataFrame, control: str, measures: Sequence[str]) -> pd.DataFrame:
    """Compute gains over the control, paired by seed, with the 95 % interval of their mean (Student's t).

    Args:
        runs: columns ``folder``, ``seed`` and the measures.
        control: folder of the control.
        measures: those that there are not are left out.

    Returns:
        Index ``folder``; ``<measure>_gain``, ``_low`` and ``_high``; NaN without a common seed, or a second one.
    """
    values = runs.set_index(["folder", "seed"])[[name for name in measures if name in runs]].astype(float)
    base = values.loc[control].reindex(values.index.get_level_values("seed"))
    differences = (values - base.to_numpy()).groupby("folder")
    mean = differences.mean()
    half = beyond.half_width(differences.std(), differences.count())
    half.loc[control] = math.nan
    ends = {"gain": mean, "low": mean - half, "high": mean + half}
    return pd.concat([frame.add_suffix(f"_{end}") for end, frame in ends.items()], axis="columns")


def _row(folder: RunFolder) -> tuple[dict[str, Any], str]:
    """Return a row of ``Evidence.runs``, and what of its settings all runs of a page must share, as text."""
    settings = folder.record()["settings"]
    try:
        shared = repr([settings.get(name) for name in SETTINGS])
        named = {name: settings[name] for name in ("method", "variant", "bin_edges")}
        extra = {name: settings.get(name) for name in ("schedule", "precision", "start")}
        return {"folder": folder.path.name, **named, **extra, **beyond.measures(folder)}, shared
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder.path / 'record.json'}: field {error} of a run is missing or wrong") from error


def _settings(runs: pd.DataFrame, measures: Sequence[str]) -> pd.DataFrame:
    """Return the columns of ``Evidence.settings`` but the gains, in the order of the catalogue."""
    by_folder = runs.groupby("folder", sort=False)
    frame = by_folder[["method", "variant"]].first()
    methods = [METHODS.get(name) for name in frame["method"]]
    frame["family"] = [method.family if method else "no longer in the catalogue" for method in methods]
    frame["trains"] = [method.trains if method else "-" for method in methods]
    frame["own_control"] = [_own_control(method, variant) for method, variant in frame.to_numpy()[:, :2]]
    frame["seeds"] = by_folder.size()
    values = runs[measures].astype(float).groupby(runs["folder"])
    place = {name: number for number, name in enumerate(METHODS)}
    order = frame["method"].map(lambda name: place.get(name, len(place))).sort_values(kind="stable").index
    return frame.join(values.mean()).join(values.std().add_suffix("_std")).loc[order]


def _own_control(method: str, variant: str) -> str:
    """Return the run that is trained as much as a run, without its remedy; ``-`` if the catalogue lacks it."""
    try:
        run = parse(f"{method}:{variant}")
    except InputError:
        return "-"
    return beyond.COSINE_CONTROL if run == run.method.under_a_cosine else control_of(run)


def _bins(table: pd.DataFrame, run: pd.Series) -> pd.DataFrame:
    names = bin_names(run["bin_edges"])
    rows = {}
    for number, part in table.groupby("bin"):
        rows[int(number)] = {
            "interval": names[int(number) - 1] if number else UNTRAINED,
            "classes": len(part),
            "val_classes": int((part["val_instances"] > 0).sum()),
            "boxes": int(part["val_instances"].sum()),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("bin")


def with_gains(evidence: Evidence, gains: pd.DataFrame) -> pd.DataFrame:
    """Return ``Evidence.settings`` with other gains and intervals where these are known."""
    frame = evidence.settings.copy()
    for name in gains:
        frame[name] = np.where(frame.index.isin(gains.index), gains[name].reindex(frame.index), frame[name])
    return frame
