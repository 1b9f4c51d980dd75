"""The plan of a list of runs: what is left, and its duration, estimated from the user's or the committed runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from imbalance_bench.commands.options import say, show
from imbalance_bench.experiments.run_folder import RunFolder
from imbalance_bench.methods import METHODS
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.progress import duration

if TYPE_CHECKING:
    from imbalance_bench.experiments.cluster import Job

COMMITTED = Path(__file__).resolve().parents[2] / "results" / "measured"
"""Records of a checkout; an installed package has none."""
COLUMNS = ["dataset", "detector", "run", "trains", "epochs", "seconds", "machine", "path"]


def show_plan(jobs: list[Job]) -> None:
    """Print finished and remaining runs, the expected time and its source, and warnings of random starts.

    Args:
        jobs: runs, with the benchmarks that run them.
    """
    work_dirs = dict.fromkeys(bench.work_dir for bench, _ in jobs)
    sources = {"yours": pd.concat([past(folder) for folder in work_dirs]), "committed": past(COMMITTED)}
    entries, machines = [], set()
    for job in jobs:
        bench, run = job
        seconds, by, machine = estimate(job, sources)
        done = bench.folder(run).is_done
        if by.startswith("committed") and not done:
            machines.add(machine)
        entries.append((str(run), bench.setup.detector.name, run.trains, done, seconds, by))
    frame = pd.DataFrame(entries, columns=["run", "detector", "trains", "done", "seconds", "by"])
    left = frame[~frame["done"]]
    plan = frame.groupby(["run", "detector"], sort=False).agg(
        trains=("trains", "first"), done=("done", "sum"), of=("done", "size"), seconds=("seconds", "mean"),
        by=("by", "first"),
    )  # fmt: skip
    plan["done"] = plan["done"].astype(str) + " of " + plan.pop("of").astype(str)
    plan.insert(2, "each takes", plan.pop("seconds").map(lambda s: "unknown" if pd.isna(s) else duration(s)))
    known, unknown = left["seconds"].sum(), left[left["seconds"].isna()]
    lines = [f"about {duration(known)}, one after the other"] if known or unknown.empty else []
    if machines:
        lines.append(f"committed: results/measured, on {' / '.join(sorted(machines))}")
    if not unknown.empty:
        names = ", ".join(unknown["detector"].unique())
        undrawn = [bench.setup.dataset.name for bench, _ in jobs if not bench.setup.dataset.is_prepared()]
        why = f"{undrawn[0]} is not drawn yet" if undrawn else f"no record of {names}, 'detectors check' times a step"
        lines.append(f"{len(unknown)} runs of unknown length: {why}")
    show(plan.reset_index(), f"{len(left)} of {len(jobs)} runs are left", "; ".join(lines))
    for warning in dict.fromkeys(bench.random_start for bench, run in jobs if run.starts_from_scratch):
        if warning:
            say(warning, style="yellow")


def past(folder: Path) -> pd.DataFrame:
    """Read the finished runs below a folder of run folders; invalid records and methods no longer known are skipped.

    Returns:
        Columns ``COLUMNS``; ``seconds`` of training and evaluation, ``epochs`` is 1 if nothing is trained.
    """
    rows = []
    for path in sorted(folder.glob("*/*/seed*/*/record.json")):
        try:
            record = RunFolder(path.parent).record()
            settings, provenance = record["settings"], record["provenance"]
            run = METHODS[settings["method"]].run(settings["variant"])
            epochs = settings["schedule"]["epochs"] if settings["schedule"] else 1
            seconds = sum(provenance["seconds"].values())
            of = (settings["dataset"], settings["detector"], str(run), run.trains)
            rows.append((*of, epochs, seconds, provenance["machine"], path.parent))
        except (InputError, KeyError, TypeError, AttributeError):
            continue
    return pd.DataFrame(rows, columns=COLUMNS)


def estimate(job: Job, sources: dict[str, pd.DataFrame]) -> tuple[float, str, str]:
    """Estimate the seconds that a run takes from the most similar finished runs.

    The first source with such runs is used: the same run, else runs that train the same parts, on the same data set and
    detector; else runs of the detector on another data set, scaled by the ratio of train instances and epochs.

    Args:
        job: run to estimate.
        sources: finished runs (``past``), in order of preference.

    Returns:
        Median of the seconds (NaN if there is no such run), source, and machine.
    """
    bench, run = job
    setup, epochs = bench.setup, 1 if run.trains_nothing else bench.schedule_of(run).epochs
    for name, runs in sources.items():
        own = runs[(runs["dataset"] == setup.dataset.name) & (runs["detector"] == setup.detector.name)]
        for near in (own[own["run"] == str(run)], own[own["trains"] == run.trains]):
            if not near.empty:
                return float(near["seconds"].median()), name, str(near["machine"].iloc[0])
    if setup.dataset.is_prepared():
        instances = setup.categories.instance_counts.sum()
        for name, runs in sources.items():
            near = runs[(runs["detector"] == setup.detector.name) & (runs["trains"] == run.trains)]
            if not near.empty:
                theirs = near["path"].map(lambda path: pd.read_csv(path / "per_category.csv")["instance_count"].sum())
                scaled = near["seconds"] / near["epochs"] * epochs / theirs * instances
                return float(scaled.median()), f"{name}, scaled", str(near["machine"].iloc[0])
    return float("nan"), "-", ""
