"""Small mmdet detectors with other heads, to be trained by mmdet's own runner and diagnosed.

    python -m analyses.small_heads retinanet --dataset emoji-lt-small --output detectors/retinanet
    torchrun --nproc-per-node 2 -m analyses.small_heads fcos --launcher pytorch --output detectors/fcos

Backbone and pyramid are those of ``tiny``, and start from the weights that it starts from: of a detector of other drawn
classes. The head is new. What is written is ``config.py`` and ``checkpoint.pth``, as mmdet has them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from imbalance_bench.commands import options
from imbalance_bench.detectors.mmdet.tiny import CHANNELS, SCHEDULE

STRIDES = [4, 8, 16, 32]


def retinanet(head: Any) -> None:
    """Change RetinaNet's head, in place: two square anchors at a place, as ``tiny``'s RPN has them."""
    head.update(in_channels=CHANNELS, feat_channels=CHANNELS, stacked_convs=2)
    head.anchor_generator = {"type": "AnchorGenerator", "scales": [4, 6], "ratios": [1.0], "strides": STRIDES}


def fcos(head: Any) -> None:
    """Change FCOS' head, in place: a level for each octave from 32 pixels."""
    head.update(in_channels=CHANNELS, feat_channels=CHANNELS, stacked_convs=2, strides=STRIDES)
    head.regress_ranges = [(-1, 32), (32, 64), (64, 128), (128, 100000)]


def atss(head: Any) -> None:
    """Change ATSS' head, in place: one square anchor at a place, of eight strides."""
    head.update(in_channels=CHANNELS, feat_channels=CHANNELS, stacked_convs=2)
    head.anchor_generator.update(octave_base_scale=6, strides=STRIDES)


HEADS: dict[str, tuple[str, Callable[[Any], None]]] = {
    "retinanet": ("retinanet/retinanet_r50_fpn_1x_coco", retinanet),
    "fcos": ("fcos/fcos_r50-caffe_fpn_gn-head_1x_coco", fcos),
    "atss": ("atss/atss_r50_fpn_1x_coco", atss),
}
"""mmdet's configuration of each, and what is changed in its head."""


def config(name: str, class_names: Sequence[str]) -> Any:
    """Return the configuration of a small detector: mmdet's own, with ``tiny``'s backbone, pyramid and transforms."""
    from imbalance_bench.detectors.mmdet import catalogue, hosting
    from imbalance_bench.detectors.mmdet.export import set_data

    shipped, change = HEADS[name]
    num_classes = len(class_names)
    tiny = catalogue.get("tiny")
    two_stage, made = tiny.stock_model(num_classes), hosting.shipped_config(shipped)
    model = made.model
    model.data_preprocessor, model.backbone, model.neck = (
        two_stage.data_preprocessor,
        two_stage.backbone,
        two_stage.neck,
    )
    change(model.bbox_head)
    model.bbox_head.num_classes = num_classes
    model.test_cfg.update(score_thr=0.0, max_per_img=300)
    made.train_pipeline, made.test_pipeline = tiny.train_pipeline(0.5), tiny.test_pipeline
    set_data(made, class_names)
    return made


def main(
    name: Annotated[str, typer.Argument(help=f"Head: {', '.join(HEADS)}.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the training.")],
    dataset: options.DatasetOption = options.DATASET,
    epochs: Annotated[int, typer.Option("--epochs", help="Passes over the training images.")] = 2 * SCHEDULE.epochs,
    lr: Annotated[float, typer.Option("--lr", help="Peak learning rate at 8 images.")] = 0.02,
    seed: Annotated[int, typer.Option("--seed", help="Of everything random.")] = 0,
    launcher: Annotated[str, typer.Option("--launcher", help="none, or pytorch (torchrun).")] = "none",
    data_dir: options.DataDirOption = options.DATA_DIR,
) -> None:
    """Train a small detector; an interrupted training goes on after its last epoch."""
    from imbalance_bench.runtime.errors import look_up

    look_up(HEADS, name, "head")
    on = options.setup(dataset, "tiny", data_dir, seed, "cpu")
    from mmengine.runner import Runner, find_latest_checkpoint

    from imbalance_bench.checkpoints import own as checkpoints
    from imbalance_bench.detectors.mmdet import catalogue, shipped
    from imbalance_bench.detectors.mmdet.export import write
    from imbalance_bench.runtime.processes import per_process

    data, categories = on.checked_data, on.categories
    made = config(name, categories.names)
    weights = shipped.weights_of(catalogue.get("tiny"))
    assert weights is not None
    first = checkpoints.load(weights)["state_dict"]
    kept = {n: value.float() for n, value in first.items() if n.startswith(("backbone.", "neck."))}
    start = output / "first_weights.pth"
    checkpoints.write(start, {"state_dict": kept, "meta": {}})
    made.train_dataloader.dataset.update(
        ann_file=str(data.train_annotations.absolute()),
        data_root="",
        data_prefix={"img": str(data.train_images.absolute())},
    )
    schedule = replace(SCHEDULE, epochs=epochs, lr=lr)
    own = per_process(schedule.batch_size, int(os.environ.get("WORLD_SIZE", "1")))  # as torchrun says
    made.train_dataloader.update(batch_size=own, num_workers=0, persistent_workers=False)
    unfinished = find_latest_checkpoint(str(output)) is not None
    made.update(
        {f"{part}_{what}": None for part in ("val", "test") for what in ("dataloader", "cfg", "evaluator")},
        train_cfg={"type": "EpochBasedTrainLoop", "max_epochs": epochs},
        optim_wrapper=schedule.optim_wrapper(),
        param_scheduler=schedule.param_scheduler(-(-len(on.training_set()) // schedule.batch_size)),
        load_from=None if unfinished else str(start),
        resume=unfinished,
        work_dir=str(output),
        launcher=launcher,
        randomness={"seed": seed},
        env_cfg={"dist_cfg": {"backend": "gloo"}, "mp_cfg": {"mp_start_method": "fork"}},
    )
    made.default_hooks.checkpoint.max_keep_ckpts = 1
    trained = Runner.from_cfg(made).train()
    clean = config(name, categories.names)
    write(clean, trained.state_dict(), categories.names, output, True)


if __name__ == "__main__":
    typer.run(main)
