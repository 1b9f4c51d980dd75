"""Commands that analyse checkpoints and run folders; they train nothing."""

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
    OutputOption,
    SeedOption,
    WorkDirOption,
    console,
    show,
)
from imbalance_bench.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from imbalance_bench.datasets.registry import DataSet

figures = typer.Typer(no_args_is_help=True, help="Draw the figures of the study.")


def weight_norms(
    checkpoint: Annotated[Path, typer.Argument(help="Any mmdet detector's checkpoint (.pth).")],
    annotations: Annotated[
        Path | None, typer.Option("--annotations", help="Training annotations it was trained on (COCO or LVIS format).")
    ] = None,
    output: OutputOption = None,
) -> None:
    """Classifier weight norm of each category, by bin of training instances (Figures 1 and 3 of the paper).

    Checkpoints of this suite carry their categories; for any other, name the training annotations.

    Example: imbalance-bench weight-norms ckpt.pth --annotations lvis_v1_train.json -o norms.csv
    """
    from analyses.weight_norms import norms_by_bin, spearman

    for part, (frame, bin_names) in norm_tables(checkpoint, annotations).items():
        by_bin = norms_by_bin(frame)
        rows = by_bin.reset_index().round(3)
        title = f"weight norms of {checkpoint}" + (f", {part}" if part else "")
        show(rows, title, f"bins by train instances: {', '.join(bin_names)}")
        console.print(f"Spearman correlation of norm and train instances: {spearman(frame):.3f}", highlight=False)
        if output is not None:
            from imbalance_bench.files import write_text

            target = output.with_stem(f"{output.stem}-{part}") if part else output
            write_text(target, frame.to_csv())
            console.print(f"written: {target}", highlight=False, soft_wrap=True)


def norm_tables(checkpoint: Path, annotations: Path | None) -> dict[str, tuple[pd.DataFrame, list[str]]]:
    """Per-category weight norms of each classifier in a checkpoint, with the names of the bins.

    Raises:
        InputError: not a detector's checkpoint, no categories, or another number of them than the classifier has.
    """
    from analyses import weight_norms as analysis
    from imbalance_bench import checkpoints
    from imbalance_bench.categories import CategoryTable

    content = checkpoints.load(checkpoint)
    classifiers = checkpoints.classifiers_of(content, checkpoint)
    if annotations is not None:
        categories = CategoryTable.from_annotations(annotations)
    else:
        stated = checkpoints.categories_of(content, checkpoint)
        if stated is None:
            raise InputError(f"{checkpoint}: it carries no categories, name the training file with --annotations")
        categories = stated
    tables = {}
    for part, classifier in classifiers.items():
        if classifier.num_classes != categories.num_classes:
            raise InputError(
                f"{annotations or checkpoint}: field 'categories' has {categories.num_classes} entries, but the "
                f"classifier of {checkpoint} scores {classifier.num_classes} classes and background"
            )
        frame = analysis.weight_norms(classifier.class_weights(), classifier.class_biases(), categories)
        tables[part if len(classifiers) > 1 else ""] = (frame, categories.bin_names)
    return tables


def table(
    number: Annotated[int, typer.Argument(help="Table of the paper: 1 is measured, 1 to 6 are published.")],
    published: Annotated[bool, typer.Option("--published", help="Show the paper's own numbers instead.")] = False,
    dataset: DatasetOption = DATASET,
    detector: DetectorOption = DETECTOR,
    seed: SeedOption = 0,
    data_dir: DataDirOption = DATA_DIR,
    work_dir: WorkDirOption = WORK_DIR,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write CSV and Markdown here (folder).")] = None,
) -> None:
    """A table of the paper, measured: one row for each finished run.

    Example: imbalance-bench table 1 --dataset emoji-lt-small
    """
    if published:
        from analyses import published as paper

        if number not in range(1, 7):
            raise InputError(f"table {number}: the paper has Tables 1 to 6")
        _print_published(paper.table(number), number)
        return
    if number != 1:
        raise InputError(f"table {number}: only Table 1 is measured; 1 to 6 are shown with --published")
    root, data = _finished(dataset, detector, seed, data_dir, work_dir)
    bin_names = data.categories().bin_names
    print_table1(root, bin_names)
    if output is not None:
        from analyses.report import write_table1

        for path in write_table1(root, bin_names, output):
            console.print(f"written: {path}", highlight=False, soft_wrap=True)


