"""Commands that train and measure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imbalance_bench.commands.options import (
    DATA_DIR,
    DATASET,
    DETECTOR,
    WORK_DIR,
    BatchSizeOption,
    DataDirOption,
    DatasetOption,
    DetectorOption,
    DeviceOption,
    LauncherOption,
    OutputOption,
    PretrainedOption,
    SeedOption,
    TrackOption,
    WorkDirOption,
    benchmark,
    console,
    joined,
    show,
    written,
)
from imbalance_bench.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

AP_CAPTION = "low, high: 95 % bootstrap interval over the classes of a group"


def methods(output: OutputOption = None) -> None:
    """Show the methods: their row in the paper's Table 1, what they train, their variants and where they come from.

    Example: imbalance-bench methods -o methods.csv
    """
    import pandas as pd

    from imbalance_bench.methods import METHODS

    rows = [
        {
            "name": method.name,
            "Table 1": "-" if method.paper_row is None else f"({method.paper_row})",
            "family": method.family,
            "trains": {"classifier": "W, b"}.get(method.trains, method.trains),
            "from": method.starts_from,
            "variants": ", ".join(method.variants),
            "year": method.year,
            "arXiv": method.source,
        }
        for method in METHODS.values()
    ]
    frame = pd.DataFrame(rows)
    address = "https://arxiv.org/abs/" + frame["arXiv"]
    show(
        frame.assign(arXiv="[link=" + address + "]" + frame["arXiv"] + "[/link]"),
        "methods, their default variant first",
    )
    if output is not None:
        from imbalance_bench.files import write_text

        write_text(output, frame.assign(source=address).to_csv(index=False))
        written(output)


def run_baseline(
    method: Annotated[str, typer.Option("--method", help="Method ('methods' lists them).")] = "baseline",
    variant: Annotated[str | None, typer.Option("--variant", help="Variant, if not the default.")] = None,
    tune: Annotated[
        bool, typer.Option("--tune", help="Choose the method's settings on held-out training images.")
    ] = False,
    dataset: DatasetOption = DATASET,
    detector: DetectorOption = DETECTOR,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    batch_size: BatchSizeOption = None,
    pretrained: PretrainedOption = None,
    track: TrackOption = None,
    launcher: LauncherOption = "none",
    data_dir: DataDirOption = DATA_DIR,
    work_dir: WorkDirOption = WORK_DIR,
) -> None:
    """Train and evaluate a method, and first whatever it needs: the data, the baseline, its proposals.

    Finished runs are reused, interrupted ones go on where they stopped. With --launcher several processes share a run:
    torchrun --nproc-per-node 8 cli.py run-baseline --launcher pytorch

    Example: imbalance-bench run-baseline --method tau-norm --dataset emoji-lt-small
    """
    from imbalance_bench import methods as catalogue

    catalogue.get(method).at(variant)
    if tune and (variant is not None or launcher != "none"):
        raise InputError(
            "option '--tune' chooses the variant itself, in one process: expected no --variant, --launcher"
        )
    if tune and not catalogue.get(method).tune:
        choices = ", ".join(name for name, record in catalogue.METHODS.items() if record.tune)
        raise InputError(f"option '--tune': '{method}' has no settings to choose, expected one of {choices}")
    options = {"batch_size": batch_size, "pretrained": pretrained, "track": track}
    with joined(launcher, device):
        bench = benchmark(dataset, detector, data_dir, work_dir, seed, device, **options)
        if tune:
            from imbalance_bench.tuning import run_tuned

            folder = run_tuned(bench, method)
        else:
            folder = bench.run(method, variant)
    if console.quiet:
        return

    from analyses.accuracy import accuracy_by_bin
    from analyses.average_precision import ap_by_bin

    table, title = folder.verified(folder.per_category), f"{method} on {dataset}"
    bins = f"bins by train instances: {', '.join(bench.categories.bin_names)}"
    _show_groups(ap_by_bin(table), f"{title}: average precision, percent", AP_CAPTION)
    _show_groups(accuracy_by_bin(table), f"{title}: proposal accuracy, percent", bins)
    console.print(f"run folder: {folder.path}", highlight=False, soft_wrap=True)


def evaluate(
    path: Annotated[Path, typer.Argument(help="A checkpoint (.pth), a run folder, or detections (.npz, COCO .json).")],
    annotations: Annotated[
        Path | None, typer.Option("--annotations", help="Validation annotations, if not the data set's.")
    ] = None,
    train_annotations: Annotated[
        Path | None, typer.Option("--train-annotations", help="Where bins are counted, if not the data set's.")
    ] = None,
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
    if (annotations is None) != (train_annotations is None):
        raise InputError("options '--annotations' and '--train-annotations' go together")
    from analyses import per_category
    from analyses.average_precision import ap_by_bin
    from imbalance_bench.categories import CategoryTable
    from imbalance_bench.datasets import registry
    from imbalance_bench.datasets.coco_format import is_federated
    from imbalance_bench.evaluation import detection, detections
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
    source = annotations or data.val_annotations
    lvis_style = is_federated(source) if annotations else data.lvis_style
    if evaluator == "lvis" and not lvis_style:
        raise InputError(f"{source}: option '--evaluator lvis' expects federated annotations (neg_category_ids)")
    options: dict[str, Any] = {"lvis_style": lvis_style, "iou_type": iou_type}
    truth = GroundTruth.read(source, categories, **options)
    frame = detection.evaluate(found, truth, evaluator=evaluator)  # type: ignore[arg-type]
    table = categories.frame(background=True).join(frame).reindex(columns=per_category.COLUMNS)
    bins = f"bins by train instances: {', '.join(categories.bin_names)}"
    _show_groups(ap_by_bin(table), f"AP of {path} ({iou_type}, {evaluator}), percent", f"{AP_CAPTION}; {bins}")
    _write(categories.frame().join(frame), output)


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
    _show_groups(accuracy_by_bin(frame), f"proposal accuracy of {path}, percent")
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


def _show_groups(frame: pd.DataFrame, title: str, caption: str | None = None) -> None:
    """A by-group view: counts as they are, fractions in percent."""
    from analyses.tables import percent

    fractions = [column for column in frame if frame[column].dtype == float]
    show(frame.assign(**{column: frame[column].map(percent) for column in fractions}).reset_index(), title, caption)


def _write(frame: pd.DataFrame, output: Path | None) -> None:
    """The per-category table as CSV, where asked for."""
    if output is not None:
        from imbalance_bench.files import write_text

        write_text(output, frame.to_csv())
        console.print(f"written: {output}", highlight=False, soft_wrap=True)
