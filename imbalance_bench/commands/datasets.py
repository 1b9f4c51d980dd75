"""Commands on data sets."""

from __future__ import annotations

from typing import Annotated

import typer

from imbalance_bench.commands.options import DATA_DIR, DataDirOption, console, show

app = typer.Typer(no_args_is_help=True, help="List data sets and put them on disk.")


@app.command("list")
def list_datasets(data_dir: DataDirOption = DATA_DIR) -> None:
    """Show the known data sets and which of them are on disk.

    Example: imbalance-bench datasets list
    """
    import pandas as pd

    from imbalance_bench.datasets import registry

    rows = []
    for name in registry.names():
        dataset = registry.get(name, data_dir)
        rows.append({"name": name, "on disk": "yes" if dataset.is_prepared() else "no", "what": dataset.description})
    show(pd.DataFrame(rows), f"data sets in {data_dir}")


@app.command()
def prepare(
    name: Annotated[str, typer.Argument(help="Data set, e.g. emoji-lt-small.")], data_dir: DataDirOption = DATA_DIR
) -> None:
    """Draw a data set; one that is on disk already is left as it is.

    Example: imbalance-bench datasets prepare emoji-lt-small
    """
    import pandas as pd

    from imbalance_bench.datasets import registry
    from imbalance_bench.progress import Reporter

    dataset = registry.prepare(name, data_dir, Reporter(console))
    categories = dataset.categories()
    frame = categories.frame()
    rows = [
        {"bin": bin_name, "classes": int((frame["bin"] == number).sum()),
         "train instances": int(frame.loc[frame["bin"] == number, "instance_count"].sum())}
        for number, bin_name in enumerate(categories.bin_names, start=1)
    ]  # fmt: skip
    show(pd.DataFrame(rows), f"{name}: {categories.num_classes} classes", dataset.attribution)
    console.print(f"train: {dataset.train_annotations}\nval:   {dataset.val_annotations}", highlight=False)
