"""Does the proposal cache change quality? W and b of BAGS trained on the cache and frozen end to end.

    python benchmarks/cache_vs_end_to_end.py [--dataset emoji-lt-small] [--data-dir data] [--work-dir work_dirs]

Both start from the same baseline and the same fresh classifier, follow the same schedule, and are evaluated alike.
Prints and writes AP and accuracy of both, and how long each took to train.
"""

from __future__ import annotations

import time
from pathlib import Path

import pandas as pd
import torch
import typer

from imbalance_bench import methods
from imbalance_bench.checkpoints import own as checkpoints
from imbalance_bench.commands import options
from imbalance_bench.commands.options import console
from imbalance_bench.evaluation.views import percent
from imbalance_bench.runtime.files import write_text
from imbalance_bench.runtime.progress import logged_to
from imbalance_bench.runtime.provenance import provenance

MEASURES = ("mAP", "AP1", "AP2", "AP3", "AP4", "ACC", "ACC1", "ACC2", "ACC3", "ACC4", "ACCbg")


def main(
    dataset: str = "emoji-lt-small",
    detector: str = "tiny",
    data_dir: Path = Path("data"),
    work_dir: Path = Path("work_dirs"),
    precision: str = "auto",
    output: Path = Path("results/measured/emoji-lt-small/cache_vs_end_to_end.csv"),
) -> None:
    """Train both ways, compare, and write the results."""
    on = options.setup(dataset, detector, data_dir, 0, "auto")
    # Only now, with mmdet loaded in silence.
    from imbalance_bench.detectors.mmdet.building import build_detector, load_features
    from imbalance_bench.experiments.benchmark import Benchmark
    from imbalance_bench.training.end_to_end import train_detector

    bench, method = Benchmark(on, work_dir, precision=precision), methods.parse("bags")
    baseline, cached = bench.run("baseline"), bench.run("bags")

    content = checkpoints.load(baseline.checkpoint)
    (base,) = checkpoints.classifiers_of(content, baseline.checkpoint).values()
    torch.manual_seed(bench.setup.seed)
    classifier = method.build(bench.setup.categories, bench.setup.detector.tap_dims, base)
    folder = bench.root.parent / f"{bench.root.name}-end-to-end" / "bags"
    with logged_to(folder / "console.log"):
        images = bench.setup.training_set()
        model = build_detector(bench.setup.detector, [classifier], bench.setup.seed)
    load_features(model, content["state_dict"])
    start = time.monotonic()
    train_detector(
        bench.setup.detector, model, images, bench.schedule_of(method), folder, bench.setup.seed,
        scope="classifier", reporter=bench.setup.reporter,
    )  # fmt: skip
    seconds = time.monotonic() - start
    # Everything but W and b is the baseline's, and so are the proposals.
    _, metrics, _ = bench.measurer.evaluate([model.roi_head.bbox_head.fc_cls], bench.cache(baseline))

    record = cached.record()
    of_cache, made = record["provenance"]["seconds"]["train"], provenance()
    rows = [
        {
            "W, b trained": "on cached proposals",
            **{m: percent(record["metrics"][m]) for m in MEASURES},
            "train s": of_cache,
        },
        {
            "W, b trained": "frozen, end to end",
            **{m: percent(metrics[m]) for m in MEASURES},
            "train s": round(seconds, 1),
        },
    ]
    frame = pd.DataFrame(rows)
    options.show(frame, "BAGS, W and b trained both ways (percent)")
    console.print(
        f"end to end takes {seconds / of_cache:.0f} times as long as the cache (made before, once for all methods)"
    )
    frame = frame.assign(
        dataset=dataset, detector=detector, seed=bench.setup.seed, machine=made["machine"], date=made["date"]
    )
    write_text(output, frame.to_csv(index=False))
    console.print(f"written: {output}")


if __name__ == "__main__":
    typer.run(main)
