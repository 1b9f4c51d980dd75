"""Commands that analyse run folders; they train nothing."""

from __future__ import annotations

from collections.abc import Sequence
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
    image_path,
    say,
    show,
    written,
)
from imbalance_bench.runtime.errors import InputError, look_up

if TYPE_CHECKING:
    import pandas as pd

    from ..studies import Study

figures = typer.Typer(no_args_is_help=True, help="Draw the figures of the study.")


def table(
    number: Annotated[int, typer.Argument(help="Table of the paper, 1 to 6.")],
    published: Annotated[bool, typer.Option("--published", help="Show the paper's own numbers instead.")] = False,
    versus: Annotated[
        bool, typer.Option("--versus-paper", help="Compare the differences to the baseline, and their order, with it.")
    ] = False,
    columns: Annotated[
        str | None, typer.Option("--columns", help="Measures to show, separated by commas: mAP,AP1,AP4,ACCbg.")
    ] = None,
    delta: Annotated[
        str | None, typer.Option("--delta", help="Show differences to this method, such as x2-cls, seed by seed.")
    ] = None,
    dataset: DatasetOption = DATASET,
    detector: DetectorOption = DETECTOR,
    work_dir: WorkDirOption = WORK_DIR,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write CSV, Markdown and LaTeX here (folder).")
    ] = None,
) -> None:
    """Show a table of the paper as measured: one row per setting with a finished run, mean and deviation over seeds.

    LaTeX is as papers print it: columns in groups, the best of each in bold.

    Example: imbalance-bench table 1 --dataset emoji-lt-small

    Example: imbalance-bench table 1 --columns mAP,AP1,AP2,AP3,AP4 --delta x2-cls -o tables
    """
    if number not in range(1, 7):
        raise InputError(f"table {number}: the paper has Tables 1 to 6")
    if published:
        if output is not None:
            raise InputError("option '--output' has no use with '--published': results/published has these files")
        from .. import published as paper

        _print_published(paper.printed(number), number)
        return
    from ..studies import STUDIES

    root, study = finished(dataset, detector, work_dir), STUDIES[f"table {number}"]
    chosen = _columns(columns)
    print_study(root, study, versus, chosen, delta)
    if output is not None:
        from ..outputs import write_study

        for path in write_study(root, study, output, chosen, delta):
            written(path)


def _print_published(frame: pd.DataFrame, number: int) -> None:
    """Print a table of the paper with its published numbers, eight in each line, and its notes below."""
    names = [column for column in frame if column in ("ID", "Models", "Backbone", "Mode", "Part", "b", "o", "N")]
    numbers = [column for column in frame if column not in (*names, "note")]
    notes = [f"({row.iloc[0]}) {row['note']}" for _, row in frame.iterrows() if row.get("note")]
    for start in range(0, len(numbers), 8):
        last = start + 8 >= len(numbers)
        title = f"Table {number} as the paper prints it (percent)"
        show(frame[names + numbers[start : start + 8]], title, "; ".join(notes) if last else None)


def _columns(names: str | None) -> tuple[str, ...]:
    """Parse names of measures; None: all.

    Raises:
        InputError: there is none, or one is unknown.
    """
    from .. import tables

    if names is None:
        return tables.COLUMNS
    known = dict.fromkeys(tables.COLUMNS)
    for name in (found := [name.strip() for name in names.split(",")]):
        look_up(known, name, "measure")
    return tuple(dict.fromkeys(found))


def print_study(
    root: Path,
    study: Study,
    versus: bool = False,
    columns: Sequence[str] | None = None,
    over: str | None = None,
) -> None:
    """Print a study: AP, proposal accuracy below it, and on request the comparison with the paper's differences.

    Args:
        root: ``work_dir/<dataset>/<detector>``.
        study: the study.
        versus: compare with the paper.
        columns: measures; None: all.
        over: row that differences to are shown, as ``tables.summary``.
    """
    from .. import tables

    runs = tables.study_runs(root, study)
    frame = tables.summary(runs, study, over)
    name, what = study.name.capitalize(), f"differences to {over}" if over else "measured"
    kinds = {
        "average precision": tables.AP_COLUMNS,
        "average precision of masks (^m)": tables.MASK_COLUMNS,
        "proposal accuracy": tables.ACC_COLUMNS,
    }
    for title, measures in kinds.items():
        chosen = [column for column in columns or tables.COLUMNS if column in measures and column in frame]
        if chosen:
            show(tables.shown(frame, study, chosen), f"{name}, {what}: {title}")
    say(tables.caption(runs, over), style="dim")
    if versus:
        wide = tables.signs(tables.versus_paper(runs, study), study)
        masks = [measure for measure in wide if measure in tables.MASK_COLUMNS]
        accuracies = [measure for measure in wide if measure in tables.ACC_COLUMNS]
        caption = (
            "Ours, against the sign of the paper's difference: ✓ agrees, ✗ disagrees, ~ within noise (twice the "
            "deviation of the difference over seeds), or the paper has none. With one seed noise is not known."
        )
        labels = list(study.rows[0].labels)
        show(wide.drop(columns=[*masks, *accuracies]), f"{name}: differences to the baseline in points, AP", caption)
        for what, columns in (("AP of masks", masks), ("accuracy", accuracies)):
            if columns:
                show(wide[[*labels, *columns]], f"{name}: differences to the baseline in points, {what}")
        print_fidelity(runs, study)


