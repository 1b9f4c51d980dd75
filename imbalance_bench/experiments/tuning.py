"""Hyper-parameters chosen on held-out training images, by one rule for every method; never on validation images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from mmdet.models.detectors import TwoStageDetector

from imbalance_bench import methods
from imbalance_bench.categories import read_json
from imbalance_bench.checkpoints import own as checkpoints
from imbalance_bench.classifiers import Classifier
from imbalance_bench.datasets.held_out import hold_out
from imbalance_bench.detectors.mmdet.passes import box_heads
from imbalance_bench.experiments.benchmark import Benchmark
from imbalance_bench.experiments.run_folder import RunFolder
from imbalance_bench.methods import Method
from imbalance_bench.runtime.files import write_json, write_text
from imbalance_bench.runtime.progress import Reporter


@dataclass
class FixedDetector(Benchmark):
    """Runs whose baseline is a detector that is trained already (``pretrained``), as it is."""

    def given(self) -> TwoStageDetector:
        """The detector, its heads hosting its classifiers, in evaluation mode."""
        assert self.pretrained is not None
        return self.load_detector(self.pretrained)

    def _train(self, method: Method, variant: str, folder: RunFolder, start: RunFolder | None) -> list[Classifier]:
        if method.starts_from != "scratch":
            return super()._train(method, variant, folder, start)
        model = self.given()
        classifiers = [head.fc_cls for head in box_heads(model)]
        checkpoints.save(folder.checkpoint, model.state_dict(), classifiers[0], self.categories)
        return classifiers


def choose(bench: Benchmark, method: Method, variants: list[str]) -> tuple[str, dict[str, float]]:
    """The variant with the best mAP on the images of ``bench``, of equal ones the default; and all their mAPs."""
    found = {}
    for variant in variants:
        folder = bench.run(method.name, variant)
        found[variant] = float(folder.record()["metrics"]["mAP"])
        drop_checkpoint(folder)
    order = sorted(found, key=lambda variant: (-found[variant], variant != method.default_variant))
    return order[0], found


def tune(bench: Benchmark, name: str) -> str:
    """The variant of a method that does best on held-out training images of a benchmark, its detector as it is.

    What was tried is kept in the benchmark's ``tuning/<method>.json``, and not tried again.
    """
    (method,) = methods.candidates((name,))
    variants = method.settings_to_try
    if not variants:
        return method.default_variant
    kept = tuning_folder(bench) / f"{name}.json"
    if kept.exists():
        content = read_json(kept)
        if list(content.get("held_out", ())) == variants:
            return str(content["chosen"])
    bench.reporter.say(f"  choosing {', '.join(method.tune)} of {method.title} on held-out training images")
    chosen, found = choose(tuning_bench(bench), method, variants)
    write_json(kept, {"chosen": chosen, "measure": "mAP", "held_out": found})
    return chosen


def run_tuned(bench: Benchmark, name: str) -> RunFolder:
    """The run of a method with its chosen settings; what was tried for them stands in it as ``tuning.json``."""
    folder = bench.run(name, tune(bench, name))
    kept = tuning_folder(bench) / f"{name}.json"
    if kept.exists():
        write_text(folder.path / "tuning.json", kept.read_text())
    return folder


def tuning_folder(bench: Benchmark) -> Path:
    """Where a benchmark keeps what was tried."""
    return bench.root / "tuning"


def tuning_bench(bench: Benchmark) -> FixedDetector:
    """Runs on a benchmark's detector, fitted to some of its training images and measured on the others."""
    baseline, folder, data = bench.run("baseline"), tuning_folder(bench), bench.dataset
    parts = hold_out(read_json(data.train_annotations), np.random.default_rng(bench.seed))
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
    return FixedDetector(
        held_out,
        bench.detector,
        folder,
        schedule=bench.schedule,
        batch_size=bench.batch_size,
        seed=bench.seed,
        views=bench.views,
        pretrained=baseline.verified(baseline.checkpoint),
        reporter=Reporter(),
        fixed=False,
    )


def drop_checkpoint(folder: RunFolder) -> None:
    """A fix's whole detector, which its settings make again in seconds."""
    for path in (folder.checkpoint, *folder.path.glob("classifier*_epoch.pth")):
        path.unlink(missing_ok=True)


def with_checkpoint(bench: Benchmark, method: str, variant: str) -> RunFolder:
    """A run whose checkpoint is there: it is run again where that was dropped."""
    folder = bench.folder(methods.get(method), variant)
    if folder.is_done and not folder.checkpoint.exists():
        (folder.path / "record.json").unlink()
    return bench.run(method, variant)
