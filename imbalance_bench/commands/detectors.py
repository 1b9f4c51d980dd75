"""Commands that list and check detectors."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from imbalance_bench.commands.options import (
    DATA_DIR,
    WORK_DIR,
    DataDirOption,
    DeviceOption,
    PrecisionOption,
    PretrainedOption,
    WorkDirOption,
    console,
    say,
    select_device,
    setup,
    show,
)
from imbalance_bench.runtime.errors import InputError

app = typer.Typer(no_args_is_help=True, help="List detectors, and try one at full size without its data.")


@app.command("list")
def list_detectors() -> None:
    """List the detectors, with their framework in the paper's Tables 2 and 3 and their scale.

    Example: imbalance-bench detectors list
    """
    import pandas as pd

    from imbalance_bench.detectors.mmdet.catalogue import BOXES, DETECTORS

    rows = [
        {
            "name": detector.name,
            "framework": detector.framework,
            "scale": detector.scale,
            "what it is": detector.description,
        }
        for detector in DETECTORS.values()
    ]
    boxes = ", ".join(f"{name} ({text})" for name, (_, text) in BOXES.items())
    caption = "tiny: for drawn images, minutes on a CPU; small: for photographs, an hour; paper: mmdet's shipped models"
    show(pd.DataFrame(rows), "detectors", f"{caption}. Other box regressors: NAME-boxes= {boxes}")


@app.command()
def check(
    name: Annotated[str, typer.Argument(help="Detector ('detectors list' shows them).")],
    classes: Annotated[int, typer.Option("--classes", min=8, help="Classes of the generated data.")] = 1230,
    image_size: Annotated[str, typer.Option("--image-size", help="Height x width of the images.")] = "800x1333",
    iterations: Annotated[int, typer.Option("--iterations", min=1, help="Of end-to-end training.")] = 3,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Images of an iteration.")] = 1,
    precision: PrecisionOption = "auto",
    pretrained: PretrainedOption = None,
    device: DeviceOption = "auto",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Add the numbers to this CSV file.")] = None,
) -> None:
    """Try a detector on generated LVIS-format data: build, load weights by name, train, cache, fit BAGS, evaluate.

    At the end memory and time per iteration are shown, so that you know them before a run on LVIS. Without
    --pretrained, a random model of mmdet's shipped configuration replaces one trained on COCO.

    Example: imbalance-bench detectors check mask-rcnn-r50 --iterations 2
    """
    import pandas as pd

    from imbalance_bench.detectors.mmdet import catalogue
    from imbalance_bench.runtime.progress import Reporter, logged_to

    detector, size = catalogue.get(name), _size(image_size)
    if pretrained is not None and not pretrained.is_file():
        raise InputError(f"option '--pretrained' is '{pretrained}', expected the checkpoint of a detector, a file")
    select_device(device)
    with console.status("loading mmdet"), logged_to(None):
        from imbalance_bench.experiments.dry_run import try_detector

    with tempfile.TemporaryDirectory(prefix="imbalance-bench-") as folder:
        trial = try_detector(
            detector,
            Path(folder),
            classes=classes,
            size=size,
            iterations=iterations,
            batch_size=batch_size,
            precision=precision,
            pretrained=pretrained,
            reporter=Reporter(console),
        )
    own = detector.schedule
    numbers = {
        "detector": name,
        "classes": classes,
        "image_size": image_size,
        "batch_size": batch_size,
        "lr": own.at_batch_size(batch_size).lr,
        **asdict(trial),
    }
    rows = [
        ("parameters", f"{trial.parameters:.1f} million, {trial.classifier_parameters:.1f} of them classifiers"),
        (
            "training",
            f"{trial.seconds_per_iteration:.2f} s an iteration in {trial.precision} (median of {trial.iterations})",
        ),
        ("test", f"{trial.seconds_per_test_image:.2f} s an image"),
        ("cache and BAGS", f"{trial.seconds_per_cached_image:.2f} s a training image"),
        ("peak memory", f"{trial.memory:.1f} GiB"),
        ("learning rate", f"{numbers['lr']:g} at {batch_size} images ({own.lr:g} at {own.batch_size})"),
        ("machine", trial.machine),
    ]
    title = f"{name}, {classes:,} classes, images of {image_size} pixels"
    show(pd.DataFrame(rows, columns=["of", "measured"]), title)
    if output is not None:
        from imbalance_bench.runtime.files import write_text

        known = pd.read_csv(output) if output.exists() else pd.DataFrame()
        write_text(output, pd.concat([known, pd.DataFrame([numbers])]).to_csv(index=False))


@app.command()
def pretrain(
    name: Annotated[str, typer.Argument(help="Detector ('detectors list' shows them).")],
    precision: PrecisionOption = "auto",
    device: DeviceOption = "auto",
    data_dir: DataDirOption = DATA_DIR,
    work_dir: WorkDirOption = WORK_DIR,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the weights in half precision, .safetensors.")
    ] = None,
) -> None:
    """Train a detector on embedded classes that no set is evaluated on; on embedded data trainings start from it.

    'run-baseline' and 'run-all' do this themselves, once, where the package does not bring a detector's first weights.
    --output writes them as the package brings them, with the record of the run beside.

    Example: imbalance-bench detectors pretrain tiny --precision bf16 --output tiny.safetensors
    """
    from imbalance_bench.datasets.emoji_profile import PRETRAINING

    if output is not None and output.suffix != ".safetensors":
        raise InputError(f"option '--output' is '{output}', expected a name that ends in .safetensors")
    on = setup(PRETRAINING, name, data_dir, 0, device)
    from imbalance_bench.detectors.mmdet import shipped
    from imbalance_bench.experiments.benchmark import BASELINE, Benchmark

    folder = Benchmark(on, work_dir, precision=precision).run(BASELINE)
    say(f"{folder.checkpoint}: AP {folder.record()['metrics']['mAP']:.3f} on {PRETRAINING}")
    if output is not None:
        shipped.write(folder.verified(folder.checkpoint), folder.record(), output)
        say(f"written: {output}, {output.with_suffix('.json')}")


@app.command()
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run, with its checkpoint.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder that takes both files.")],
) -> None:
    """Write the detector of a run as mmdet has it: config.py and checkpoint.pth.

    mmdet alone runs them where the classifier is a linear layer and a softmax; otherwise (BAGS, say) with this package.

    Example: imbalance-bench detectors export work_dirs/emoji-lt-small/tiny/seed0/bags --output bags
    """
    from imbalance_bench.detectors.mmdet import catalogue
    from imbalance_bench.experiments.run_folder import RunFolder
    from imbalance_bench.runtime.progress import logged_to

    folder = RunFolder(run)
    detector = catalogue.get(str(folder.record()["settings"].get("detector")))
    checkpoint = folder.verified(folder.checkpoint)
    with console.status("loading mmdet"), logged_to(None):
        from imbalance_bench.detectors.mmdet.export import export_run

        done = export_run(detector, checkpoint, output)
    say(f"written: {', '.join(str(output / name) for name in done.files)}; {done.needs}")


def _size(text: str) -> tuple[int, int]:
    try:
        height, width = (int(part) for part in text.split("x"))
    except ValueError as error:
        raise InputError(f"option '--image-size' is '{text}', expected HEIGHTxWIDTH, e.g. 800x1333") from error
    if not 64 <= min(height, width) <= max(height, width) <= 4096:
        raise InputError(f"option '--image-size' is '{text}', expected sides of 64 to 4096 pixels")
    return height, width