def print_fidelity(runs: pd.DataFrame, study: Study) -> None:
    """Print how well the measured order repeats the paper's, for each measure."""
    from .. import fidelity

    title = f"{study.name.capitalize()}: fidelity to the paper's order"
    show(fidelity.shown(fidelity.fidelity(runs, study)), title, fidelity.caption(runs, study))


@figures.command("weight-norms")
def figure_weight_norms(
    runs: Annotated[list[str] | None, typer.Argument(help="Run folders by name, e.g. baseline bags tau-norm.")] = None,
    dataset: DatasetOption = DATASET,
    detector: DetectorOption = DETECTOR,
    seed: SeedOption = 0,
    work_dir: WorkDirOption = WORK_DIR,
    output: OutputOption = Path("weight_norms.png"),
) -> None:
    """Draw weight norm against rank by train instances, with bins marked (Figures 1 and 3 of the paper).

    Example: imbalance-bench figure weight-norms baseline bags reweight-cls -o norms.pdf
    """
    root = finished(dataset, detector, work_dir)
    from .. import outputs

    written(outputs.draw_weight_norms(root / f"seed{seed}", image_path(output), runs or outputs.COMPARED))


@figures.command("ap-by-bin")
def figure_ap_by_bin(
    dataset: DatasetOption = DATASET,
    detector: DetectorOption = DETECTOR,
    work_dir: WorkDirOption = WORK_DIR,
    output: OutputOption = Path("ap_by_bin.png"),
) -> None:
    """Draw the AP of every finished run in every bin.

    Example: imbalance-bench figure ap-by-bin -o ap.png
    """
    root = finished(dataset, detector, work_dir)
    from .. import outputs

    written(outputs.draw_ap_by_bin(root, image_path(output)))


@figures.command("learning-curves")
def figure_learning_curves(
    runs: Annotated[list[str] | None, typer.Argument(help="Run folders by name, e.g. baseline x2; else all.")] = None,
    dataset: DatasetOption = DATASET,
    detector: DetectorOption = DETECTOR,
    work_dir: WorkDirOption = WORK_DIR,
    output: OutputOption = Path("learning_curves.png"),
) -> None:
    """Draw AP on validation by epoch of runs made with --curve, all and by bin; a band for several seeds.

    Epochs of a run that goes on from another, such as x2, are counted on from that one.

    Example: imbalance-bench figure learning-curves baseline x2
    """
    root = finished(dataset, detector, work_dir)
    from .. import outputs

    written(outputs.draw_learning_curves(root, image_path(output), runs or ()))


@figures.command("worlds")
def figure_worlds(
    detector: DetectorOption = DETECTOR,
    work_dir: WorkDirOption = WORK_DIR,
    output: OutputOption = Path("worlds.png"),
) -> None:
    """Draw Table 1 on the embedded set and on sets that lack some of its properties, beside the paper's.

    Of seeds from 10 on, by which the set was chosen. The runs are written beside the figure as CSV.

    Example: imbalance-bench figure worlds
    """
    path = image_path(output)
    from .. import outputs

    for file in outputs.draw_worlds(work_dir, detector, path):
        written(file)


@figures.command("detections")
def figure_detections(
    runs: Annotated[list[str] | None, typer.Argument(help="Run folders by name, e.g. baseline bags.")] = None,
    images: Annotated[int, typer.Option("--images", min=1, help="How many images.")] = 2,
    dataset: DatasetOption = DATASET,
    detector: DetectorOption = DETECTOR,
    seed: SeedOption = 0,
    data_dir: DataDirOption = DATA_DIR,
    work_dir: WorkDirOption = WORK_DIR,
    output: OutputOption = Path("detections.png"),
) -> None:
    """Draw validation images with ground truth and the detections of some runs side by side.

    Example: imbalance-bench figure detections baseline bags --images 4
    """
    from imbalance_bench.datasets import registry
    from imbalance_bench.runtime.progress import Reporter

    root, path = finished(dataset, detector, work_dir) / f"seed{seed}", image_path(output)
    from imbalance_bench.experiments.run_folder import RunFolder

    from .. import outputs

    for run in (RunFolder(root / name) for name in runs or outputs.COMPARED):
        run.verified(run.detections)
    data = registry.prepare(dataset, data_dir, Reporter(console))
    written(outputs.draw_detections(root, data, path, runs or outputs.COMPARED, images))


