"""Commands that list and prepare data sets."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from imbalance_bench.commands.options import (
    DATA_DIR,
    DataDirOption,
    SeedOption,
    SkipMissingOption,
    VerifyImagesOption,
    console,
    parse_bin_edges,
    say,
    show,
)
from imbalance_bench.runtime.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from imbalance_bench.datasets.registry import DataSet

SIZED = ("tiny", "small", "faster-rcnn-r50")
"""Detectors whose anchors and image sizes are compared with a data set's boxes, one a scale."""

app = typer.Typer(no_args_is_help=True, help="List data sets, draw them, and check those that lie on disk.")


@app.command("list")
def list_datasets(data_dir: DataDirOption = DATA_DIR) -> None:
    """List the data sets and their state, and say how to prepare the missing ones.

    Example: imbalance-bench datasets list
    """
    import pandas as pd

    from imbalance_bench.datasets import registry

    rows = [(name, *registry.describe(name, data_dir)) for name in registry.names(data_dir)]
    how = (
        "not drawn yet: drawn when first used; not there: 'datasets prepare NAME --root DIR', nothing is downloaded; "
        "your own: 'datasets prepare custom ...', also yolo, voc, roboflow ('datasets prepare --help' shows examples)"
    )
    show(pd.DataFrame(rows, columns=["name", "state", "what"]), f"data sets in {data_dir}", how)


@app.command()
def prepare(
    name: Annotated[
        str, typer.Argument(help="Data set ('datasets list'); or custom, yolo, voc, roboflow for your own.")
    ],
    root: Annotated[
        Path | None,
        typer.Option("--root", help="Folder of a public data set as its site lays it out; of yours; yolo: data.yaml."),
    ] = None,
    skip_missing: SkipMissingOption = False,
    verify_images: VerifyImagesOption = False,
    bin_edges: Annotated[
        str | None,
        typer.Option(
            "--bin-edges",
            help="Bins by train instances, e.g. 10,100,1000; custom: else fitted to the counts.",
        ),
    ] = None,
    targets: Annotated[
        Path | None, typer.Option("--targets", help="coco-lt-simcal: CSV with 'id' or 'name', and 'instance_count'.")
    ] = None,
    seed: SeedOption = 0,
    own_name: Annotated[str | None, typer.Option("--name", help="Your own: name to give it.")] = None,
    train_annotations: Annotated[
        Path | None, typer.Option("--train-annotations", help="custom: COCO or LVIS format.")
    ] = None,
    val_annotations: Annotated[Path | None, typer.Option("--val-annotations", help="custom: the same.")] = None,
    train_images: Annotated[Path | None, typer.Option("--train-images", help="custom: folder of images.")] = None,
    val_images: Annotated[Path | None, typer.Option("--val-images", help="custom: folder of images.")] = None,
    stuff_maps: Annotated[
        Path | None, typer.Option("--stuff-maps", help="custom: folder of a PNG a training image, for HTC.")
    ] = None,
    untrained_in_bins: Annotated[
        bool, typer.Option("--untrained-in-bins", help="custom: classes without a train instance count to bin 1.")
    ] = False,
    data_dir: DataDirOption = DATA_DIR,
) -> None:
    """Draw an embedded data set, or check one on disk and register it by name.

    Nothing is downloaded. For LVIS, COCO, Open Images, Objects365 and V3Det give the folder; COCO-LT is sampled from
    COCO (--seed). Your own data set is two annotation files and two image folders (custom), or a folder in the layout
    of YOLO, Pascal VOC or Roboflow's COCO export; then it is used as '--dataset my-set'.

    Example: imbalance-bench datasets prepare emoji-lt-small

    Example: imbalance-bench datasets prepare lvis-v1 --root /data/lvis

    Example: imbalance-bench datasets prepare custom --name my-set --train-annotations train.json
    --val-annotations val.json --train-images images/train --val-images images/val

    Example: imbalance-bench datasets prepare yolo --name my-set --root data.yaml
    """
    from imbalance_bench.datasets import registry
    from imbalance_bench.datasets.formats import FORMATS
    from imbalance_bench.datasets.layouts import LAYOUTS
    from imbalance_bench.datasets.prepared import prepare_layout, prepare_splits
    from imbalance_bench.datasets.split import Split
    from imbalance_bench.runtime.progress import Reporter

    files: dict[str, Any] = {
        "--train-annotations": train_annotations, "--val-annotations": val_annotations,
        "--train-images": train_images, "--val-images": val_images,
    }  # fmt: skip
    shared: dict[str, Any] = {
        "bin_edges": parse_bin_edges(bin_edges), "skip_missing": skip_missing, "verify_images": verify_images,
        "reporter": Reporter(console),
    }  # fmt: skip
    only_custom = files | {"--stuff-maps": stuff_maps}
    if name == "custom" or name in FORMATS:
        own_name = _checked_name(name, own_name)
        if name == "custom":
            _refuse(name, {"--root": root, "--targets": targets})
            _need(name, files)
            splits = {key: Split(files[f"--{key}-annotations"], files[f"--{key}-images"]) for key in ("train", "val")}
        else:
            _refuse(name, only_custom | {"--targets": targets})
            _need(name, {"--root": root})
            splits = FORMATS[name](cast(Path, root), shared["reporter"])
        what = "your own" if name == "custom" else f"your own, from {name}"
        shared |= {"stuff_maps": stuff_maps, "untrained_in_bins": untrained_in_bins, "fit_bins": True}
        record = prepare_splits(own_name, splits, data_dir / own_name, what=what, attribution="", **shared)
        name = own_name
    elif name in LAYOUTS and root is not None:
        _refuse(name, only_custom | {"--name": own_name, "--untrained-in-bins": untrained_in_bins or None})
        record = prepare_layout(name, root, data_dir / name, targets=targets, seed=seed, **shared)
    else:
        others = {"--name": own_name, "--root": root, "--targets": targets, "--bin-edges": bin_edges}
        _refuse(name, only_custom | others | {"--untrained-in-bins": untrained_in_bins or None})
        record = {}
    _show(registry.prepare(name, data_dir, Reporter(console)), data_dir / name, record)


