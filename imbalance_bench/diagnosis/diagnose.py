"""Make a diagnosis of a detector: check the inputs, cache proposals, measure, try every fix, rank."""

from __future__ import annotations

import inspect
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from imbalance_bench.diagnosis.conclusions import by_heart
from imbalance_bench.diagnosis.estimate import estimate
from imbalance_bench.diagnosis.inputs import Given, Inputs, check
from imbalance_bench.diagnosis.measure import measure
from imbalance_bench.diagnosis.result import Diagnosis
from imbalance_bench.diagnosis.trials import cache_proposals, fitting, open_benches
from imbalance_bench.evaluation import protocol
from imbalance_bench.experiments.benchmark import BASELINE
from imbalance_bench.experiments.run_folder import RunFolder
from imbalance_bench.experiments.tuning import choose, drop_checkpoint, with_checkpoint
from imbalance_bench.methods import Method, candidates, get
from imbalance_bench.runtime.devices import resolve_device
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.files import sha256, write_text
from imbalance_bench.runtime.progress import Reporter, duration

RUNS = "runs"


def diagnose(
    detector: str | Path,
    checkpoint: str | Path,
    train_annotations: str | Path,
    val_annotations: str | Path,
    images: str | Path,
    *,
    val_images: str | Path | None = None,
    out: str | Path = "diagnosis",
    max_images: int | None = 2000,
    methods: tuple[str, ...] | None = None,
    tune: bool = True,
    bin_edges: tuple[int, ...] | None = None,
    skip_missing: bool = False,
    verify_images: bool = False,
    save_fixes: bool = False,
    export: str | None = None,
    seed: int = 0,
    device: str = "auto",
    called: str | None = None,
    label_order: str = "names",
    framework: str = "mmdet",
    reporter: Reporter | None = None,
) -> Diagnosis:
    """Find out whether a detector's classifier is imbalanced, and which fix helps.

    The detector is not changed: its proposals on some training and validation images are cached once, and every
    method that needs only these is fitted and measured on them. Hyper-parameters are chosen on training images that
    the tried classifiers were not fitted to; validation images are only used for measuring. After an interruption,
    the same call continues where it stopped.

    Args:
        detector: what describes the detector. mmdet: its configuration, which is executed.
            torchvision: the name of a model in ``torchvision.models.detection``, or ``module:function``, which is
            called without arguments and returns the model. transformers: the folder of a DETR, with ``config.json``;
            nothing in it is executed. ultralytics: ``one2many``, the head that is suppressed after, or ``one2one``.
        checkpoint: weights of the detector; nothing in the file is executed.
        train_annotations: annotations that the detector was trained on, COCO or LVIS format.
        val_annotations: annotations of other images, in the same format.
        images: folder that image names in the annotations are relative to.
        val_images: folder of the validation images, if it is another.
        out: folder for all results.
        max_images: at most so many images of each split; None: all.
        methods: names of methods of the catalogue; None: all that can be used.
        tune: choose hyper-parameters; otherwise, and where the detector knows its training images by heart
            (``conclusions.by_heart``), defaults are used.
        bin_edges: edges of bins by train instances; None: from the file, LVIS's, or chosen from the counts.
        skip_missing: skip images that are missing, cannot be read, or do not have the annotated size.
        verify_images: decode every image; otherwise all headers are read and only a sample is decoded.
        save_fixes: keep the checkpoints of all fixes.
        export: method whose detector is written to ``out/export-<method>`` for its own framework.
        seed: seed of all random choices.
        device: where detector and classifiers run: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        called: the command line to show on the page; None: this call.
        label_order: source of the order of labels: the checkpoint's class ``names``, or the annotations' ``file``.
        framework: ``mmdet``, ``torchvision``, ``transformers`` or ``ultralytics``.
        reporter: shows progress.

    Returns:
        The diagnosis, which is also saved in ``out``.

    Raises:
        InputError: an input is missing, wrong, or does not fit the others; or ``out`` was made from other inputs.

    Example:
        >>> diagnose("faster-rcnn.py", "faster-rcnn.pth", "train.json", "val.json", "images")
        Traceback (most recent call last):
        imbalance_bench.runtime.errors.InputError: faster-rcnn.pth: no such file, expected the checkpoint
    """
    asked = {name: value for name, value in locals().items() if name not in ("called", "reporter")}
    reporter, out, start = reporter or Reporter(), Path(out), time.monotonic()
    given = Given(
        str(detector), Path(checkpoint), Path(train_annotations), Path(val_annotations), Path(images),
        Path(val_images or images), max_images, bin_edges, skip_missing, seed, verify_images, label_order, framework,
    )  # fmt: skip
    place = resolve_device(device)
    tried = candidates(methods)
    _check_export(export, tried)
    folder, sums = RunFolder(out), _checksums(given)
    inputs, files = check(given, out, reporter)
    with folder.lock():
        folder.begin(_settings(given, inputs, sums))
        for path, text in files.items():
            write_text(path, text)
        bench, tuning = open_benches(given, inputs, out / RUNS, reporter)
        tried, left = fitting(bench, inputs.detector, tried, asked=methods is not None)
        _check_export(export, tried)
        for note in (said := [*inputs.notes, *left]):
            reporter.say(f"  {note}", style="dim")
        bench.setup.device = tuning.setup.device = place
        before = {path: path.stat().st_mtime_ns for path in (out / RUNS).glob("*/*/*/*/record.json")}
        if before:
            reporter.say(f"  going on: {len(before)} runs are done already")
        if not bench.folder(BASELINE).is_done:
            source = inputs.detector.adopt(given.checkpoint)
            seconds = estimate(bench.setup, tuning.setup, source, tried, tune)
            reporter.say(f"  about {duration(seconds)} on this machine")
        runs: dict[str, RunFolder] = {"baseline": cache_proposals(bench, tuning)}
        if tune and by_heart(*(one.folder(BASELINE).record()["metrics"]["mAP"] for one in (tuning, bench))):
            tune = False
            said.append("no settings are chosen, as the detector knows its training images by heart")
            reporter.say(f"  {said[-1]}")
        settings: dict[str, dict[str, Any]] = {}
        failed: dict[str, str] = {}
        bench.setup.reporter = tuning.setup.reporter = Reporter()  # one bar at a time
        with reporter.task(f"trying {len(tried)} methods", len(tried)) as advance:
            for method in tried:
                advance(0, note=method.title)
                settings_tried = method.settings_to_try if tune else []
                try:
                    run, found = choose(tuning, settings_tried) if settings_tried else (method.candidate, {})
                    runs[method.name] = bench.run(run)
                except InputError as error:  # it diverged, or the data do not suit it; the rest may do
                    failed[method.name] = str(error)
                    continue
                finally:
                    advance()
                settings[method.name] = {"settings": run.variant, "held_out": found}
                if not save_fixes:
                    drop_checkpoint(runs[method.name])
        exported = None
        if export is not None and export not in failed:
            fixed = with_checkpoint(bench, get(export).run(settings[export]["settings"]))
            target = out / f"export-{export}"
            written = inputs.detector.export(fixed.checkpoint, bench.setup.categories.names, target)
            exported = {"method": export, "folder": target.name, **asdict(written)}
        bench.setup.reporter = reporter
        evaluated = protocol.describe(bench.setup.ground_truth)
        notes = [*said, *evaluated, *(f"{name} failed: {reason}" for name, reason in failed.items())]
        diagnosis = measure(bench, tuning, inputs, given, notes, runs, settings)
        used = [*runs.values(), *(tuning.folder(f"{name}:{variant}") for name, made in settings.items()
                                  for variant in made["held_out"])]  # fmt: skip
        diagnosis.summary.update(
            called=called or _call(asked),
            tuned={name: made["held_out"] for name, made in settings.items() if made["held_out"]},
            exported=exported,
            seconds=round(time.monotonic() - start, 1),
            resumed=_resumed(used, before),
        )
        diagnosis.save()
        if export in failed:
            raise InputError(f"option '--export': {export} failed: {failed[export]}")
        if exported is not None:
            reporter.say(f"  exported to {target}: {exported['needs']}")
    return diagnosis


