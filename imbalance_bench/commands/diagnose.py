"""The command that diagnoses a user's own detector."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imbalance_bench.commands.options import (
    DeviceOption,
    LabelOrderOption,
    SeedOption,
    SkipMissingOption,
    VerifyImagesOption,
    console,
    parse_bin_edges,
    parse_names,
    say,
    select_device,
    show,
    written,
)
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.progress import Reporter, logged_to
from imbalance_bench.runtime.provenance import command

if TYPE_CHECKING:
    from imbalance_bench.diagnosis import Diagnosis


def diagnose(
    config: Annotated[Path, typer.Option("--config", help="mmdet configuration of your detector; it runs.")],
    checkpoint: Annotated[Path, typer.Option("--checkpoint", help="Its weights (.pth); nothing in them runs.")],
    train_annotations: Annotated[
        Path, typer.Option("--train-annotations", help="COCO- or LVIS-format JSON it was trained on.")
    ],
    val_annotations: Annotated[Path, typer.Option("--val-annotations", help="The same, of other images.")],
    images: Annotated[Path, typer.Option("--images", help="Folder that the files' image names are relative to.")],
    val_images: Annotated[
        Path | None, typer.Option("--val-images", help="That of the validation images, if another.")
    ] = None,
    max_images: Annotated[
        int, typer.Option("--max-images", min=0, help="Images of each split that are looked at; 0: all.")
    ] = 2000,
    out: Annotated[Path, typer.Option("--out", help="Folder that takes everything.")] = Path("diagnosis"),
    methods: Annotated[
        str | None, typer.Option("--methods", help="Methods to try, separated by commas, if not all that fit.")
    ] = None,
    tune: Annotated[
        bool, typer.Option("--tune/--no-tune", help="Choose hyper-parameters on held-out training images.")
    ] = True,
    bin_edges: Annotated[
        str | None, typer.Option("--bin-edges", help="Bins by train instances, e.g. 10,100,1000.")
    ] = None,
    skip_missing: SkipMissingOption = False,
    verify_images: VerifyImagesOption = False,
    save_fixes: Annotated[bool, typer.Option("--save-fixes", help="Keep the checkpoints of all fixes.")] = False,
    export: Annotated[
        str | None,
        typer.Option("--export", help="Method whose detector is written as mmdet configuration and checkpoint."),
    ] = None,
    label_order: LabelOrderOption = "names",
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
) -> None:
    """Find out what is wrong with your detector's classifier, and which fix helps.

    Works for any two-stage mmdet detector. Its proposals are cached once; then every method of the catalogue that needs
    only them is tried. Settings are chosen on training images, never on validation. The result is one HTML page,
    report.html. After an interruption, the same command continues.

    Example: imbalance-bench diagnose --config faster.py --checkpoint epoch_12.pth --train-annotations train.json
    --val-annotations val.json --images images --export bags
    """
    files = {
        "--config": config,
        "--checkpoint": checkpoint,
        "--train-annotations": train_annotations,
        "--val-annotations": val_annotations,
    }
    _check_paths(files, {"--images": images, "--val-images": val_images}, out)
    select_device(device)
    edges = parse_bin_edges(bin_edges)
    from imbalance_bench.methods import candidates, get

    tried = parse_names(methods)
    candidates(tried)
    if export is not None:
        get(export)
    with console.status("loading mmdet"), logged_to(None):
        from imbalance_bench.diagnosis import diagnose as run
    diagnosis = run(
        config,
        checkpoint,
        train_annotations,
        val_annotations,
        images,
        val_images=val_images,
        out=out,
        max_images=max_images or None,
        methods=tried,
        tune=tune,
        bin_edges=edges,
        skip_missing=skip_missing,
        verify_images=verify_images,
        save_fixes=save_fixes,
        export=export,
        seed=seed,
        called=command(),
        label_order=label_order,
        reporter=Reporter(console),
    )
    _print(diagnosis)
    from imbalance_bench.diagnosis.page import write

    written(write(diagnosis))


def _check_paths(files: dict[str, Path], folders: dict[str, Path | None], out: Path) -> None:
    """Check that the given paths exist, before anything is loaded."""
    for option, path in files.items():
        if not path.is_file():
            raise InputError(f"option '{option}' is '{path}', {_what(path)}, expected a file")
    for option, folder in folders.items():
        if folder is not None and not folder.is_dir():
            raise InputError(f"option '{option}' is '{folder}', {_what(folder)}, expected a folder")
    if out.exists() and not out.is_dir():
        raise InputError(f"option '--out' is '{out}', a file, expected a folder, which need not be there")


def _what(path: Path) -> str:
    return "a folder" if path.is_dir() else "a file" if path.exists() else "which is not there"


def _print(diagnosis: Diagnosis) -> None:
    """Print the verdict and the ranking."""
    from imbalance_bench.diagnosis.tables import ranking

    console.print()
    for line in diagnosis.summary["verdict"]:
        say(line)
    caption = "AP in percent; gains over the detector as it is, with 95 % intervals over validation images"
    show(ranking(diagnosis).reset_index(), "fixes, best on the tail first", caption)
    advice = f"recommended: {diagnosis.recommended}" if diagnosis.recommended else "no fix helps beyond chance"
    say(advice, style="bold")
