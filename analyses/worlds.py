"""What makes the embedded set like LVIS: Table 1 on sets that lack one property or several, against the paper's order.

Only seeds from ``FIRST_SEED`` on are read: the set was chosen by them, and results are of seeds below it.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from imbalance_bench.datasets.emoji_profile import WORLDS
from imbalance_bench.runtime.errors import InputError

from . import tables
from .fidelity import fidelity
from .studies import STUDIES

FIRST_SEED = 10


def read(work_dir: Path, detector: str) -> pd.DataFrame:
    """Read the finished runs of Table 1 on every set of the study: as ``tables.study_runs``, with the column ``world``.

    Raises:
        InputError: fewer than two of the sets have a run of such a seed.
    """
    study, found = STUDIES["table 1"], []
    for name in WORLDS:
        root = work_dir / name / detector
        if any(root.glob(f"seed{FIRST_SEED // 10}?/*/record.json")):
            runs = tables.study_runs(root, study)
            found.append(runs[runs["seed"] >= FIRST_SEED].assign(world=name))
    if len(found) < 2:
        raise InputError(
            f"{work_dir}: {len(found)} of the sets {', '.join(WORLDS)} have runs of seed {FIRST_SEED}, expected two; "
            "'run-all --table 1 --classifier-level --seeds 10 --dataset ...' makes them"
        )
    return pd.concat(found, ignore_index=True)


def gains(runs: pd.DataFrame, measure: str = "mAP") -> pd.DataFrame:
    """Return the difference of each row to the baseline, in points: the paper's first, then of each set.

    Args:
        runs: result of ``read``.
        measure: of ``tables.COMPARED``.

    Returns:
        Index: the methods of Table 1 that every set has. Columns: ``paper`` and the sets.
    """
    study = STUDIES["table 1"]
    columns: dict[str, pd.Series] = {}
    for world, part in runs.groupby("world", sort=False):
        found = tables.differences(part, study, study.representatives)
        found = found[found["measure"] == measure].groupby("method", sort=False)[["paper", "ours"]].mean()
        columns.setdefault("paper", found["paper"])
        columns[str(world)] = found["ours"]
    return pd.DataFrame(columns).dropna()


def fidelities(runs: pd.DataFrame) -> pd.DataFrame:
    """Return Spearman's correlation with the paper's order: one row for each set, one column for each measure.

    Only rows that every set has are ranked.
    """
    shared = set.intersection(*(set(part["run"]) for _, part in runs.groupby("world")))
    runs, study = runs[runs["run"].isin(shared)], STUDIES["table 1"]
    rows = {
        str(world): fidelity(part, study).set_index("measure")["spearman"]
        for world, part in runs.groupby("world", sort=False)
    }
    return pd.DataFrame(rows).T
