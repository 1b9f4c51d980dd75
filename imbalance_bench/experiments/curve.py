"""The learning curve of a run: AP on validation after each epoch of its end-to-end training."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from imbalance_bench.checkpoints import own as checkpoints
from imbalance_bench.experiments.measure import Measurer
from imbalance_bench.experiments.proposal_cache import ProposalCache
from imbalance_bench.experiments.run_folder import RunFolder
from imbalance_bench.runtime.files import write_text
from imbalance_bench.runtime.processes import held_by_main, on_main


def kept_weights(folder: RunFolder, epoch: int) -> Path:
    """Return the file that keeps the detector after an epoch (from 1) until the curve is measured."""
    return _kept(folder) / f"epoch_{epoch}.pth"


def measure_curve(folder: RunFolder, measurer: Measurer, epochs: int) -> None:
    """Measure the kept weights of each epoch into the run's ``curve.csv``, then remove them.

    Epochs that the file has already are not measured again, so that an interrupted call goes on. Proposals are those
    of the epoch's own detector; they are kept no longer than its measurement.

    Args:
        folder: of a finished run.
        measurer: of the run itself.
        epochs: of its training; those whose weights were not kept are named, and missing in the file.
    """
    say = measurer.setup.reporter.say
    if not on_main(_kept(folder).is_dir):
        if not on_main(folder.curve.exists):
            say(f"  {folder.path}: no curve, its training kept no epoch's weights; delete the folder to run it again")
        return
    with held_by_main(folder.lock):
        rows: list[dict[str, Any]] = on_main(lambda: _rows(folder))
        there = [epoch for epoch in range(1, epochs + 1) if on_main(kept_weights(folder, epoch).exists)]
        for epoch in there:
            if epoch not in {row["epoch"] for row in rows}:
                rows.append({"epoch": epoch} | _measured(kept_weights(folder, epoch), measurer))
                on_main(lambda: write_text(folder.curve, pd.DataFrame(rows).to_csv(index=False)))
                say(f"  curve: epoch {epoch} of {epochs}, mAP {100 * rows[-1]['mAP']:.2f}")
        if missing := sorted(set(range(1, epochs + 1)) - set(there)):
            say(f"  curve: epochs {', '.join(map(str, missing))} were trained without it and are missing")
        on_main(lambda: shutil.rmtree(_kept(folder)))


def _kept(folder: RunFolder) -> Path:
    return folder.path / "epochs"


def _rows(folder: RunFolder) -> list[dict[str, Any]]:
    """Read the epochs measured so far."""
    return pd.read_csv(folder.curve).to_dict("records") if folder.curve.exists() else []


def _measured(weights: Path, measurer: Measurer) -> dict[str, float]:
    """Measure mAP and AP by bin of a detector as a run's own are measured."""
    setup = measurer.setup
    classifiers = list(checkpoints.classifiers_of(checkpoints.load(weights), weights).values())
    cache = ProposalCache(setup, weights, weights.with_name("proposals"))
    cache.make("val", classifiers)
    _, metrics, _ = on_main(lambda: replace(measurer, fixed=False).evaluate(classifiers, cache))
    names = ["mAP", *(f"AP{number}" for number in setup.categories.bin_numbers)]
    return {name: metrics[name] for name in names}
