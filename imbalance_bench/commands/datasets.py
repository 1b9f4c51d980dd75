"""Commands that list and prepare data sets."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
        "your own: 'datasets prepare custom ...' ('datasets prepare --help' shows an example)"
    )
    show(pd.DataFrame(rows, columns=["name", "state", "what"]), f"data sets in {data_dir}", how)


@app.command()
def prepare(
    name: Annotated[str, typer.Argument(help="Data set ('datasets list' shows them), or 'custom' for your own.")],
    root: Annotated[
        Path | None, typer.Option("--root", help="Folder of LVIS or COCO, laid out as their sites do.")
    ] = None,
    skip_missing: SkipMissingOption = False,
    verify_images: VerifyImagesOption = False,
    bin_edges: Annotated[
        str | None, typer.Option("--bin-edges", help="Bins by train instances, if not the default, e.g. 10,100,1000.")
    ] = None,
    targets: Annotated[
        Path | None, typer.Option("--targets", help="coco-lt-simcal: CSV with 'id' or 'name', and 'instance_count'.")
    ] = None,
    seed: SeedOption = 0,
    own_name: Annotated[str | None, typer.Option("--name", help="custom: name to give it.")] = None,
    train_annotations: Annotated[
        Path | None, typer.Option("--train-annotations", help="custom: COCO or LVIS format.")
    ] = None,
    val_annotations: Annotated[Path | None, typer.Option("--val-annotations", help="custom: the same.")] = None,
    train_images: Annotated[Path | None, typer.Option("--train-images", help="custom: folder of images.")] = None,
    val_images: Annotated[Path | None, typer.Option("--val-images", help="custom: folder of images.")] = None,
    stuff_maps: Annotated[
        Path | None, typer.Option("--stuff-maps", help="custom: folder of a PNG a training image, for HTC.")
    ] = None,
    data_dir: DataDirOption = DATA_DIR,
) -> None:
    """Draw an embedded data set, or check one on disk and register it by name.

    Nothing is downloaded. For LVIS and COCO give the folder; COCO-LT is sampled from COCO (--seed). Your own data set
    needs two annotation files and two image folders; then it is used as '--dataset my-set'.

    Example: imbalance-bench datasets prepare emoji-lt-small

    Example: imbalance-bench datasets prepare lvis-v1 --root /data/lvis

    Example: imbalance-bench datasets prepare custom --name my-set --train-annotations train.json
    --val-annotations val.json --train-images images/train --val-images images/val
    """
    from imbalance_bench.datasets import registry
    from imbalance_bench.datasets.prepared import LAYOUTS, Split, prepare_layout, prepare_splits
    from imbalance_bench.runtime.progress import Reporter

    own: dict[str, Any] = {
        "--name": own_name, "--train-annotations": train_annotations, "--val-annotations": val_annotations,
        "--train-images": train_images, "--val-images": val_images,
    }  # fmt: skip
    shared: dict[str, Any] = {
        "bin_edges": parse_bin_edges(bin_edges), "skip_missing": skip_missing, "verify_images": verify_images,
        "reporter": Reporter(console),
    }  # fmt: skip
    if name == "custom":
        _refuse("custom", {"--root": root, "--targets": targets})
        absent = [option for option, value in own.items() if value is None]
        if absent:
            raise InputError(f"custom needs option '{absent[0]}' too ('datasets prepare --help' shows an example)")
        name = _checked_name(str(own_name))
        splits = {
            "train": Split(own["--train-annotations"], own["--train-images"]),
            "val": Split(own["--val-annotations"], own["--val-images"]),
        }
        shared["stuff_maps"] = stuff_maps
        record = prepare_splits(name, splits, data_dir / name, what="your own", attribution="", **shared)
    elif name in LAYOUTS and root is not None:
        _refuse(name, own | {"--stuff-maps": stuff_maps})
        record = prepare_layout(name, root, data_dir / name, targets=targets, seed=seed, **shared)
    else:
        _refuse(
            name, {**own, "--stuff-maps": stuff_maps, "--root": root, "--targets": targets, "--bin-edges": bin_edges}
        )
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


def _checked_name(name: str) -> str:
    """Check and return the name of the user's own data set; it becomes the name of a folder.

    Raises:
        InputError: the name is taken, or holds other characters than letters, digits, dots, dashes and underscores.
    """
    from imbalance_bench.datasets.emoji_profile import PROFILES
    from imbalance_bench.datasets.prepared import LAYOUTS

    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise InputError(f"option '--name' is '{name}', expected letters, digits, dots, dashes and underscores")
    if name in PROFILES or name in LAYOUTS or name == "custom":
        raise InputError(f"option '--name' is '{name}', which is the name of another data set")
    return name


def _show(dataset: DataSet, folder: Path, record: dict[str, Any]) -> None:
    """Show the bins of a data set and the findings of its check."""
    import pandas as pd

    from imbalance_bench.categories import bin_names
    from imbalance_bench.runtime.errors import first

    frame, edges = _table(dataset, folder)
    rows = []
    for number, bin_name in enumerate(bin_names(edges), start=1):
        part = frame[frame["bin"] == number]
        in_val = part["val_instance_count"]
        rows.append((bin_name, len(part), part["instance_count"].sum(), (in_val > 0).sum(), in_val.sum()))
    columns = ["bin", "classes", "train instances", "classes in val", "val instances"]
    title = f"{dataset.name}: {len(frame)} classes, {'federated' if dataset.lvis_style else 'exhaustively annotated'}"
    show(pd.DataFrame(rows, columns=columns), title, dataset.attribution)
    for split, column in (("train", "instance_count"), ("val", "val_instance_count")):
        notes = list(record.get(split, {}).get("notes", ()))
        if without := frame.loc[frame[column] == 0, "name"].tolist():
            notes.append(f"{len(without):,} classes without an instance: {first(without, 5)}")
        for note in notes:
            say(f"{split}: {note}")
    say(f"train: {dataset.train_annotations}\nval:   {dataset.val_annotations}")


def _table(dataset: DataSet, folder: Path) -> tuple[pd.DataFrame, tuple[int, ...]]:
    """Return the categories with counts of both splits, and the bin edges; prepared sets are not read again."""
    from imbalance_bench.datasets.prepared import read_table, val_counts

    if dataset.bin_edges is not None:
        return read_table(folder), dataset.bin_edges
    categories = dataset.categories()
    counts = val_counts(dataset.val_annotations, categories)
    return categories.frame().assign(val_instance_count=counts), categories.bin_edges