@figures.command("1")
def figure_1(
    balanced: Annotated[str, typer.Option("--balanced", help="The balanced twin.")] = "emoji-balanced-small",
    dataset: DatasetOption = DATASET,
    detector: DetectorOption = DETECTOR,
    seed: SeedOption = 0,
    work_dir: WorkDirOption = WORK_DIR,
    output: OutputOption = Path("figure1.png"),
) -> None:
    """Draw weight norms of the baseline trained on balanced and on long-tailed data (Figure 1 of the paper).

    Example: imbalance-bench figure 1 --balanced emoji-balanced-small --dataset emoji-lt-small
    """
    finished(dataset, detector, work_dir)
    from .. import outputs

    runs = [work_dir / name / detector / f"seed{seed}" / "baseline" for name in (balanced, dataset)]
    written(outputs.draw_figure1(runs[0], runs[1], image_path(output)))


@figures.command("3")
def figure_3(
    dataset: DatasetOption = DATASET,
    detector: DetectorOption = DETECTOR,
    seed: SeedOption = 0,
    work_dir: WorkDirOption = WORK_DIR,
    output: OutputOption = Path("figure3.png"),
) -> None:
    """Draw weight norms of baseline, RFS, Re-weight-cls and BAGS (Figure 3 of the paper).

    Example: imbalance-bench figure 3 -o figure3.pdf
    """
    figure_weight_norms(["baseline", "rfs", "reweight-cls", "bags"], dataset, detector, seed, work_dir, output)


@figures.command("4")
def figure_4(
    versus: Annotated[
        bool, typer.Option("--versus-paper", help="Compare the order of the settings with the one that its text has.")
    ] = False,
    dataset: DatasetOption = DATASET,
    detector: DetectorOption = DETECTOR,
    work_dir: WorkDirOption = WORK_DIR,
    output: OutputOption = Path("figure4.png"),
) -> None:
    """Draw AP against beta, the others sampled per foreground RoI (Figure 4 of the paper).

    With --versus-paper also as <figure>_fidelity.csv beside the figure.

    Example: imbalance-bench figure 4 --versus-paper
    """
    root, path = finished(dataset, detector, work_dir), image_path(output)
    from .. import outputs, tables
    from ..studies import STUDIES

    study = STUDIES["figure 4"]
    written(outputs.draw_study(root, study, path))
    if versus:
        runs = tables.study_runs(root, study)
        print_fidelity(runs, study)
        written(outputs.write_fidelity(runs, study, path.with_name(f"{path.stem}_fidelity.csv")))


@figures.command("5")
def figure_5(
    dataset: DatasetOption = DATASET,
    detector: DetectorOption = DETECTOR,
    work_dir: WorkDirOption = WORK_DIR,
    output: OutputOption = Path("figure5.png"),
) -> None:
    """Draw AP by settings of re-weighting and tau-normalisation (Figure 5 of the paper).

    Example: imbalance-bench figure 5
    """
    root = finished(dataset, detector, work_dir)
    from .. import outputs
    from ..studies import STUDIES

    written(outputs.draw_study(root, STUDIES["figure 5"], image_path(output)))


@figures.command("6")
def figure_6(data_dir: DataDirOption = DATA_DIR, output: OutputOption = Path("figure6.png")) -> None:
    """Draw train instances of COCO, of LVIS aligned by rank, and of COCO-LT (Figure 6 of the paper).

    If coco-lt is not prepared, the embedded balanced set replaces COCO: the same recipe on other counts.

    Example: imbalance-bench figure 6 -o figure6.pdf
    """
    path = image_path(output)
    from .. import outputs

    written(outputs.draw_figure6(data_dir, path))


def finished(dataset: str, detector: str, work_dir: Path) -> Path:
    """Return the folder of a benchmark's seeds.

    Raises:
        InputError: the folder does not exist: nothing has been run.
    """
    root = work_dir / dataset / detector
    if not root.is_dir():
        there = ", ".join(str(path.relative_to(work_dir)) for path in sorted(work_dir.glob("*/*/")) if path.is_dir())
        known = f" (there are {there})" if there else ""
        raise InputError(f"{root}: no runs there yet{known}, 'run-baseline --dataset {dataset}' makes the first")
    return root
