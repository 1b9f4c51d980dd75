"""The command that compares two detectors on the same images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imbalance_bench.commands.evaluate import (
    AnnotationsOption,
    TrainAnnotationsOption,
    check_pair,
    checked,
    ground_truth,
    parse,
    show_protocol,
)
from imbalance_bench.commands.options import (
    DATA_DIR,
    DATASET,
    DataDirOption,
    DatasetOption,
    SeedOption,
    console,
    say,
    show,
    written,
)
from imbalance_bench.runtime.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

MOST_CLASSES = 20
"""Classes that are printed; a page has all."""


def compare(
    run_a: Annotated[Path, typer.Argument(help="Run folder, or a file of detections as 'evaluate' takes it.")],
    run_b: Annotated[Path, typer.Argument(help="Another, on the same data set.")],
    annotations: AnnotationsOption = None,
    train_annotations: TrainAnnotationsOption = None,
    dataset: DatasetOption = DATASET,
    resamples: Annotated[int, typer.Option("--resamples", min=10, help="Draws of the validation images.")] = 200,
    seed: SeedOption = 0,
    data_dir: DataDirOption = DATA_DIR,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write a page with both (.html).")] = None,
) -> None:
    """Compare the AP of two detectors by bin and by class: which differences are real.

    By bin, both get the same draws of validation images; by class, their detections are swapped at random image by
    image, and what differs is adjusted for the number of classes. Both cover the random choice of images, not of
    training (run several seeds). The data set is that of the runs; where both are files, '--dataset' or annotations
    name it.

    Example: imbalance-bench compare a.json b.json --val-annotations val.json --train-annotations train.json -o a.html
    """
    from imbalance_bench.evaluation import uncertainty

    check_pair(annotations, train_annotations)
    if output is not None and output.suffix != ".html":
        raise InputError(f"option '--output' is '{output}', expected a name that ends in .html")
    parsed = {path: parse(path) for path in (run_a, run_b)}
    datasets = {own for _, own in parsed.values() if own is not None}
    if len(datasets) > 1:
        raise InputError(f"{run_b}: evaluated on another data set than {run_a} ({' and '.join(sorted(datasets))})")
    truth = ground_truth(next(iter(datasets), dataset), annotations, train_annotations, data_dir)
    found = {path: checked(read, truth, path) for path, (read, _) in parsed.items()}
    pair = found[run_a], found[run_b]
    with console.status("drawing and swapping validation images"):
        groups, classes = uncertainty.compare(*pair, truth, resamples=resamples, seed=seed)
    names = _names(run_a, run_b)
    _show_groups(groups, names, resamples)
    _show_classes(classes)
    show_protocol(truth)
    for path, detections in found.items():
        if detections.notes:
            say(f"read: {path}: {'; '.join(detections.notes)}")
    if output is not None:
        from imbalance_bench.evaluation import protocol
        from imbalance_bench.pages import comparison
        from imbalance_bench.runtime.files import write_text

        facts = {
            "first": str(run_a),
            "second": str(run_b),
            "draws": f"{resamples} of the validation images, seed {seed}",
            **{f"read {name}": "; ".join(one.notes) for name, one in zip(names, pair, strict=True) if one.notes},
        }
        write_text(output, comparison.render(names, groups, classes, truth.categories, protocol.describe(truth), facts))
        written(output)


def _names(a: Path, b: Path) -> tuple[str, str]:
    """Return the ends of two paths, as long as they need to be to differ."""
    for count in range(1, max(len(a.parts), len(b.parts)) + 1):
        names = "/".join(a.parts[-count:]), "/".join(b.parts[-count:])
        if names[0] != names[1]:
            return names
    return f"{a.name} (first)", f"{b.name} (second)"


def _show_groups(frame: pd.DataFrame, names: tuple[str, str], resamples: int) -> None:
    """Print the differences by group of classes."""
    from imbalance_bench.evaluation.views import limits, percent

    shown = frame.assign(real=frame["real"].map({True: "yes", False: "no"}))
    for column in ("a", "b", "difference"):
        shown[column] = shown[column].map(percent)
    show(
        limits(shown, "images").reset_index(),
        f"a: {names[0]}, b: {names[1]}; AP in percent",
        f"95 % over images: interval of b - a over {resamples} draws of the validation images; real: it excludes 0",
    )


def _show_classes(frame: pd.DataFrame) -> None:
    """Print the classes that differ, the largest differences first, and how many do not or are not judged."""
    from imbalance_bench.evaluation.uncertainty import FEWEST_IMAGES
    from imbalance_bench.evaluation.views import percent

    real = frame[frame["real"]]
    real = real.loc[real["difference"].abs().sort_values(ascending=False, kind="stable").index]
    judged = frame["p"].notna().sum()
    few = (frame["difference"].notna() & frame["p"].isna()).sum()
    if len(real):
        shown = real[["name", "instance_count", "val_instances"]].head(MOST_CLASSES)
        shown = shown.set_axis(["class", "train instances", "val boxes"], axis="columns")
        for column in ("a", "b", "difference", "chance"):
            shown[column] = real[column].head(MOST_CLASSES).map(percent)
        more = f"; {len(real) - MOST_CLASSES} more are on the page (-o)" if len(real) > MOST_CLASSES else ""
        caption = "chance: 95 % of differences where the two are swapped at random, image by image"
        show(shown, "classes that differ", f"{caption}{more}")
    say(
        f"by class: {len(real)} of {judged} differ beyond chance, adjusted for {judged} comparisons"
        + (f"; {few} with boxes in fewer than {FEWEST_IMAGES} images are not judged" if few else "")
    )
