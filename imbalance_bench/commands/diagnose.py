"""The command that diagnoses a user's own detector, from its result files or from its checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    from imbalance_bench.diagnosis.predictions.result import PredictionDiagnosis
    from imbalance_bench.diagnosis.result import Diagnosis

OF_FILES = ("predictions", "calibration_predictions", "calibration_annotations")
OF_CHECKPOINT = ("framework", "config", "model", "checkpoint", "val_images", "max_images", "methods", "tune",
                 "skip_missing", "verify_images", "save_fixes", "export", "label_order", "device")  # fmt: skip
"""Options that have no use with the other kind of input."""
FILE, FOLDER, EITHER = "a file", "a folder", "a file or a folder"
KINDS_OF_CHECKPOINT = {
    **dict.fromkeys(("config", "checkpoint", "train_annotations", "val_annotations"), FILE),
    **dict.fromkeys(("images", "val_images"), FOLDER),
}
KINDS_OF_FILES = {
    **dict.fromkeys(("val_annotations", "train_annotations", *OF_FILES), EITHER),
    "images": FOLDER,
}
"""What the paths of each kind of input are."""
FILES, CHECKPOINT = "From result files", "From a checkpoint"


def diagnose(
    context: typer.Context,
    predictions: Annotated[
        Path | None,
        typer.Option("--predictions", rich_help_panel=FILES, help="Detections in the validation images, of any tool: "
                     "COCO results, or files of ultralytics, RF-DETR, detectron2, mmdet, torchvision and others."),
    ] = None,
    example: Annotated[
        bool, typer.Option("--example", rich_help_panel=FILES, help="Diagnose the detector of the bundled example.")
    ] = False,
    calibration_predictions: Annotated[
        Path | None,
        typer.Option("--calibration-predictions", rich_help_panel=FILES,
                     help="Detections in held-out training images, to fit thresholds and calibration to."),
    ] = None,
    calibration_annotations: Annotated[
        Path | None,
        typer.Option("--calibration-annotations", rich_help_panel=FILES, help="Annotations of these images."),
    ] = None,
    val_annotations: Annotated[
        Path | None,
        typer.Option("--val-annotations", help="Validation annotations, COCO or LVIS format; with --predictions also a "
                     "data.yaml of YOLO, or a folder of YOLO, VOC or Roboflow."),
    ] = None,
    train_annotations: Annotated[
        Path | None,
        typer.Option("--train-annotations", help="The same, of the images it was trained on; with --predictions also a "
                     "CSV of counts, or nothing."),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option("--images", help="Folder that the files' image names are relative to; with --predictions for a "
                     "few pictures alone."),
    ] = None,
    bin_edges: Annotated[
        str | None, typer.Option("--bin-edges", help="Bins by train instances, e.g. 10,100,1000.")
    ] = None,
    out: Annotated[Path, typer.Option("--output", "-o", help="Folder that takes everything.")] = Path("diagnosis"),
    seed: SeedOption = 0,
    framework: Annotated[
        str,
        typer.Option("--framework", rich_help_panel=CHECKPOINT,
                     help="Of your detector: mmdet, torchvision, transformers or ultralytics."),
    ] = "mmdet",
    config: Annotated[
        Path | None,
        typer.Option("--config", rich_help_panel=CHECKPOINT, help="mmdet configuration of your detector; it runs."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", rich_help_panel=CHECKPOINT,
                     help="torchvision's name of your detector, or module:function that makes it; it runs. "
                     "transformers: its folder, with config.json; nothing in it runs. "
                     "ultralytics: one2one, the head without suppression, if not one2many."),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option("--checkpoint", rich_help_panel=CHECKPOINT,
                     help="Its weights (.pth, .pt); nothing in them runs. transformers: if not model.safetensors "
                     "there."),
    ] = None,
    val_images: Annotated[
        Path | None,
        typer.Option("--val-images", rich_help_panel=CHECKPOINT, help="Folder of the validation images, if another."),
    ] = None,
    max_images: Annotated[
        int,
        typer.Option("--max-images", min=0, rich_help_panel=CHECKPOINT,
                     help="Images of each split that are looked at; 0: all."),
    ] = 2000,
    methods: Annotated[
        str | None,
        typer.Option("--methods", rich_help_panel=CHECKPOINT,
                     help="Methods to try, separated by commas, if not all that fit."),
    ] = None,
    tune: Annotated[
        bool,
        typer.Option("--tune/--no-tune", rich_help_panel=CHECKPOINT,
                     help="Choose hyper-parameters on held-out training images."),
    ] = True,
    skip_missing: SkipMissingOption = False,
    verify_images: VerifyImagesOption = False,
    save_fixes: Annotated[
        bool,
        typer.Option("--save-fixes", rich_help_panel=CHECKPOINT, help="Keep the checkpoints of all fixes."),
    ] = False,
    export: Annotated[
        str | None,
        typer.Option("--export", rich_help_panel=CHECKPOINT,
                     help="Method whose repaired detector is written, for its own framework."),
    ] = None,
    label_order: LabelOrderOption = "names",
    device: DeviceOption = "auto",
) -> None:  # fmt: skip
    """Find out what is wrong with your detector's rare classes, and which fix helps.

    From result files (--predictions), of any detector: AP by bin, who takes the rare classes' boxes, kinds of errors,
    thresholds for each class; a minute, without a framework. From a checkpoint, of a two-stage, dense or query
    detector of mmdet (--config), a Faster R-CNN, Mask R-CNN, RetinaNet or FCOS of torchvision, a DETR of transformers
    (--model), or a YOLO of ultralytics (--checkpoint alone): every method that needs only its proposals is tried, its
    settings chosen on training images. Annotations are then in COCO or LVIS format ('datasets prepare yolo' and 'voc'
    convert). The result is one HTML page, report.html, and tables beside it. After an interruption, the same command
    continues.

    Example: imbalance-bench diagnose --example

    Example: imbalance-bench diagnose --predictions predictions.json --val-annotations val.json --train-annotations
    train.json

    Example: imbalance-bench diagnose --config faster.py --checkpoint epoch_12.pth --train-annotations train.json
    --val-annotations val.json --images images --export bags

    Example: imbalance-bench diagnose --framework torchvision --model fasterrcnn_resnet50_fpn --checkpoint model.pth
    --train-annotations train.json --val-annotations val.json --images images

    Example: imbalance-bench diagnose --framework transformers --model rtdetr --train-annotations train.json
    --val-annotations val.json --images images

    Example: imbalance-bench diagnose --framework ultralytics --checkpoint best.pt --train-annotations train.json
    --val-annotations val.json --images images
    """
    given = {
        name for name in context.params if (source := context.get_parameter_source(name)) and source.name != "DEFAULT"
    }
    options = {name: value for name, value in context.params.items() if name not in ("context", "example")}
    if out.exists() and not out.is_dir():
        raise InputError(f"option '--output' is '{out}', a file, expected a folder, which need not be there")
    options["bin_edges"] = parse_bin_edges(bin_edges)
    if example:
        _refuse(given - {"example", "out", "seed", "bin_edges"}, "--example")
        from imbalance_bench.diagnosis.predictions.example import FILES as bundled

        options |= bundled
    elif given.isdisjoint(("config", "model", "checkpoint")):
        _refuse(given & {*OF_CHECKPOINT}, "--predictions")
        _check(options, ("predictions", "val_annotations"), KINDS_OF_FILES)
    else:
        _refuse(given & {*OF_FILES}, "--checkpoint")
        described, other = ("config", "model") if framework == "mmdet" else ("model", "config")
        _refuse(given & {other}, f"--framework {framework}")
        if framework == "transformers" and model is not None and checkpoint is None:
            options["checkpoint"] = Path(model) / "model.safetensors"
        needed = ["checkpoint", "train_annotations", "val_annotations", "images"]
        if framework != "ultralytics":
            needed.insert(0, described)
        _check(options, needed, KINDS_OF_CHECKPOINT)
        _from_checkpoint(str(options[described] or ""), options)
        return
    _from_files({name: value for name, value in options.items() if name not in OF_CHECKPOINT})


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _refuse(names: set[str], of: str) -> None:
    """Refuse options that have no use with the others.

    Raises:
        InputError: one is given.
    """
    if names:
        raise InputError(f"option '{_option(min(names))}' has no use with {of} ('diagnose --help' shows what has)")


def _check(options: dict[str, Any], needed: Sequence[str], kinds: dict[str, str]) -> None:
    """Check that needed options are given, and that paths are of their kinds, before anything is loaded.

    Raises:
        InputError: one is missing, or of another kind.
    """
    for name in needed:
        if options[name] is None:
            raise InputError(
                f"option '{_option(name)}' is missing: give --predictions and --val-annotations of result files, or "
                "--config (other frameworks: --framework and --model), --checkpoint, both annotations and --images; or "
                "try --example"
            )
    for name, kind in kinds.items():
        path = options[name]
        if path is None or {FILE: path.is_file(), FOLDER: path.is_dir(), EITHER: path.exists()}[kind]:
            continue
        what = FOLDER if path.is_dir() else FILE if path.exists() else "which is not there"
        raise InputError(f"option '{_option(name)}' is '{path}', {what}, expected {kind}")


def _from_files(options: dict[str, Any]) -> None:
    """Diagnose result files."""
    from imbalance_bench.diagnosis.predictions.diagnose import diagnose_predictions
    from imbalance_bench.diagnosis.predictions.page import write

    diagnosis = diagnose_predictions(
        annotations=options.pop("val_annotations"), called=command(), reporter=Reporter(console), **options
    )
    _print_files(diagnosis)
    written(write(diagnosis))


def _print_files(diagnosis: PredictionDiagnosis) -> None:
    """Print AP by bin, the verdict and what to do next."""
    from imbalance_bench.diagnosis.predictions.text import by_bin

    console.print()
    summary = diagnosis.summary
    caption = "percent, 95 % intervals over images; the last three: validation boxes by the best detection on each"
    show(by_bin(diagnosis), f"rare and frequent by {summary['counted']}", caption)
    for line in summary["verdict"]:
        say(line)
    for note in summary["notes"]:
        say(note, style="dim")
    say(f"next: {summary['advice']['do']}", style="bold")
    if summary["advice"]["command"]:
        say(f"      {summary['advice']['command']}")


def _from_checkpoint(detector: str, options: dict[str, Any]) -> None:
    """Diagnose a detector, which a configuration or a model describes, with its checkpoint."""
    from imbalance_bench.detectors.frameworks import check_framework

    check_framework(options["framework"])
    select_device(options["device"])
    from imbalance_bench.methods import candidates, get

    options["methods"] = parse_names(options["methods"])
    candidates(options["methods"])
    if options["export"] is not None:
        get(options["export"])
    with console.status(f"loading {options['framework']}"), logged_to(None):
        from imbalance_bench.diagnosis.diagnose import diagnose as run
    arguments = {name: value for name, value in options.items() if name not in (*OF_FILES, "config", "model")}
    arguments["max_images"] = arguments["max_images"] or None
    diagnosis = run(detector, **arguments, called=command(), reporter=Reporter(console))
    _print_checkpoint(diagnosis)
    from imbalance_bench.diagnosis.page import write

    written(write(diagnosis))


def _print_checkpoint(diagnosis: Diagnosis) -> None:
    """Print the verdict and the ranking."""
    from imbalance_bench.diagnosis.tables import ranking

    console.print()
    for line in diagnosis.summary["verdict"]:
        say(line)
    caption = "AP in percent; gains over the detector as it is, with 95 % intervals over validation images"
    show(ranking(diagnosis).reset_index(), "fixes, best on the tail first", caption)
    advice = f"recommended: {diagnosis.recommended}" if diagnosis.recommended else "no fix helps beyond chance"
    say(advice, style="bold")