def _check_export(export: str | None, tried: Sequence[Method]) -> None:
    """Check that the method to be exported is among those that are tried.

    Raises:
        InputError: it is not.
    """
    if export is not None and export not in (method.name for method in tried):
        raise InputError(f"option '--export' is '{export}', expected one of the methods that are tried")


def _call(asked: Mapping[str, Any]) -> str:
    """Return the call of ``diagnose`` as text, with the arguments that are not the default."""
    defaults = {name: parameter.default for name, parameter in inspect.signature(diagnose).parameters.items()}
    given = {name: str(value) if isinstance(value, Path) else value for name, value in asked.items()}
    return f"imbalance_bench.diagnose({', '.join(f'{n}={v!r}' for n, v in given.items() if v != defaults[n])})"


def _resumed(runs: Sequence[RunFolder], before: Mapping[Path, int]) -> dict[str, float]:
    """Count the runs that an earlier call had done, by the times of their records, and sum their duration (s)."""
    records = {run.path / "record.json": run for run in runs}
    kept = [run for path, run in records.items() if before.get(path) == path.stat().st_mtime_ns]
    spent = sum(sum(run.record()["provenance"]["seconds"].values()) for run in kept)
    return {"runs": len(kept), "seconds": round(spent, 1)}


def _checksums(given: Given) -> dict[str, str]:
    """Return the checksums of the given files, by what they are.

    Raises:
        InputError: a file is missing.
    """
    files = {
        "checkpoint": given.checkpoint, "train annotations": given.train_annotations,
        "val annotations": given.val_annotations,
    }  # fmt: skip
    for what, path in files.items():
        if not path.is_file():
            raise InputError(f"{path}: no such file, expected the {what}")
    return {what: sha256(path) for what, path in files.items()}


def _settings(given: Given, inputs: Inputs, sums: dict[str, str]) -> dict[str, Any]:
    """Return the inputs that identify a diagnosis; a call with the same inputs continues in the same folder."""
    return {
        "framework": given.framework,
        "detector": inputs.detector.identity,
        "sha256": sums,
        "max_images": given.max_images,
        "bin_edges": given.bin_edges,
        "seed": given.seed,
        "skip_missing": given.skip_missing,
        "label_order": given.label_order,
    }
