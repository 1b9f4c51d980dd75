"""Commands that measure a run, a checkpoint or detections; all but ``oracles`` train nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imbalance_bench.bins import UNTRAINED
from imbalance_bench.commands.options import (
    DATA_DIR,
    DATASET,
    DETECTOR,
    WORK_DIR,
    DataDirOption,
    DatasetOption,
    DetectorOption,
    DeviceOption,
    OutputOption,
    PrecisionOption,
    SeedOption,
    WorkDirOption,
    console,
    say,
    setup,
    show,
    written,
)
from imbalance_bench.runtime.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from imbalance_bench.evaluation.detections import Detections
    from imbalance_bench.evaluation.ground_truth import GroundTruth, IouType

AP_CAPTION = "95 % over classes: interval of AP where the classes of a group are drawn"

PathArgument = Annotated[
    Path,
    typer.Argument(
        help="A checkpoint (.pth), a run folder, or detections: COCO results or files of ultralytics, mmdet, "
        "detectron2, torchvision, transformers, RF-DETR, supervision or FiftyOne (.json, .jsonl, .pkl, .pth), or a "
        "table (.csv, .parquet)."
    ),
]
AnnotationsOption = Annotated[
    Path | None, typer.Option("--val-annotations", help="Validation annotations, if not the data set's.")
]
TrainAnnotationsOption = Annotated[
    Path | None, typer.Option("--train-annotations", help="Where bins are counted, if not the data set's.")
]


def evaluate(
    path: PathArgument,
    annotations: AnnotationsOption = None,
    train_annotations: TrainAnnotationsOption = None,
    evaluator: Annotated[str, typer.Option("--evaluator", help="hotcoco, or lvis (the official package).")] = "hotcoco",
    iou_type: Annotated[str, typer.Option("--iou-type", help="bbox, or segm where detections carry masks.")] = "bbox",
    dataset: DatasetOption = DATASET,
    detector: DetectorOption = DETECTOR,
    device: DeviceOption = "auto",
    data_dir: DataDirOption = DATA_DIR,
    output: OutputOption = None,
) -> None:
    """Measure average precision by bin of training instances, of a checkpoint, a run, or saved detections.

    Also prints the rules (LVIS's or COCO's), what was left out, and signs of another convention in the files.

    Example: imbalance-bench evaluate work_dirs/emoji-lt-small/tiny/seed0/bags
    """
    if evaluator not in ("hotcoco", "lvis"):
        raise InputError(f"option '--evaluator' is '{evaluator}', expected hotcoco or lvis")
    if iou_type not in ("bbox", "segm"):
        raise InputError(f"option '--iou-type' is '{iou_type}', expected bbox or segm")
    from imbalance_bench.evaluation import average_precision as detection
    from imbalance_bench.evaluation import per_category
    from imbalance_bench.evaluation.views import ap_by_bin

    given = _given(path, annotations, train_annotations, iou_type, dataset, detector, device, data_dir)  # type: ignore[arg-type]
    found, truth = given
    if evaluator == "lvis" and not truth.lvis_style:
        source = annotations or dataset
        raise InputError(f"{source}: option '--evaluator lvis' expects federated annotations (neg_category_ids)")
    categories = truth.categories
    frame = detection.evaluate(found, truth, evaluator=evaluator)  # type: ignore[arg-type]
    table = categories.frame(background=True).join(frame).reindex(columns=per_category.COLUMNS)
    caption = f"{AP_CAPTION}; {categories.bins_line}"
    show_groups(ap_by_bin(table), f"AP of {path} ({iou_type}, {evaluator}), percent", caption)
    show_protocol(truth, found)
    _write(categories.frame().join(frame), output)


def errors(
    path: PathArgument,
    annotations: AnnotationsOption = None,
    train_annotations: TrainAnnotationsOption = None,
    dataset: DatasetOption = DATASET,
    detector: DetectorOption = DETECTOR,
    device: DeviceOption = "auto",
    data_dir: DataDirOption = DATA_DIR,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write CSV and a figure here (folder).")] = None,
) -> None:
    """Analyse errors by bin: kinds of errors (TIDE), their cost in AP, and classes that take the tail's boxes.

    For a run, boxes that no detection covers are split into those with and without a proposal.

    Example: imbalance-bench errors work_dirs/emoji-lt-small/tiny/seed0/baseline -o errors
    """
    from imbalance_bench.evaluation import error_analysis
    from imbalance_bench.evaluation import error_views as views

    found, truth = _given(path, annotations, train_annotations, "bbox", dataset, detector, device, data_dir)
    overlaps = _overlaps(path, device, data_dir) if path.is_dir() and annotations is None else None
    frame = views.per_category(error_analysis.analyse(found, truth), overlaps)
    tables = views.by_bin(frame, truth.categories)
    captions = views.captions(truth.categories)
    for name, table in tables.items():
        show_groups(table, f"{path}: {name}, percent", captions[name])
    show_protocol(truth, found)
    if output is not None:
        from imbalance_bench import plotting
        from imbalance_bench.runtime.files import write_text

        write_text(output / "errors_per_category.csv", truth.categories.frame().join(frame).to_csv())
        for target in (output / "errors_per_category.csv", *views.write(tables, output)):
            written(target)
        written(plotting.save(plotting.errors(tables, f"errors of {path.stem}"), output / "errors.png"))


def proposal_accuracy(
    path: Annotated[Path, typer.Argument(help="A checkpoint (.pth) or a run folder.")],
    dataset: DatasetOption = DATASET,
    detector: DetectorOption = DETECTOR,
    device: DeviceOption = "auto",
    data_dir: DataDirOption = DATA_DIR,
    output: OutputOption = None,
) -> None:
    """Show proposal classification accuracy by bin and on background (section 5.2 of the paper).

    Example: imbalance-bench proposal-accuracy work_dirs/emoji-lt-small/tiny/seed0/baseline
    """
    from imbalance_bench.evaluation import per_category
    from imbalance_bench.evaluation.views import accuracy_by_bin
    from imbalance_bench.experiments.run_folder import RunFolder

    if path.is_dir():
        run = RunFolder(path)
        frame = per_category.read(run.verified(run.per_category))
    else:
        _check_checkpoint(path)
        frame = _measure(path, dataset, detector, device, data_dir)[0]
    show_groups(accuracy_by_bin(frame), f"proposal accuracy of {path}, percent")
    _write(frame[["id", "name", "instance_count", "bin", "proposals", "correct", "accuracy"]], output)


def oracles(
    method: Annotated[str, typer.Option("--method", help="Method ('methods' lists them).")] = "baseline",
    variant: Annotated[str | None, typer.Option("--variant", help="Variant, if not the default.")] = None,
    dataset: DatasetOption = DATASET,
    detector: DetectorOption = DETECTOR,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    data_dir: DataDirOption = DATA_DIR,
    work_dir: WorkDirOption = WORK_DIR,
    output: OutputOption = None,
) -> None:
    """Test whether the classifier is the bottleneck: AP with known background, class or boxes.

    Missing runs are trained first.

    Example: imbalance-bench oracles --method bags --dataset emoji-lt-small
    """
    from imbalance_bench.evaluation.views import percent
    from imbalance_bench.methods import get

    run = get(method).run(variant)
    on = setup(dataset, detector, data_dir, seed, device)
    from imbalance_bench.experiments.benchmark import Benchmark

    frame = Benchmark(on, work_dir, precision=precision).oracles(run)
    shown = frame[[c for c in frame if c == "mAP" or (c.startswith("AP") and c[2:].isdigit())]]
    cells = shown.map(percent).reset_index()
    show(
        cells,
        f"{method} on {dataset}: AP, percent",
        on.categories.bins_line,
    )
    show_protocol(on.ground_truth)
    _write(frame, output)


def _given(
    path: Path,
    annotations: Path | None,
    train_annotations: Path | None,
    iou_type: IouType,
    dataset: str,
    detector: str,
    device: str,
    data_dir: Path,
) -> tuple[Detections, GroundTruth]:
    """Return the detections of a checkpoint, a run or a file, and the ground truth for them.

    The file is checked before the data set is prepared, which may take long, and annotations before a model is run.
    """
    check_pair(annotations, train_annotations)
    from imbalance_bench.evaluation import result_files

    parsed, own = None, None
    if path.suffix == ".pth" and path.is_file() and not result_files.is_results(path):
        _check_checkpoint(path)
    else:
        parsed, own = parse(path)
    truth = ground_truth(own or dataset, annotations, train_annotations, data_dir, iou_type)
    if parsed is None:
        return _measure(path, dataset, detector, device, data_dir)[2], truth
    return checked(parsed, truth, path), truth


def parse(path: Path) -> tuple[Callable[[GroundTruth], Detections], str | None]:
    """Read the detections of a run or a file, before data are prepared for them, and the data set of a run.

    Raises:
        InputError: not a run that is whole, nor a file of detections.
    """
    from imbalance_bench.evaluation import result_files
    from imbalance_bench.experiments.run_folder import RunFolder

    if not path.is_dir():
        return result_files.parse(path), None
    run = RunFolder(path)
    dataset = run.record()["settings"]["dataset"]
    run.verified(run.detections)
    return result_files.parse(path), dataset


def ground_truth(
    dataset: str, annotations: Path | None, train_annotations: Path | None, data_dir: Path, iou_type: IouType = "bbox"
) -> GroundTruth:
    """Return the ground truth of a data set, or of annotation files if they are given.

    Raises:
        InputError: one of the files alone, or bad annotations.
    """
    from imbalance_bench.categories import CategoryTable
    from imbalance_bench.datasets import registry
    from imbalance_bench.evaluation.ground_truth import GroundTruth
    from imbalance_bench.runtime.progress import Reporter

    if annotations is not None and train_annotations is not None:
        categories = CategoryTable.from_annotations(train_annotations)
        return GroundTruth.read(annotations, categories, iou_type=iou_type)
    data = registry.prepare(dataset, data_dir, Reporter(console))
    return GroundTruth.read(data.val_annotations, data.categories(), lvis_style=data.lvis_style, iou_type=iou_type)


def check_pair(annotations: Path | None, train_annotations: Path | None) -> None:
    """Check that both annotation files are given, or none.

    Raises:
        InputError: one is given alone.
    """
    if (annotations is None) != (train_annotations is None):
        raise InputError("options '--val-annotations' and '--train-annotations' go together")


def checked(parsed: Callable[[GroundTruth], Detections], truth: GroundTruth, path: Path) -> Detections:
    """Return parsed detections with the classes of a ground truth.

    Raises:
        InputError: they do not fit it.
    """
    found = parsed(truth)
    try:
        truth.check(found)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return found


def _measure(
    path: Path, dataset: str, detector: str, device: str, data_dir: Path
) -> tuple[pd.DataFrame, dict[str, Any], Detections]:
    """Measure a checkpoint and return its per-category table, metrics and detections."""
    on = setup(dataset, detector, data_dir, 0, device)
    from imbalance_bench.experiments.measure import Measurer

    return Measurer(on).checkpoint(path)


def _check_checkpoint(path: Path) -> None:
    """Check that a file is a detector's checkpoint, before anything is prepared for it.

    Raises:
        InputError: the file is not a detector's checkpoint.
    """
    from imbalance_bench.checkpoints import own as checkpoints
    from imbalance_bench.evaluation.result_files import EXPECTED

    try:
        checkpoints.classifiers_of(checkpoints.load(path), path)
    except InputError as error:
        raise InputError(f"{error}; a .pth must be a checkpoint or detections, which come as {EXPECTED}") from error


def _overlaps(path: Path, device: str, data_dir: Path) -> np.ndarray | None:
    """Return each ground-truth box's best IoU with a proposal of a run's detector; None without its checkpoint."""
    from imbalance_bench import methods
    from imbalance_bench.experiments.run_folder import RunFolder

    settings = RunFolder(path).record()["settings"]
    run = methods.get(settings["method"]).run(settings["variant"])
    folder = RunFolder(path.parent / "baseline") if run.keeps_detector else RunFolder(path)
    if not folder.checkpoint.exists():
        return None
    on = setup(settings["dataset"], settings["detector"], data_dir, settings["seed"], device)
    from imbalance_bench.experiments.measure import Measurer
    from imbalance_bench.experiments.proposal_cache import ProposalCache

    checkpoint = folder.verified(folder.checkpoint)
    return Measurer(on).overlaps(ProposalCache(on, checkpoint, folder.path / "proposals"))


def show_protocol(truth: GroundTruth, detections: Detections | None = None) -> None:
    """Print the rules of the evaluation, what was left out, and what to check."""
    from imbalance_bench.evaluation import protocol

    for line in protocol.describe(truth, detections):
        say(line)


def show_groups(frame: pd.DataFrame, title: str, caption: str | None = None) -> None:
    """Show a by-group table: counts unchanged, fractions in percent, the limits of an interval in one column."""
    from imbalance_bench.evaluation.views import limits, percent

    if "classes_low" in frame:
        frame = limits(frame, "classes")
    frame = frame.rename(index=lambda group: UNTRAINED if re.fullmatch("[A-Za-z]+0", group) else group)
    fractions = [column for column in frame if frame[column].dtype == float]
    show(frame.assign(**{column: frame[column].map(percent) for column in fractions}).reset_index(), title, caption)


def _write(frame: pd.DataFrame, output: Path | None) -> None:
    """Write the per-category table as CSV if an output path is given."""
    if output is not None:
        from imbalance_bench.runtime.files import write_text

        write_text(output, frame.to_csv())
        written(output)
