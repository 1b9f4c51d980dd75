"""The command that measures the classifier's weight norms in a checkpoint of any framework."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imbalance_bench.commands.options import LabelOrderOption, OutputOption, image_path, say, show, written
from imbalance_bench.runtime.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from imbalance_bench.categories import CategoryTable
    from imbalance_bench.checkpoints.foreign import FoundClassifier
    from imbalance_bench.checkpoints.formats import Checkpoint


def weight_norms(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            help="A detector's checkpoint: mmdet, detectron2, torchvision; .pth, .pkl, .safetensors; or a run folder."
        ),
    ],
    annotations: Annotated[
        Path | None,
        typer.Option("--train-annotations", help="Training annotations it was trained on (COCO or LVIS format)."),
    ] = None,
    counts: Annotated[
        Path | None, typer.Option("--counts", help="Or a CSV with a row a category: instance_count; id, name, ...")
    ] = None,
    key: Annotated[
        str | None, typer.Option("--key", help="Name of the classifier's weight, where it is not found.")
    ] = None,
    background: Annotated[
        str | None, typer.Option("--background", help="first, last or none; by framework if not given.")
    ] = None,
    label_order: LabelOrderOption = "names",
    figure: Annotated[Path | None, typer.Option("--figure", help="Draw norm against rank (.png, .pdf, .svg).")] = None,
    output: OutputOption = None,
) -> None:
    """Show the classifier's weight norms by bin of training instances (Figures 1 and 3 of the paper).

    Checkpoints of this suite store their categories; for others, give the training annotations or counts. Without them,
    a summary of the norms is printed. Rows are matched to classes by the checkpoint's class names; if it has none, by
    the framework's order of the file's categories. The helper rows of released BAGS classifiers are found by counts.

    For a finished run, Logits Magnitude and Regularized Standard Deviation of its logits are shown too.

    Example: imbalance-bench weight-norms ckpt.pth --train-annotations train.json -o norms.csv --figure norms.png
    """
    if figure is not None:
        image_path(figure, "--figure")
    from imbalance_bench.checkpoints import foreign as foreign_classifiers
    from imbalance_bench.checkpoints.formats import read
    from imbalance_bench.evaluation import views
    from imbalance_bench.evaluation import weight_norms as analysis
    from imbalance_bench.evaluation.measures import LOGITS, WEIGHT_NORM
    from imbalance_bench.evaluation.per_category import read as read_table
    from imbalance_bench.experiments.run_folder import RunFolder

    measured = None
    if checkpoint.is_dir():
        run = RunFolder(checkpoint)
        measured = read_table(run.verified(run.per_category)) if run.is_done else None
        checkpoint = run.newest_checkpoint() or checkpoint
    content = read(checkpoint)
    categories = training_categories(content, annotations, counts)
    if categories is None and figure is not None:
        raise InputError(f"{checkpoint}: it carries no categories, '--figure' needs --train-annotations or --counts")
    found = foreign_classifiers.find(content, categories, key, background, label_order)
    for classifier in found:
        say(f"{classifier.tensor}: {_description(classifier)}")
    for note in dict.fromkeys(note for classifier in found for note in classifier.notes):
        say(f"note: {note}")
    # Those that the checkpoint knows; the same for all stages.
    categories = found[0].categories
    if categories is None:
        frames = {c.stage: analysis.row_norms(c.weights, c.biases) for c in found}
        caption = (
            "No bins and no correlation without train instances: name --train-annotations or --counts. Every row was "
            "taken for a class; helper rows (BAGS, SeesawLoss) are told apart by the number of categories."
        )
        show(analysis.norm_summary(frames).reset_index().round(3), f"weight norms of {checkpoint}", caption)
    else:
        frames = {c.stage: analysis.weight_norms(c.weights, c.biases, categories) for c in found}
        for stage, frame in frames.items():
            title = f"weight norms of {checkpoint}" + (f", {stage}" if len(frames) > 1 else "")
            caption = categories.bins_line
            show(analysis.norms_by_bin(frame).reset_index().round(3), title, caption)
            correlation = analysis.correlation_text(frame)
            say(f"Spearman correlation of norm and train instances: {correlation}")
        if measured is not None and "logit_magnitude" in measured:
            beside = views.cells(views.by_bin(measured, WEIGHT_NORM, LOGITS)).reset_index()
            says = "; ".join(f"{name}: {text}" for name, text in LOGITS.columns.items())
            show(beside, f"norms and logits of {checkpoint}, on validation proposals, means over classes", says)
            correlation = analysis.correlation_text(measured, column="logit_magnitude")
            say(f"Spearman correlation of logit magnitude and train instances: {correlation}")
            columns = measured.set_index("id")[list(LOGITS.columns)]
            frames = {stage: frame.join(columns, on="id") for stage, frame in frames.items()}
    if output is not None:
        _write(frames, output)
    if figure is not None and categories is not None:
        from imbalance_bench import plotting

        written(plotting.save(plotting.weight_norms(frames, categories.bin_names, checkpoint.name), figure))


def training_categories(checkpoint: Checkpoint, annotations: Path | None, counts: Path | None) -> CategoryTable | None:
    """Return the training categories with counts from one of the files, else from the checkpoint; None if it has none.

    Raises:
        InputError: both files are given, or one is invalid.
    """
    from imbalance_bench.categories import CategoryTable
    from imbalance_bench.checkpoints import own as checkpoints

    if annotations is not None and counts is not None:
        raise InputError("options '--train-annotations' and '--counts' say the same, expected one of them")
    if annotations is not None:
        return CategoryTable.from_annotations(annotations)
    if counts is not None:
        return CategoryTable.from_counts(counts)
    return checkpoints.categories_of({"meta": checkpoint.meta}, checkpoint.path)


def _description(classifier: FoundClassifier) -> str:
    """Describe a found classifier in one line."""
    row = classifier.background_row
    where = "no row for background" if row is None else f"background is row {row}"
    classes = len(classifier.weights) - 1
    return f"{classifier.framework}; {classifier.width} rows, {where}; {classes} class{'es' * (classes != 1)}"


def _write(frames: dict[str, pd.DataFrame], output: Path) -> None:
    """Write one CSV for each stage, with the stage in its name if there are several."""
    from imbalance_bench.runtime.files import write_text

    for stage, frame in frames.items():
        # A stage is named by the file: nothing but a name may come of it.
        part = re.sub(r"[^\w.-]", "_", stage)
        target = output.with_stem(f"{output.stem}-{part}") if len(frames) > 1 else output
        write_text(target, frame.to_csv())
        written(target)
