"""The files of a study: its tables as CSV, Markdown and LaTeX, and its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from imbalance_bench import plotting
from imbalance_bench.bins import bin_names
from imbalance_bench.evaluation import error_views
from imbalance_bench.evaluation.weight_norms import correlation_text
from imbalance_bench.experiments.run_folder import RunFolder
from imbalance_bench.methods import METHODS, start_of
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.files import write_text

from . import coco_lt, fidelity, figures, latex, tables, worlds
from .beyond import CONTROL
from .studies import STUDIES, Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from imbalance_bench.datasets.registry import DataSet

COMPARED = ("baseline", "bags")
"""Runs that the weight-norm figure and the contact sheet show, if not others are named."""
PICTURED = {"as it is": "baseline", "trained longer": "x2-cls", "BAGS": "bags", "re-weighted": "reweight-cls"}
"""Methods of ``overview``, by what its legend calls them."""


def overview(folder: str | Path) -> Figure:
    """Draw why rare classes are missed, and what helps, on one data set: the README's first picture.

    Args:
        folder: of results, with ``beyond.csv`` and the exported baseline of seed 0.
    """
    frame = pd.read_csv(Path(folder) / "beyond.csv")
    default = frame[frame["kind"] == "default"].set_index("method")
    means = default.loc[list(PICTURED.values())].set_axis(list(PICTURED))
    baseline = RunFolder(next(iter(sorted(Path(folder).glob("*/seed0/baseline")))))
    return figures.overview(baseline.table(), means, _bin_names(baseline), "a plain Faster R-CNN")


def write_study(
    root: Path, study: Study, folder: Path, columns: Sequence[str] = tables.COLUMNS, over: str | None = None
) -> list[Path]:
    """Write a table as CSV (one row per run, fractions, with provenance), Markdown and LaTeX (percent, seed means).

    Its fidelity to the paper's table is a section of the Markdown, and a CSV of its own (``<name>_fidelity.csv``).

    Args:
        root: ``work_dir/<dataset>/<detector>``.
        study: study to write.
        folder: output folder.
        columns: measures in Markdown and LaTeX.
        over: row that Markdown and LaTeX show differences to, as ``tables.summary``.
    """
    runs, name = tables.study_runs(root, study), study.name.replace(" ", "")
    caption = f"{study.title}. {tables.caption(runs, over)}"
    texts = {
        f"{name}.csv": runs.to_csv(index=False),
        f"{name}.md": markdown(runs, study, columns, over) + "\n",
        f"{name}.tex": latex.table(tables.summary(runs, study, over), study, columns, caption) + "\n",
    }
    for file, text in texts.items():
        write_text(folder / file, text)
    return [*(folder / file for file in texts), write_fidelity(runs, study, folder / f"{name}_fidelity.csv")]


def markdown(runs: pd.DataFrame, study: Study, columns: Sequence[str] = tables.COLUMNS, over: str | None = None) -> str:
    """Write a table's values and its fidelity to the paper's table as Markdown, each with its caption."""
    found = fidelity.fidelity(runs, study)
    shown = tables.shown(tables.summary(runs, study, over), study, columns)
    parts = [tables.markdown(shown), tables.caption(runs, over)]
    if not found.empty:
        parts += [tables.markdown(fidelity.shown(found)), fidelity.caption(runs, study)]
    return "\n\n".join(parts)


def write_fidelity(runs: pd.DataFrame, study: Study, path: Path) -> Path:
    """Write the fidelity of a study to the paper as CSV."""
    write_text(path, fidelity.fidelity(runs, study).to_csv(index=False))
    return path


def draw_weight_norms(seed: Path, path: Path, runs: Sequence[str] = COMPARED) -> Path:
    """Draw weight norm against rank (Figures 1 and 3).

    Args:
        seed: folder of the runs of one seed.
        path: path of the figure.
        runs: names of run folders.
    """
    return plotting.save(weight_norms({title(name): seed / name for name in runs}, seed.parents[1].name), path)


def weight_norms(folders: Mapping[str, str | Path], text: str = "") -> Figure:
    """Draw weight norm against rank by train instances (Figures 1 and 3).

    Args:
        folders: run folders by what the legend calls them; of several data sets, each is ranked by its own train
            instances, and bins are those of the first.
        text: title of the figure.
    """
    runs = {name: RunFolder(Path(folder)) for name, folder in folders.items()}
    first = next(iter(runs.values()))
    return plotting.weight_norms({name: run.table() for name, run in runs.items()}, _bin_names(first), text)


def norms_by_bin(folders: Mapping[str, str | Path]) -> pd.DataFrame:
    """Compute mean and deviation of the weight norms of each bin's classes, for readers.

    Args:
        folders: run folders by name, on the same classes; a class is in its bin of the first.

    Returns:
        Index: the names; columns ``background``, the bins (``mean±deviation`` over classes), and ``rank correlation``
        of norm and train instances (``-`` where all classes have equally many).
    """
    runs = {name: RunFolder(Path(folder)) for name, folder in folders.items()}
    names = _bin_names(next(iter(runs.values())))
    tables = {name: run.table() for name, run in runs.items()}
    bins = next(iter(tables.values()))["bin"].iloc[:-1]
    rows = {}
    for name, frame in tables.items():
        by_bin = frame["weight_norm"].iloc[:-1].groupby(bins)
        cells = [f"{mean:.2f}±{std:.2f}" for mean, std in zip(by_bin.mean(), by_bin.std(ddof=0), strict=True)]
        own = dict(zip((names[int(number) - 1] for number in by_bin.groups), cells, strict=True))
        rows[name] = {
            "background": f"{frame['weight_norm'].iloc[-1]:.2f}", **own, "rank correlation": correlation_text(frame, 2)
        }  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index")


def errors(folder: str | Path, text: str = "") -> Figure:
    """Draw the kinds of errors by bin that ``errors -o`` wrote into a folder."""
    return plotting.errors(error_views.read(Path(folder)), text)


def draw_ap_by_bin(root: Path, path: Path) -> Path:
    """Draw what every finished run of Table 1 gains in every bin (mean over seeds)."""
    return plotting.save(study_figure(tables.study_runs(root, STUDIES["table 1"]), STUDIES["table 1"]), path)


def study_figure(runs: pd.DataFrame, study: Study) -> Figure:
    """Draw the figure of Table 1 (AP by bin), of Figure 4 or of Figure 5.

    Args:
        runs: result of ``tables.study_runs``.
        study: one of ``DRAWN``.
    """
    if study.name == "table 1":
        return ap_by_bin(runs)
    frame, text = tables.summary(runs, study), runs["dataset"].iloc[0]
    return {"figure 4": figures.sample_ratio, "figure 5": figures.settings_tried}[study.name](frame, text)


def ap_by_bin(runs: pd.DataFrame) -> Figure:
    """Draw what each row of Table 1 gains in every bin over the control, or over its first row without one.

    Args:
        runs: of ``tables.study_runs``.
    """
    over = CONTROL if CONTROL in set(runs["run"]) else runs["run"].iloc[0]
    frame, names = tables.summary(runs, STUDIES["table 1"], over), tables.run_bin_names(runs)
    classes = [int(runs[f"AP{number}_classes"].iloc[0]) for number in range(1, len(names) + 1)]
    gains, compared = frame[frame["is_difference"]], frame[~frame["is_difference"]].iloc[0]
    return figures.ap_by_bin(gains, compared, names, classes, runs["dataset"].iloc[0])


def draw_worlds(work_dir: Path, detector: str, path: Path) -> list[Path]:
    """Draw the study of what makes an embedded set like LVIS, and write its runs beside the figure as CSV."""
    runs = worlds.read(work_dir, detector)
    correlations = worlds.fidelities(runs)[[m for m in ("mAP", "AP1", "AP2", "AP3", "AP4", "ACCbg") if m in runs]]
    drawn = figures.worlds(worlds.gains(runs), correlations, f"Table 1, seeds from {worlds.FIRST_SEED}, {detector}")
    table = path.with_suffix(".csv")
    write_text(table, runs.to_csv(index=False))
    return [plotting.save(drawn, path), table]


def learning_curves(root: Path, runs: Sequence[str] = ()) -> pd.DataFrame:
    """Read the learning curves of runs, of all seeds.

    Args:
        root: ``work_dir/<dataset>/<detector>``.
        runs: names of run folders; all that have a curve, if none is named.

    Returns:
        One row for each run, seed and epoch: ``run`` (title of its method), ``seed``, ``epoch``, ``mAP``, ``AP1``..;
        epochs of a run that goes on from another one are counted from the first epoch of that one.

    Raises:
        InputError: there is no curve, or a named run has none.
    """
    found = {path.parent: pd.read_csv(path) for path in sorted(root.glob("seed*/*/curve.csv"))}
    found = {folder: curve for folder, curve in found.items() if not runs or folder.name in runs}
    missing = sorted(set(runs) - {folder.name for folder in found})
    if missing or not found:
        raise InputError(
            f"{root}: no learning curve of {', '.join(missing) or 'any run'}, 'run-baseline --curve' makes one"
        )
    return pd.concat(
        curve.assign(
            run=title(folder.name),
            seed=RunFolder(folder).record()["settings"]["seed"],
            epoch=curve["epoch"] + _epochs_before(folder),
        )
        for folder, curve in found.items()
    )


def _epochs_before(folder: Path) -> int:
    """Return the epochs of the runs of the same seed that a run goes on from."""
    settings = RunFolder(folder).record()["settings"]
    start = start_of(METHODS[settings["method"]].run(settings["variant"]))
    if start is None or not (before := RunFolder(folder.with_name(start.folder))).is_done:
        return 0
    return int(before.record()["settings"]["schedule"]["epochs"]) + _epochs_before(before.path)


def draw_learning_curves(root: Path, path: Path, runs: Sequence[str] = ()) -> Path:
    """Draw AP on validation by epoch of the runs that ``learning_curves`` reads."""
    curves = learning_curves(root, runs)
    (first, *_) = root.glob("seed*/*/curve.csv")
    return plotting.save(figures.learning_curves(curves, _bin_names(RunFolder(first.parent)), root.parent.name), path)


def draw_figure1(balanced: Path, long_tailed: Path, path: Path) -> Path:
    """Draw Figure 1: weight norms of one detector trained on balanced and on long-tailed data.

    The two sets may have different classes. Each is ranked by its own train instances; bins are those of the
    long-tailed set.

    Args:
        balanced: run folder of the baseline on a balanced set, such as the twin.
        long_tailed: run folder of the baseline on the long-tailed set.
        path: path of the figure.
    """
    runs = {RunFolder(folder).record()["settings"]["dataset"]: folder for folder in (long_tailed, balanced)}
    text = "one detector, each data set's classes by its own train instances"
    return plotting.save(weight_norms(runs, text), path)


def draw_study(root: Path, study: Study, path: Path) -> Path:
    """Draw Figure 4 or 5 from the runs of its sweep."""
    return plotting.save(study_figure(tables.study_runs(root, study), study), path)


def draw_figure6(data_dir: Path, path: Path) -> Path:
    """Draw Figure 6: sorted train instances of COCO, of LVIS aligned to it, and of COCO-LT.

    Args:
        data_dir: folder of data sets; if it has no ``coco-lt``, the embedded balanced set replaces COCO.
        path: path of the figure.
    """
    return plotting.save(figure6(coco_lt.profiles(data_dir)), path)


def figure6(profiles: coco_lt.Profiles) -> Figure:
    """Draw Figure 6.

    Args:
        profiles: result of ``coco_lt.profiles``.
    """
    return figures.aligned_profiles(profiles.frame, coco_lt.reference(), profiles.names, profiles.title)


def draw_detections(seed: Path, dataset: DataSet, path: Path, runs: Sequence[str] = COMPARED, images: int = 2) -> Path:
    """Draw ``contact_sheet``."""
    return plotting.save(contact_sheet(seed, dataset, runs, images), path, dpi=130)


def contact_sheet(seed: Path, dataset: DataSet, runs: Sequence[str], images: int) -> Figure:
    """Draw the validation images with most tail objects: ground truth and each run's detections.

    Raises:
        InputError: a run has no detections, or no longer its own.
        OSError: an image cannot be read.
    """
    from PIL import Image

    from imbalance_bench.evaluation import examples as detections
    from imbalance_bench.evaluation.detections import Detections

    categories = dataset.categories()
    truth = detections.ground_truth(dataset.val_annotations, categories)
    folders = {name: RunFolder(seed / name) for name in runs}
    found = {name: Detections.load(run.verified(run.detections)) for name, run in folders.items()}
    chosen = detections.images_with_most_tail(truth, images, categories.tail_bins)
    of_image = [truth[truth["image_id"] == image_id] for image_id in chosen]
    pictures = []
    for boxes in of_image:
        with Image.open(dataset.val_images / boxes["file_name"].iloc[0]) as picture:
            pictures.append(np.asarray(picture.convert("RGB")))
    best = {
        title(name): [detections.best(d, i, boxes, categories) for i, boxes in zip(chosen, of_image, strict=True)]
        for name, d in found.items()
    }
    text = (
        f"{dataset.name}: the {images} validation images with most objects of tail bins "
        f"({', '.join(map(str, categories.tail_bins))}); of each run the best "
        "detections,\nas many as there are objects: blue where class and place (IoU >= .5) are right, dashed where not"
    )
    return plotting.contact_sheet(pictures, of_image, best, text)


def _bin_names(run: RunFolder) -> list[str]:
    return bin_names(run.record()["settings"]["bin_edges"])


def title(run: str) -> str:
    """Return the title of a run folder's method, with the variant if it is not the default."""
    for name in sorted(METHODS, key=len, reverse=True):
        if run == name:
            return METHODS[name].title
        if run.startswith(f"{name}-"):
            return f"{METHODS[name].title} ({run.removeprefix(f'{name}-')})"
    return run
