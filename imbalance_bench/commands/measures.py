"""Commands that measure a run, a checkpoint or detections; but for ``oracles`` they train nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
    SeedOption,
    WorkDirOption,
    benchmark,
    show,
    written,
)
from imbalance_bench.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from imbalance_bench.evaluation.detections import Detections
    from imbalance_bench.evaluation.ground_truth import GroundTruth

AP_CAPTION = "low, high: 95 % bootstrap interval over the classes of a group"

PathArgument = Annotated[
    Path, typer.Argument(help="A checkpoint (.pth), a run folder, or detections (.npz, COCO .json).")
]
AnnotationsOption = Annotated[
    Path | None, typer.Option("--annotations", help="Validation annotations, if not the data set's.")
]
TrainAnnotationsOption = Annotated[
    Path | None, typer.Option("--train-annotations", help="Where bins are counted, if not the data set's.")
]


def evaluate(
    path: PathArgument,
    annotations: AnnotationsOption = None,
    train_annotations: TrainAnnotationsOption = None,
    evaluator: Annotated[
        str, typer.Option("--evaluator", help="arrays (ours), faster (faster-coco-eval) or lvis (official).")
    ] = "arrays",
    iou_type: Annotated[str, typer.Option("--iou-type", help="bbox, or segm where detections carry masks.")] = "bbox",
    dataset: DatasetOption = DATASET,
    detector: DetectorOption = DETECTOR,
    device: DeviceOption = "auto",
    data_dir: DataDirOption = DATA_DIR,
    output: OutputOption = None,
) -> None:
    """Average precision by bin of training instances, of a checkpoint, a run, or saved detections.

    Example: imbalance-bench evaluate work_dirs/emoji-lt-small/tiny/seed0/bags
    """
    if evaluator not in ("arrays", "faster", "lvis"):
        raise InputError(f"option '--evaluator' is '{evaluator}', expected arrays, faster or lvis")
    if iou_type not in ("bbox", "segm"):
        raise InputError(f"option '--iou-type' is '{iou_type}', expected bbox or segm")
    from analyses import per_category
    from analyses.average_precision import ap_by_bin
    from imbalance_bench.evaluation import detection

    found, truth = _given(path, annotations, train_annotations, iou_type, dataset, detector, device, data_dir)
    if evaluator == "lvis" and not truth.lvis_style:
        source = annotations or dataset
        raise InputError(f"{source}: option '--evaluator lvis' expects federated annotations (neg_category_ids)")
    categories = truth.categories
    frame = detection.evaluate(found, truth, evaluator=evaluator)  # type: ignore[arg-type]
    table = categories.frame(background=True).join(frame).reindex(columns=per_category.COLUMNS)
    bins = f"bins by train instances: {', '.join(categories.bin_names)}"
    show_groups(ap_by_bin(table), f"AP of {path} ({iou_type}, {evaluator}), percent", f"{AP_CAPTION}; {bins}")
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
    """What goes wrong, by bin: kinds of errors (TIDE), what AP each costs, and who takes the boxes of the tail.

    Of a run, boxes that no detection covers are told apart by whether a proposal did.

    Example: imbalance-bench errors work_dirs/emoji-lt-small/tiny/seed0/baseline -o errors
    """
    from analyses import errors as views
    from imbalance_bench.evaluation import error_analysis

    found, truth = _given(path, annotations, train_annotations, "bbox", dataset, detector, device, data_dir)
    overlaps = _overlaps(path, device, data_dir) if path.is_dir() and annotations is None else None
    frame = views.per_category(error_analysis.analyse(found, truth), overlaps)
    tables = views.by_bin(frame, truth.categories)
    captions = views.captions(truth.categories)
    for name, table in tables.items():
        show_groups(table, f"{path}: {name}, percent", captions[name])
    if output is not None:
        from imbalance_bench.files import write_text

        write_text(output / "errors_per_category.csv", truth.categories.frame().join(frame).to_csv())
        for target in (output / "errors_per_category.csv", *views.write(tables, output)):
            written(target)
        written(views.draw(tables, output / "errors.png", f"errors of {path.stem}"))


def proposal_accuracy(
    path: Annotated[Path, typer.Argument(help="A checkpoint (.pth) or a run folder.")],
    dataset: DatasetOption = DATASET,
    detector: DetectorOption = DETECTOR,
    device: DeviceOption = "auto",
    data_dir: DataDirOption = DATA_DIR,
    output: OutputOption = None,
) -> None:
    """Proposal classification accuracy by bin and on background (section 5.2 of the paper).

    Example: imbalance-bench proposal-accuracy work_dirs/emoji-lt-small/tiny/seed0/baseline
    """
    from analyses import per_category
    from analyses.accuracy import accuracy_by_bin
    from imbalance_bench.runs import RunFolder

    if path.is_dir():
        run = RunFolder(path)
        frame = per_category.read(run.verified(run.per_category))
    else:
        frame, _, _ = benchmark(dataset, detector, data_dir, WORK_DIR, 0, device).measure(path)
    show_groups(accuracy_by_bin(frame), f"proposal accuracy of {path}, percent")
    _write(frame[["id", "name", "instance_count", "bin", "proposals", "correct", "accuracy"]], output)


def oracles(
    method: Annotated[str, typer.Option("--method", help="Method ('methods' lists them).")] = "baseline",
    variant: Annotated[str | None, typer.Option("--variant", help="Variant, if not the default.")] = None,
    dataset: DatasetOption = DATASET,
    detector: DetectorOption = DETECTOR,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    data_dir: DataDirOption = DATA_DIR,
    work_dir: WorkDirOption = WORK_DIR,
    output: OutputOption = None,
) -> None:
    """Is the classifier the bottleneck? AP where background, the class, or the boxes are known; trains what is missing.

    Example: imbalance-bench oracles --method bags --dataset emoji-lt-small
    """
    from analyses.tables import percent

    bench = benchmark(dataset, detector, data_dir, work_dir, seed, device)
    frame = bench.oracles_of(method, variant)
    shown = frame[[c for c in frame if c == "mAP" or (c.startswith("AP") and c[2:].isdigit())]]
    cells = shown.map(percent).reset_index()
    show(
        cells,
        f"{method} on {dataset}: AP, percent",
        f"bins by train instances: {', '.join(bench.categories.bin_names)}",
    )
    _write(frame, output)


def _given(
    path: Path,
    annotations: Path | None,
    train_annotations: Path | None,
    iou_type: str,
    dataset: str,
    detector: str,
    device: str,
    data_dir: Path,
) -> tuple[Detections, GroundTruth]:
    """Detections of a checkpoint, a run or a file, and what they are held against."""
    if (annotations is None) != (train_annotations is None):
        raise InputError("options '--annotations' and '--train-annotations' go together")
    from imbalance_bench.categories import CategoryTable
    from imbalance_bench.datasets import registry
    from imbalance_bench.datasets.coco_format import is_federated
    from imbalance_bench.evaluation import detections
    from imbalance_bench.evaluation.ground_truth import GroundTruth
    from imbalance_bench.runs import RunFolder

    if path.is_dir():
        # A run knows what it was evaluated on.
        run = RunFolder(path)
        dataset = run.record()["settings"]["dataset"]
        run.verified(run.detections)
    if path.suffix == ".pth":
        bench = benchmark(dataset, detector, data_dir, WORK_DIR, 0, device)
        data, (_, _, found) = bench.dataset, bench.measure(path)
    else:
        data, found = registry.get(dataset, data_dir), None
    categories = CategoryTable.from_annotations(train_annotations) if train_annotations else data.categories()
    if found is None:
        found = detections.read(path, categories)
    lvis_style = is_federated(annotations) if annotations else data.lvis_style
    source = annotations or data.val_annotations
    truth = GroundTruth.read(source, categories, lvis_style=lvis_style, iou_type=iou_type)  # type: ignore[arg-type]
    return found, truth


def _overlaps(path: Path, device: str, data_dir: Path) -> np.ndarray | None:
    """Of each ground-truth box the best IoU with a proposal of a run's detector; None where that is not at hand."""
    from imbalance_bench import methods
    from imbalance_bench.runs import RunFolder

    run = RunFolder(path)
    settings = run.record()["settings"]
    method = methods.get(settings["method"]).at(settings["variant"])
    detector_run = RunFolder(path.parent / "baseline") if method.trains in ("classifier", "nothing") else run
    if not detector_run.checkpoint.exists():
        return None
    bench = benchmark(settings["dataset"], settings["detector"], data_dir, WORK_DIR, settings["seed"], device)
    return bench.overlaps(run, detector_run)


def show_groups(frame: pd.DataFrame, title: str, caption: str | None = None) -> None:
    """A by-group view: counts as they are, fractions in percent."""
    from analyses.tables import percent

    fractions = [column for column in frame if frame[column].dtype == float]
    show(frame.assign(**{column: frame[column].map(percent) for column in fractions}).reset_index(), title, caption)


def _write(frame: pd.DataFrame, output: Path | None) -> None:
    """The per-category table as CSV, where asked for."""
    if output is not None:
        from imbalance_bench.files import write_text

        write_text(output, frame.to_csv())
        written(output)
