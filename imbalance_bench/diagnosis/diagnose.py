"""From a detector and annotations to a diagnosis: check, cache, measure, try every fix, rank."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from rich.markup import escape
from scipy import stats

from imbalance_bench import checkpoints
from imbalance_bench.categories import CategoryTable
from imbalance_bench.classifiers import SoftmaxClassifier
from imbalance_bench.detectors.foreign import ForeignDetector
from imbalance_bench.detectors.inference import test_proposals
from imbalance_bench.diagnosis.export import export as write_export
from imbalance_bench.diagnosis.inputs import Given, Inputs, prepare
from imbalance_bench.diagnosis.result import Diagnosis
from imbalance_bench.diagnosis.trials import (
    FixedDetector,
    adopt,
    candidates,
    choose,
    drop_checkpoint,
    settings_to_try,
    with_checkpoint,
)
from imbalance_bench.errors import InputError
from imbalance_bench.evaluation import detections, predictions
from imbalance_bench.evaluation.bootstrap import bounds, draw_images
from imbalance_bench.evaluation.grouping import bin_groups
from imbalance_bench.evaluation.matching import average_precision, match
from imbalance_bench.files import sha256
from imbalance_bench.methods import METHODS, Method
from imbalance_bench.progress import Reporter, duration
from imbalance_bench.runs import RunFolder, provenance

RESAMPLES = 200
RUNS = "runs"


def diagnose(
    config: str | Path,
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
    save_fixes: bool = False,
    export: str | None = None,
    seed: int = 0,
    reporter: Reporter | None = None,
) -> Diagnosis:
    """Find out whether a detector's classifier is imbalanced, and which fix helps.

    The detector stays as it is: its proposals on some training and validation images are cached once, and every
    method that needs no more than these is fitted and measured on them. Hyper-parameters are chosen on training
    images that the classifiers tried were not fitted to; validation images are for measuring alone. Interrupted,
    the same call goes on where it was.

    Args:
        config: mmdet configuration of a two-stage detector. It is Python, and runs.
        checkpoint: its weights; nothing in it runs.
        train_annotations: COCO or LVIS format, that the detector was trained on.
        val_annotations: the same, of other images.
        images: folder that the files' image names are relative to.
        val_images: that of the validation images, if another.
        out: folder that takes everything.
        max_images: of each split, at most; None: all.
        methods: names of the catalogue; None: all that fit.
        tune: choose hyper-parameters; else defaults are taken.
        bin_edges: of bins by train instances; None: the file's, LVIS's, or chosen from the counts.
        skip_missing: go without images that are not there.
        save_fixes: keep the checkpoints of all fixes.
        export: method whose detector is written to ``out/export-<method>``, as mmdet configuration and checkpoint.
        seed: of everything random.
        reporter: shows progress.

    Returns:
        The diagnosis, which ``out`` holds too.

    Raises:
        InputError: something given is missing, wrong, or does not fit the rest; or ``out`` was made of other things.
    """
    reporter, out, start = reporter or Reporter(), Path(out), time.monotonic()
    given = Given(
        Path(config), Path(checkpoint), Path(train_annotations), Path(val_annotations), Path(images),
        Path(val_images or images), max_images, bin_edges, skip_missing, seed,
    )  # fmt: skip
    tried = candidates(methods)
    if export is not None and export not in (method.name for method in tried):
        raise InputError(f"option '--export' is '{export}', expected one of the methods that are tried")
    folder = RunFolder(out)
    with folder.lock():
        folder.begin(_settings(given))
        with reporter.task("checking annotations, images and checkpoint", 1) as advance:
            inputs = prepare(given, out)
            advance()
        for note in inputs.notes:
            reporter.say(f"  [dim]{escape(note)}[/dim]")
        bench, tuning = open_benches(given, inputs, out, reporter)
        reporter.say(f"  about {duration(estimate(bench, tuning, tried, tune))} on this machine")
        runs: dict[str, RunFolder] = {"baseline": cache(bench, tuning)}
        settings: dict[str, dict[str, Any]] = {}
        bench.reporter = tuning.reporter = Reporter()  # one bar at a time
        with reporter.task(f"trying {len(tried)} methods", len(tried)) as advance:
            for method in tried:
                advance(0, note=method.title)
                variants = settings_to_try(method) if tune else []
                variant, found = choose(tuning, method, variants) if variants else (method.default_variant, {})
                runs[method.name] = bench.run(method.name, variant)
                settings[method.name] = {"settings": variant, "held_out": found}
                if not save_fixes:
                    drop_checkpoint(runs[method.name])
                advance()
        bench.reporter = reporter
        diagnosis = _conclude(bench, inputs, given, out, runs, settings, start)
        diagnosis.save()
        if export is not None:
            bench.reporter = Reporter()
            fixed = with_checkpoint(bench, export, settings[export]["settings"])
            target = out / f"export-{export}"
            plain = write_export(inputs.detector, fixed.checkpoint, bench.categories.names, target)
            needs = "plain mmdet runs it" if plain else "it needs this package where it runs (custom_imports)"
            reporter.say(f"  exported to {target}: {needs}")
    return diagnosis


def open_benches(given: Given, inputs: Inputs, out: Path, reporter: Reporter) -> tuple[FixedDetector, FixedDetector]:
    """Runs on all chosen training images, measured on validation; and those that settings are chosen by."""
    options: dict[str, Any] = {"seed": given.seed, "views": 1, "pretrained": given.checkpoint, "reporter": reporter}
    tuning = FixedDetector(inputs.tuning, inputs.detector, out / RUNS, **options)
    return FixedDetector(inputs.final, inputs.detector, out / RUNS, beside=tuning, **options), tuning


def cache(bench: FixedDetector, tuning: FixedDetector) -> RunFolder:
    """Measure the detector as it is, and cache what all that follows reads; its run folder."""
    tuning.run("baseline")
    folder = bench.run("baseline")
    plain = [SoftmaxClassifier(1, 1)] * bench.detector.num_stages
    tuning.cache(tuning.folder_of("baseline"), "train", plain)
    bench.cache(folder, "train", plain)
    return folder


def estimate(bench: FixedDetector, tuning: FixedDetector, tried: list[Method], tune: bool) -> float:
    """Seconds that a diagnosis takes, from a pass of the detector over a few images and a few steps of training."""
    assert isinstance(bench.detector, ForeignDetector)
    assert bench.pretrained is not None
    model = adopt(bench.detector, bench.pretrained).to(bench.device)
    images, batch = bench.validation_set(), bench.detector.images_at_once
    few = range(min(batch, len(images)))
    rows = max(len(image[0].labels) for image in test_proposals(model, bench.loader(images, [few[:1]]), "fc"))
    begin = time.monotonic()
    for _ in test_proposals(model, bench.loader(images, [few]), "fc"):
        pass
    per_image = (time.monotonic() - begin) / len(few)
    fitting, held_out, measured = (len(b) for b in (tuning.training_set(), tuning.validation_set(), images))
    passes = per_image * (fitting + 2 * held_out + measured)

    schedule = bench.detector.schedule
    classifier = SoftmaxClassifier(bench.categories.num_classes, bench.detector.tap_dims["fc"]).to(bench.device)
    sampled = min(rows, 512) * schedule.batch_size
    features = torch.randn(sampled, classifier.feature_dim, device=bench.device)
    labels = torch.zeros(sampled, dtype=torch.long, device=bench.device)
    begin = time.monotonic()
    for _ in range(3):
        classifier.loss(classifier(features), labels)["loss_cls"].backward()
    step = (time.monotonic() - begin) / 3
    fit = 12 * step * (fitting + held_out) / schedule.batch_size
    trained = [method for method in tried if method.trains == "classifier"]
    fits = len(trained) + sum(len(settings_to_try(method)) for method in trained if tune)
    return passes + fits * fit


def _settings(given: Given) -> dict[str, Any]:
    """What a folder is a diagnosis of; another call with the same goes on in it."""
    files = {
        "config": given.config, "checkpoint": given.checkpoint, "train annotations": given.train_annotations,
        "val annotations": given.val_annotations,
    }  # fmt: skip
    for what, path in files.items():
        if not path.is_file():
            raise InputError(f"{path}: no such file, expected the {what}")
    return {
        "sha256": {what: sha256(path) for what, path in files.items()},
        "max_images": given.max_images,
        "bin_edges": given.bin_edges,
        "seed": given.seed,
        "skip_missing": given.skip_missing,
    }


def _conclude(
    bench: FixedDetector,
    inputs: Inputs,
    given: Given,
    out: Path,
    runs: dict[str, RunFolder],
    settings: dict[str, dict[str, Any]],
    start: float,
) -> Diagnosis:
    categories = bench.categories
    baseline = runs["baseline"]
    table = pd.read_csv(baseline.per_category).set_index("label")
    table["name"] = [*categories.names, "background"]
    table["frequency"] = [*categories.frequencies, ""]
    table["id"] = [*inputs.category_ids.tolist(), 0]
    classifiers = list(checkpoints.classifiers_of(checkpoints.load(baseline.checkpoint), baseline.checkpoint).values())
    said = predictions.predict(classifiers, bench.cached_features(baseline, "val", classifiers), bench.device)
    curve = predictions.reliability(said, categories)
    losses = predictions.losses_by_class(said, categories)
    names = np.array(categories.names)
    losses["taken_by"] = [
        "; ".join(f"{names[label]} {share:.0%}" for label, share in takers) for takers in losses["taken_by"]
    ]
    losses["id"] = inputs.category_ids[losses.index]
    ap = _drawn_ap(bench, runs)
    fixes = rank(ap, runs, settings, categories)
    bins = _bins(said, ap["baseline"], categories, predictions.calibration_error(curve))
    correlation = norm_correlation(table, seed=given.seed)
    summary = {
        "detector": str(given.config),
        "checkpoint": str(given.checkpoint),
        "given": {name: str(value) if isinstance(value, Path) else value for name, value in asdict(given).items()},
        "classes": categories.num_classes,
        "bin_names": categories.bin_names,
        "runs": {name: str(run.path.relative_to(out)) for name, run in runs.items()},
        "tail_bins": tail_bins(categories),
        "notes": list(inputs.notes),
        "norms": correlation,
        "verdict": verdict(bins, correlation, categories),
        "recommended": recommend(fixes),
        "provenance": provenance(),
        "seconds": round(time.monotonic() - start, 1),
    }
    destinations = predictions.destinations(said, categories)
    return Diagnosis(out, summary, table, bins, destinations, losses, curve, fixes)


def tail_bins(categories: CategoryTable) -> list[int]:
    """The lower half of the bins: those of the paper's four that are called tail."""
    return list(range(1, categories.num_bins // 2 + 1))


def _groups(categories: CategoryTable) -> dict[str, np.ndarray]:
    bins = bin_groups(categories)
    tail = {str(number) for number in tail_bins(categories)}
    return {
        "mAP": np.arange(categories.num_classes),
        "tail": np.concatenate([labels for key, labels in bins.items() if key in tail] or [np.zeros(0, int)]),
        "head": np.concatenate([labels for key, labels in bins.items() if key not in tail]),
        **{f"AP{key}": labels for key, labels in bins.items()},
    }


def _drawn_ap(bench: FixedDetector, runs: dict[str, RunFolder]) -> dict[str, pd.DataFrame]:
    """Of each run the mean AP of each group: on all validation images (row 0), then on images drawn."""
    truth, groups = bench.ground_truth, _groups(bench.categories)
    count = len(truth.image_ids)
    weights = np.concatenate([np.ones((1, count), np.int64), draw_images(count, RESAMPLES, bench.seed)])
    found = {}
    with bench.reporter.task("intervals", len(runs)) as advance:
        for name, folder in runs.items():
            matches = match(detections.read(folder.path, bench.categories), truth)
            ap = pd.DataFrame(average_precision(matches, weights))
            found[name] = pd.DataFrame({group: ap[labels].mean(axis=1) for group, labels in groups.items()})
            advance()
    return found


def rank(
    ap: dict[str, pd.DataFrame],
    runs: dict[str, RunFolder],
    settings: dict[str, dict[str, Any]],
    categories: CategoryTable,
) -> pd.DataFrame:
    """Fixes by what the tail gains, each compared with the detector as it is on the same drawn images.

    Args:
        ap: of each run, on all images in row 0 and on draws below; ``baseline`` is the detector as it is.
        runs: their folders.
        settings: of the fixes: ``settings``, and ``held_out`` mAPs by setting.
        categories: of the data.

    Returns:
        Index ``method``; see ``Diagnosis.fixes``.
    """
    base, rows = ap["baseline"], {}
    for name, values in ap.items():
        metrics = runs[name].record()["metrics"]
        row: dict[str, Any] = {
            "title": "as it is" if name == "baseline" else METHODS[name].title,
            "settings": settings.get(name, {}).get("settings", ""),
            **values.loc[0].to_dict(),
            "accuracy": metrics["ACC"],
            "accuracy_background": metrics["ACCbg"],
            "seconds": sum(runs[name].record()["provenance"]["seconds"].values()),
        }
        difference = values - base
        limits = bounds(difference.loc[0], difference.loc[1:])
        for group in ("mAP", "tail", "head"):
            row[f"{group}_gain"] = difference.loc[0, group]
            row[f"{group}_low"], row[f"{group}_high"] = limits.loc[group, "low"], limits.loc[group, "high"]
        rows[name] = row
    frame = pd.DataFrame.from_dict(rows, orient="index").rename_axis("method")
    order = frame.drop(index="baseline").sort_values(["tail_gain", "mAP_gain"], ascending=False, kind="stable").index
    return frame.loc[[*order, "baseline"]]


def recommend(fixes: pd.DataFrame) -> str | None:
    """The fix with the greatest gain on tail that is beyond chance, of those whose mAP does not fall beyond chance."""
    helps = fixes[(fixes["tail_low"] > 0) & (fixes["mAP_high"] >= 0)].drop(index="baseline", errors="ignore")
    return None if helps.empty else str(helps["tail_gain"].idxmax())


def norm_correlation(table: pd.DataFrame, resamples: int = 2000, seed: int = 0) -> dict[str, float]:
    """Spearman correlation of weight norm and train instances over classes, 95 % interval over drawn classes."""
    pairs = table.iloc[:-1][["weight_norm", "instance_count"]].dropna().to_numpy(dtype=float)
    if len(pairs) < 3 or len(np.unique(pairs[:, 0])) < 2 or len(np.unique(pairs[:, 1])) < 2:
        return {"spearman": float("nan"), "low": float("nan"), "high": float("nan")}
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(resamples):
        draw = pairs[rng.integers(len(pairs), size=len(pairs))]
        if len(np.unique(draw[:, 0])) > 1 and len(np.unique(draw[:, 1])) > 1:
            drawn.append(stats.spearmanr(draw[:, 0], draw[:, 1]).statistic)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {
        "spearman": float(stats.spearmanr(pairs[:, 0], pairs[:, 1]).statistic), "low": float(low), "high": float(high)
    }  # fmt: skip


def _bins(
    said: predictions.Predictions, ap: pd.DataFrame, categories: CategoryTable, calibration: pd.Series
) -> pd.DataFrame:
    accuracy = predictions.accuracy_by_group(said, categories)
    limits = bounds(ap.loc[0], ap.loc[1:]).clip(0, 1)
    rows = {}
    for number, interval in enumerate(categories.bin_names, start=1):
        key = f"AP{number}"
        rows[str(number)] = {
            "interval": interval,
            "classes": int((categories.bins == number).sum()),
            "ap": ap.loc[0, key],
            "ap_low": limits.loc[key, "low"],
            "ap_high": limits.loc[key, "high"],
        }
    rows["background"] = {"interval": "", "classes": 0}
    frame = pd.DataFrame.from_dict(rows, orient="index").rename_axis("bin")
    frame = frame.join(accuracy.rename(columns={"low": "accuracy_low", "high": "accuracy_high"}))
    return frame.join(calibration)


def verdict(bins: pd.DataFrame, correlation: dict[str, float], categories: CategoryTable) -> list[str]:
    """What the numbers say, in sentences.

    Args:
        bins: of ``Diagnosis.bins``.
        correlation: of ``norm_correlation``.
        categories: of the data.
    """
    foreground = bins.drop(index="background")
    tail = foreground.loc[[str(n) for n in tail_bins(categories) if str(n) in foreground.index]].dropna(subset="ap")
    head = foreground.drop(index=tail.index, errors="ignore").dropna(subset="ap")
    lines = []
    if correlation["low"] > 0:
        lines.append(
            f"Weight norms follow the number of training instances (rank correlation {correlation['spearman']:.2f}, "
            f"95 % interval {correlation['low']:.2f} to {correlation['high']:.2f}): the classifier is imbalanced."
        )
    elif correlation["spearman"] == correlation["spearman"]:
        lines.append(
            f"Weight norms do not follow the number of training instances (rank correlation "
            f"{correlation['spearman']:.2f}, 95 % interval {correlation['low']:.2f} to {correlation['high']:.2f})."
        )
    else:
        lines.append("Weight norms tell nothing here: too few classes, or all of one count.")
    if len(tail) and len(head):
        low, high = (100 * float(part["ap"].mean()) for part in (tail, head))
        lost = 100 * float((tail["as_background"] * tail["proposals"]).sum() / max(tail["proposals"].sum(), 1))
        right = 100 * float((tail["accuracy"] * tail["proposals"]).sum() / max(tail["proposals"].sum(), 1))
        lines.append(
            f"AP is {low:.1f} on the tail bins and {high:.1f} on the others. Of the proposals on tail objects the "
            f"classifier names {right:.0f} % right and takes {lost:.0f} % for background."
        )
    elif not len(tail):
        lines.append("No class of the tail bins has a validation instance: nothing can be measured on the tail.")
    return lines
