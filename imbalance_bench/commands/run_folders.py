"""Commands that list, copy and join run folders."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from imbalance_bench.commands.options import WORK_DIR, WorkDirOption, say, show, written
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.progress import duration

MEASURED = Path("results/measured")


def runs(work_dir: WorkDirOption = WORK_DIR) -> None:
    """List run folders with their state, key numbers and age.

    Example: imbalance-bench runs
    """
    import pandas as pd

    from imbalance_bench.evaluation.views import percent
    from imbalance_bench.experiments.run_folder import RunFolder

    rows = []
    # What ``export`` copied has a record alone.
    begun = {path.parent for name in ("settings", "record") for path in work_dir.glob(f"*/*/seed*/*/{name}.json")}
    for folder in map(RunFolder, sorted(begun)):
        metrics = folder.record()["metrics"] if folder.is_done else {}
        newest = max(file.stat().st_mtime for file in folder.path.iterdir() if file.is_file())
        rows.append(
            {
                "run": str(folder.path.relative_to(work_dir)),
                "state": "done" if folder.is_done else "running" if folder.is_held() else "interrupted",
                **{name: percent(metrics.get(name)) for name in ("mAP", "AP1", "ACCbg")},
                "age": duration(time.time() - newest),
            }
        )
    if not rows:
        raise InputError(f"{work_dir}: no run folders there, 'run-baseline' makes the first")
    show(pd.DataFrame(rows), f"runs in {work_dir}")


def export(
    work_dir: WorkDirOption = WORK_DIR,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder that takes the copies.")] = Path(
        "results/measured"
    ),
) -> None:
    """Copy records, per-category tables and learning curves of finished runs, without checkpoints, to keep or share.

    Tables and most figures can be made from the copies: --work-dir names the folder.

    Example: imbalance-bench export --work-dir work_dirs -o results/measured
    """
    from imbalance_bench.runtime.files import write_text

    finished = sorted(path.parent for path in work_dir.glob("*/*/seed*/*/record.json"))
    if not finished:
        raise InputError(f"{work_dir}: no finished run there")
    for folder in finished:
        curve = [path.name for path in folder.glob("curve.csv")]
        for name in ("per_category.csv", *curve, "record.json"):
            write_text(output / folder.relative_to(work_dir) / name, (folder / name).read_text(encoding="utf-8"))
    say(f"{len(finished)} runs copied to {output}")


def check_runs(
    folder: Annotated[Path, typer.Argument(help="Folder with runs or their exported copies, at any depth.")],
) -> None:
    """Check records and per-category tables of finished runs: fields, ranges, metrics against the table, private paths.

    Runs in results/contributed pass it. Exit status 1 if something is wrong.

    Example: imbalance-bench check-runs results/contributed
    """
    from imbalance_bench.experiments.record_check import problems

    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    runs = sorted(path.parent for path in folder.rglob("record.json"))
    found = [problem for run in runs for problem in problems(run)]
    for problem in found:
        say(problem)
    say(f"{len(runs)} runs checked, {len(found)} problems")
    if found:
        raise typer.Exit(1)


def model_index(
    run: Annotated[Path, typer.Argument(help="Run folder, or its exported copy.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="YAML file.")] = Path("model_index.yml"),
) -> None:
    """Write the results of a run as Hugging Face model cards have them ('model-index'), to paste into a README.md.

    Example: imbalance-bench model-index work_dirs/my-set/small/seed0/bags
    """
    from imbalance_bench.experiments.model_index import model_index as index
    from imbalance_bench.experiments.run_folder import RunFolder
    from imbalance_bench.runtime.files import write_text

    write_text(output, index(RunFolder(run)))
    written(output)


def per_category(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, or their per-category tables (.csv, .parquet).")],
    measure: Annotated[
        str, typer.Option("--measure", help="Column that is shown: ap, accuracy, weight_norm, logit_magnitude ...")
    ] = "ap",
    by: Annotated[str, typer.Option("--by", help="Grouper: bin or frequency.")] = "bin",
    weights: Annotated[
        str | None, typer.Option("--weights", help="Column to weight by: proposals (of accuracy), val_instances ...")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write all measures of all runs here (.csv or .parquet).")
    ] = None,
) -> None:
    """Show a measure of the per-category tables of several runs by groups of classes, and join the tables.

    Any measure and any grouper can be chosen. Runs are shown below each other; tables are joined on category id.

    Example: imbalance-bench per-category work_dirs/emoji-lt-small/tiny/seed0/* --measure mean_score -o all.parquet
    """
    import pandas as pd

    from imbalance_bench.evaluation import per_category as tables
    from imbalance_bench.evaluation.measures import of_column
    from imbalance_bench.experiments.run_folder import RunFolder

    if by not in ("bin", "frequency"):
        raise InputError(f"option '--by' is '{by}', expected bin or frequency")
    if output is not None and output.suffix not in tables.SUFFIXES:
        raise InputError(
            f"option '--output' is '{output}', expected a name that ends in {' or '.join(tables.SUFFIXES)}"
        )
    sources = {}
    for path in runs:
        run = RunFolder(path)
        name = path.name if path.is_dir() else str(path.with_suffix(""))
        sources[str(path) if name in sources else name] = run.verified(run.per_category) if path.is_dir() else path
    joined = tables.join(sources)
    rows = {name: tables.grouped_by(source, measure, by, weights) for name, source in sources.items()}
    frame = pd.DataFrame(rows).T.map("{:.4f}".format).rename_axis("run").reset_index()
    known = of_column(measure)
    says = f"{measure}: {known.columns[measure]}; " if known else ""
    caption = f"{says}means over categories" + (f", weighted by {weights}" if weights else "")
    show(frame.replace("nan", "-"), f"{measure} by {by}", caption)
    if output is not None:
        written(tables.write(joined, output))