def _print_published(frame: pd.DataFrame, number: int) -> None:
    """A table of the paper, eight numbers a line, as printed; notes below."""
    frame = frame.drop(columns=[column for column in frame if frame[column].isna().all()])
    numbers = [column for column in frame if frame[column].dtype == float]
    names = [column for column in frame if column not in (*numbers, "note")]
    notes = [f"({row.iloc[0]}) {row['note']}" for _, row in frame.iterrows() if row.get("note")]
    printed = frame[numbers].map("{:.2f}".format).replace("nan", "-")
    for start in range(0, len(numbers), 8):
        part = frame[names].astype(str).replace(["nan", "<NA>"], "-").join(printed[numbers[start : start + 8]])
        last = start + 8 >= len(numbers)
        show(part, f"Table {number} as the paper prints it (percent)", "; ".join(notes) if last else None)


def print_table1(root: Path, bin_names: list[str]) -> None:
    """Table 1 on the console, AP and proposal accuracy one below the other."""
    from analyses import tables

    frame = tables.table1(root)
    show(tables.shown(frame, tables.AP_COLUMNS), "Table 1, measured: average precision")
    accuracy = tables.shown(frame, tables.ACC_COLUMNS)
    show(accuracy, "Table 1, measured: proposal accuracy", tables.caption(bin_names, frame))


@figures.command("weight-norms")
def figure_weight_norms(
    runs: Annotated[list[str] | None, typer.Argument(help="Run folders by name, e.g. baseline bags tau-norm.")] = None,
    dataset: DatasetOption = DATASET,
    detector: DetectorOption = DETECTOR,
    seed: SeedOption = 0,
    data_dir: DataDirOption = DATA_DIR,
    work_dir: WorkDirOption = WORK_DIR,
    output: OutputOption = Path("weight_norms.png"),
) -> None:
    """Weight norm against rank by train instances, bins marked (Figures 1 and 3 of the paper).

    Example: imbalance-bench figure weight-norms baseline bags reweight-cls -o norms.pdf
    """
    root, data = _finished(dataset, detector, seed, data_dir, work_dir)
    from analyses import report

    _written(report.draw_weight_norms(root, data.categories(), _image(output), runs or report.COMPARED))


@figures.command("ap-by-bin")
def figure_ap_by_bin(
    dataset: DatasetOption = DATASET,
    detector: DetectorOption = DETECTOR,
    seed: SeedOption = 0,
    data_dir: DataDirOption = DATA_DIR,
    work_dir: WorkDirOption = WORK_DIR,
    output: OutputOption = Path("ap_by_bin.png"),
) -> None:
    """AP of every finished run in every bin.

    Example: imbalance-bench figure ap-by-bin -o ap.png
    """
    root, data = _finished(dataset, detector, seed, data_dir, work_dir)
    from analyses import report

    _written(report.draw_ap_by_bin(root, data.categories(), _image(output)))


@figures.command("detections")
def figure_detections(
    runs: Annotated[list[str] | None, typer.Argument(help="Run folders by name, e.g. baseline bags.")] = None,
    images: Annotated[int, typer.Option("--images", min=1, help="How many images.")] = 6,
    dataset: DatasetOption = DATASET,
    detector: DetectorOption = DETECTOR,
    seed: SeedOption = 0,
    data_dir: DataDirOption = DATA_DIR,
    work_dir: WorkDirOption = WORK_DIR,
    output: OutputOption = Path("detections.png"),
) -> None:
    """Validation images with ground truth and the detections of some runs side by side.

    Example: imbalance-bench figure detections baseline bags --images 4
    """
    root, data = _finished(dataset, detector, seed, data_dir, work_dir)
    from analyses import report

    _written(report.draw_detections(root, data, _image(output), runs or report.COMPARED, images))


def _finished(dataset: str, detector: str, seed: int, data_dir: Path, work_dir: Path) -> tuple[Path, DataSet]:
    """Folder of a benchmark's runs, and its data set."""
    from imbalance_bench.datasets import registry

    data = registry.get(dataset, data_dir)
    root = work_dir / data.name / detector / f"seed{seed}"
    if not data.is_prepared() or not root.is_dir():
        raise InputError(f"{root}: no runs there yet, 'run-baseline --dataset {dataset}' makes the first")
    return root, data


def _image(output: Path | None) -> Path:
    """An output path that matplotlib can write."""
    path = output or Path("figure.png")
    if path.suffix not in (".png", ".pdf", ".svg"):
        raise InputError(f"option '--output' is '{path}', expected a name that ends in .png, .pdf or .svg")
    return path


def _written(path: Path) -> None:
    console.print(f"written: {path}", highlight=False, soft_wrap=True)
