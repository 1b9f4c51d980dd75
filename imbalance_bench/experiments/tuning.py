"""Hyper-parameters chosen on held-out training images, by one rule for every method; never on validation images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from imbalance_bench.categories import read_json
from imbalance_bench.datasets.held_out import hold_out
from imbalance_bench.experiments.benchmark import BASELINE, Benchmark
from imbalance_bench.experiments.run_folder import RunFolder
from imbalance_bench.experiments.setup import Setup
from imbalance_bench.methods import Method, Run
from imbalance_bench.runtime.files import write_json, write_text


def choose(bench: Benchmark, runs: Sequence[Run]) -> tuple[Run, dict[str, float]]:
    """Choose the run with the best mAP on the images of ``bench``, of equal ones the default; and all their mAPs."""
    found = {}
    for run in runs:
        folder = bench.run(run)
        found[run] = float(folder.record()["metrics"]["mAP"])
        drop_checkpoint(folder)
    order = sorted(found, key=lambda run: (-found[run], run != run.method.default))
    return order[0], {run.variant: value for run, value in found.items()}


def tune(bench: Benchmark, method: Method) -> Run:
    """Choose the settings of a method on held-out training images of a benchmark, its detector as it is.

    What was tried is kept in the benchmark's ``tuning/<method>.json``, and not tried again.
    """
    runs = method.settings_to_try
    if not runs:
        return method.default
    kept = tuning_folder(bench) / f"{method.name}.json"
    if kept.exists():
        content = read_json(kept)
        if list(content.get("held_out", ())) == [run.variant for run in runs]:
            return method.run(str(content["chosen"]))
    bench.setup.reporter.say(f"  choosing {', '.join(method.tune)} of {method.title} on held-out training images")
    chosen, found = choose(tuning_bench(bench), runs)
    write_json(kept, {"chosen": chosen.variant, "measure": "mAP", "held_out": found})
    return chosen


def run_tuned(bench: Benchmark, method: Method) -> RunFolder:
    """Run a method with its chosen settings; what was tried for them stands in the folder as ``tuning.json``."""
    folder = bench.run(tune(bench, method))
    kept = tuning_folder(bench) / f"{method.name}.json"
    if kept.exists():
        write_text(folder.path / "tuning.json", kept.read_text())
    return folder


def tuning_folder(bench: Benchmark) -> Path:
    """Where a benchmark keeps what was tried."""
    return bench.root / "tuning"


def tuning_bench(bench: Benchmark) -> Benchmark:
    """Make runs on a benchmark's detector, fitted to some of its training images and measured on the others."""
    setup, folder = bench.setup, tuning_folder(bench)
    baseline, data = bench.run(BASELINE), setup.dataset
    parts = hold_out(read_json(data.train_annotations), np.random.default_rng(setup.seed))
    files = [folder / "fitting.json", folder / "held_out.json"]
    for path, part in zip(files, parts, strict=True):
        write_json(path, part, compact=True)
    held_out = replace(
        data,
        name="held-out",
        train_annotations=files[0],
        val_annotations=files[1],
        val_images=data.train_images,
        counted=data.counted or data.train_annotations,
    )
    on_held_out = Setup(held_out, setup.detector, seed=setup.seed)
    return Benchmark(
        on_held_out,
        folder,
        schedule=bench.schedule,
        batch_size=bench.batch_size,
        pretrained=baseline.verified(baseline.checkpoint),
        finished=on_held_out.load_detector,
        views=bench.views,
        fixed=False,
    )


def drop_checkpoint(folder: RunFolder) -> None:
    """Delete a fix's whole detector, which its settings make again in seconds."""
    for path in (folder.checkpoint, *folder.path.glob("classifier*_epoch.pth")):
        path.unlink(missing_ok=True)


def with_checkpoint(bench: Benchmark, run: Run) -> RunFolder:
    """Make sure that a run's checkpoint is there: it is run again where that was dropped."""
    folder = bench.folder(run)
    if folder.is_done and not folder.checkpoint.exists():
        (folder.path / "record.json").unlink()
    return bench.run(run)