def _refuse(name: str, options: dict[str, Any]) -> None:
    """Refuse options that have no effect for a data set.

    Raises:
        InputError: one of them is given.
    """
    for option, value in options.items():
        if value is not None:
            raise InputError(f"option '{option}' has no use with '{name}' as it stands ('datasets prepare --help')")


def _need(name: str, options: dict[str, Any]) -> None:
    """Require options of a data set.

    Raises:
        InputError: one of them is not given.
    """
    for option, value in options.items():
        if value is None:
            raise InputError(f"{name} needs option '{option}' too ('datasets prepare --help' shows an example)")


def _checked_name(given: str, name: str | None) -> str:
    """Check and return the name of the user's own data set, given as ``custom`` or in a format; it becomes a folder's.

    Raises:
        InputError: there is none, it is taken, or it holds other characters than letters, digits, dots, dashes and
            underscores.
    """
    from imbalance_bench.datasets.emoji_profile import PROFILES
    from imbalance_bench.datasets.formats import FORMATS
    from imbalance_bench.datasets.layouts import LAYOUTS

    _need(given, {"--name": name})
    name = str(name)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise InputError(f"option '--name' is '{name}', expected letters, digits, dots, dashes and underscores")
    if name in (*PROFILES, *LAYOUTS, *FORMATS, "custom"):
        raise InputError(f"option '--name' is '{name}', which is the name of another data set")
    return name


def _show(dataset: DataSet, folder: Path, record: dict[str, Any]) -> None:
    """Show the bins of a data set and the findings of its check."""
    import pandas as pd

    from imbalance_bench.bins import UNTRAINED, bin_names
    from imbalance_bench.runtime.errors import first

    frame, edges = _table(dataset, folder)
    rows = []
    bins = dict(enumerate(bin_names(edges), start=1))
    if (frame["bin"] == 0).any():
        bins[0] = UNTRAINED
    for number, bin_name in bins.items():
        part = frame[frame["bin"] == number]
        in_val = part["val_instance_count"]
        rows.append((bin_name, len(part), part["instance_count"].sum(), (in_val > 0).sum(), in_val.sum()))
    columns = ["bin", "classes", "train instances", "classes in val", "val instances"]
    title = f"{dataset.name}: {len(frame)} classes, {'federated' if dataset.lvis_style else 'exhaustively annotated'}"
    show(pd.DataFrame(rows, columns=columns), title, dataset.attribution)
    for split, column in (("train", "instance_count"), ("val", "val_instance_count")):
        notes = list(record.get(split, {}).get("notes", ()))
        if without := frame.loc[frame[column] == 0, "name"].tolist():
            classes = "class" if len(without) == 1 else "classes"
            notes.append(f"{len(without):,} {classes} without an instance: {first(without, 5)}")
        for note in notes:
            say(f"{split}: {note}")
    if record and dataset.epoch_factor > 1:
        say(f"train: few images, so schedules of detectors have {dataset.epoch_factor:g} times as many epochs")
    _show_sizes(dataset)
    say(f"train: {dataset.train_annotations}\nval:   {dataset.val_annotations}")


def _show_sizes(dataset: DataSet) -> None:
    """Show the sizes of the training boxes, and whose anchors and image size do not suit them."""
    import numpy as np
    import pandas as pd

    from imbalance_bench.categories import read_json
    from imbalance_bench.datasets.box_sizes import SMALL_SIDE, fit, sizes

    boxes, images = sizes(read_json(dataset.train_annotations))
    if not len(boxes):
        return
    low, middle, high = np.quantile(np.sqrt(boxes.prod(axis=1)), (0.05, 0.5, 0.95))
    widths, heights = np.median(images, axis=0)
    say(
        f"train: boxes of {low:.0f} to {high:.0f} pixels (square root of the area, 5 to 95 %), median {middle:.0f}, "
        f"in images of {widths:.0f} x {heights:.0f} (median)"
    )
    if find_spec("mmdet") is None:
        return
    from imbalance_bench.detectors.mmdet import catalogue
    from imbalance_bench.detectors.mmdet.anchors import anchor_sizes, resize_factors

    rows, warnings = [], []
    for name in SIZED:
        detector = catalogue.get(name)
        found = fit(boxes * resize_factors(detector, images)[:, None], anchor_sizes(detector))
        rows.append((name, f"{found.side:.0f}", f"{found.no_anchor:.1%}", f"{found.small:.1%}"))
        warnings += found.warnings(name)
    columns = ["detector", "median box, pixels", "boxes without an anchor", f"boxes below {SMALL_SIDE} pixels"]
    show(pd.DataFrame(rows, columns=columns), "training boxes at the size of a detector's images")
    for warning in warnings:
        say(warning, style="yellow")


def _table(dataset: DataSet, folder: Path) -> tuple[pd.DataFrame, tuple[int, ...]]:
    """Return the categories with counts of both splits, and the bin edges; prepared sets are not read again."""
    from imbalance_bench.datasets.prepared import read_table, val_counts

    if dataset.bin_edges is not None:
        return read_table(folder), dataset.bin_edges
    categories = dataset.categories()
    counts = val_counts(dataset.val_annotations, categories)
    return categories.frame().assign(val_instance_count=counts), categories.bin_edges
