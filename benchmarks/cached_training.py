"""Training of classifiers on cached proposals against the same training end to end in mmdet, the rest frozen.

    python benchmarks/cached_training.py [--dataset emoji-lt-small]

The detector is trained for one epoch, which is enough for timing; end to end, one epoch is timed and multiplied by
the schedule's number. ``cache_vs_end_to_end.py`` shows that both ways reach the same AP.
"""

from __future__ import annotations

import copy
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
import typer
from timing import Rows, row, show

from imbalance_bench import methods
from imbalance_bench.checkpoints import own as checkpoints
from imbalance_bench.commands import options
from imbalance_bench.experiments.run_folder import RunFolder
from imbalance_bench.runtime.progress import logged_to

METHODS = ("x2-cls", "reweight-cls", "focal-cls", "bags")


def measure(
    dataset: str = "emoji-lt-small", detector: str = "tiny", data_dir: Path = Path("data"), repeats: int = 3
) -> Rows:
    """Measure one row per method, one for the first with the making of the cache, and one for all methods together."""
    on = options.setup(dataset, detector, data_dir, 0, "auto")
    # Only now, with mmdet loaded in silence.
    from imbalance_bench.detectors.mmdet.building import build_detector
    from imbalance_bench.experiments.benchmark import Benchmark
    from imbalance_bench.training.end_to_end import train_detector
    from imbalance_bench.training.on_cache import train_classifier

    with tempfile.TemporaryDirectory() as temporary, logged_to(None):
        run = RunFolder(Path(temporary) / "baseline")
        torch.manual_seed(on.seed)
        bench, plain = Benchmark(on, Path(temporary)), methods.parse("baseline")
        base = plain.build(on.categories, on.detector.tap_dims, None)
        model, images = build_detector(bench.setup.detector, [base], bench.setup.seed), bench.setup.training_set()
        schedule = bench.schedule_of(plain)
        train_detector(bench.setup.detector, model, images, replace(schedule, epochs=1), run.path, bench.setup.seed)
        base = model.roi_head.bbox_head.fc_cls
        checkpoints.save(run.checkpoint, model.state_dict(), base, bench.setup.categories)
        start = time.perf_counter()
        cache = bench.cache(run)
        cache.make("train", [base])
        (cached,) = cache.features("train", [base])
        caching = time.perf_counter() - start

        rows, ours, theirs = [], [], []
        for name in METHODS:
            method = methods.parse(name)
            fresh = method.build(bench.setup.categories, bench.setup.detector.tap_dims, base)
            schedule, seconds = bench.schedule_of(method), []
            for _ in range(repeats):
                start = time.perf_counter()
                train_classifier(copy.deepcopy(fresh), cached, schedule, bench.setup.seed, device=bench.setup.device)
                seconds.append(time.perf_counter() - start)
            hosting = build_detector(bench.setup.detector, [fresh], bench.setup.seed)
            hosting.load_state_dict(model.state_dict() | {
                f"roi_head.bbox_head.fc_cls.{key}": value for key, value in fresh.state_dict().items()
            })  # fmt: skip
            epoch, folder = replace(schedule, epochs=1, milestones=()), Path(temporary) / name
            start = time.perf_counter()
            train_detector(bench.setup.detector, hosting, images, epoch, folder, bench.setup.seed, scope="classifier")
            theirs.append((time.perf_counter() - start) * schedule.epochs)
            ours.append(statistics.median(seconds))
            note = f"{schedule.epochs} epochs; end to end one epoch x {schedule.epochs}"
            rows.append(row("cached training", f"{name}, cache there", ours[-1], "frozen end to end", theirs[-1], note))
    note = f"cache of {bench.views} views of {len(images):,} images made in {caching:.0f} s"
    first = (METHODS[0], ours[0] + caching, theirs[0])
    together = (f"all {len(METHODS)} methods", sum(ours) + caching, sum(theirs))
    for case, mine, other in (first, together):
        rows.append(row("cached training", f"{case}, cache included", mine, "frozen end to end", other, note))
    return rows


def main(
    dataset: str = "emoji-lt-small", detector: str = "tiny", data_dir: Path = Path("data"), repeats: int = 3
) -> None:
    """Train both ways and print the times."""
    show(measure(dataset, detector, data_dir, repeats))


if __name__ == "__main__":
    typer.run(main)
