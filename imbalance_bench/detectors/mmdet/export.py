"""Export of a fixed detector, a user's or a run's, as an mmdet configuration and a checkpoint."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmengine.config import Config, ConfigDict
from torch import Tensor

from imbalance_bench.checkpoints import own as checkpoints
from imbalance_bench.classifiers.softmax import is_linear_softmax
from imbalance_bench.detectors.mmdet import hosting
from imbalance_bench.detectors.mmdet.hosting import evaluate_as_lvis, heads
from imbalance_bench.detectors.port import Export
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.files import write_text

if TYPE_CHECKING:
    from imbalance_bench.detectors.mmdet.detector import Detector
    from imbalance_bench.detectors.mmdet.from_config import ForeignDetector

HOST = "imbalance_bench"


def export_run(detector: Detector, checkpoint: Path, folder: Path) -> Export:
    """Write the detector of a run, as ``export`` does.

    The configuration is the one that mmdet ships, with the detector's model and its transforms of images; where data
    stand, and how it was trained, is not in it.

    Args:
        detector: its record.
        checkpoint: of the run.
        folder: folder for both files.

    Raises:
        InputError: the checkpoint does not name its categories.
    """
    content = checkpoints.load(checkpoint)
    table = checkpoints.categories_of(content, checkpoint)
    if table is None:
        raise InputError(f"{checkpoint}: field 'meta.categories' is missing, expected a run's checkpoint")
    config = hosting.shipped_config(detector.config)
    stuff = any(name.startswith("roi_head.semantic_head.") for name in content["state_dict"])
    config.model = detector.stock_model(table.num_classes, stuff=stuff)
    config.test_pipeline, config.train_pipeline = detector.test_pipeline, detector.train_pipeline(0.5, stuff)
    set_data(config, table.names)
    return _export(config, partial(detector.model, stuff=stuff), content, checkpoint, table.names, folder)


def set_data(config: Config, class_names: Sequence[str]) -> None:
    """Give the data sets of a configuration its pipelines and names of classes, in place."""
    for part in ("train", "val", "test"):
        data = config[f"{part}_dataloader"].dataset
        data.pipeline = config.train_pipeline if part == "train" else config.test_pipeline
        data.metainfo = {"classes": tuple(class_names)}


def export(detector: ForeignDetector, checkpoint: Path, class_names: Sequence[str], folder: Path) -> Export:
    """Write ``config.py`` and ``checkpoint.pth``, with the test settings measured with: 300 per image, all scores.

    Args:
        detector: the detector as its user configured it.
        checkpoint: checkpoint of a run on this detector.
        class_names: names in label order.
        folder: folder for both files.

    Returns:
        What was written, and whether plain mmdet runs it; otherwise this package must be importable
        (``custom_imports``).
    """
    content = checkpoints.load(checkpoint)
    return _export(copy.deepcopy(detector.user_config), detector.model, content, checkpoint, class_names, folder)


def _export(
    config: Config,
    hosted: Callable[[int, dict[str, Any]], ConfigDict],
    content: dict[str, Any],
    checkpoint: Path,
    class_names: Sequence[str],
    folder: Path,
) -> Export:
    classifiers = list(checkpoints.classifiers_of(content, checkpoint).values())
    plain, state = all(map(is_linear_softmax, classifiers)), content["state_dict"]
    if plain:
        # What else a classifier keeps is of its loss.
        own = ("fc_cls.weight", "fc_cls.bias")
        state = {n: v for n, v in state.items() if not checkpoints.is_classifier(n) or n.endswith(own)}
        for head in heads(config.model.roi_head.bbox_head):
            head.loss_cls = {"type": "CrossEntropyLoss", "use_sigmoid": False, "loss_weight": 1.0}
    else:
        config.model = hosted(len(class_names), classifiers[0].config())
        import_this_package(config)
    evaluate_as_lvis(config.model)
    return write(config, state, class_names, folder, plain)


def import_this_package(config: Config) -> None:
    """Have a configuration import this package, in place."""
    imports = config.get("custom_imports") or {"imports": []}
    imports["imports"] = [*imports["imports"], HOST]
    config.custom_imports = {**imports, "allow_failed_imports": False}


def write(config: Config, state: Mapping[str, Tensor], class_names: Sequence[str], folder: Path, plain: bool) -> Export:
    """Write ``config.py`` and ``checkpoint.pth``.

    Args:
        config: the configuration.
        state: tensors of the detector.
        class_names: names in label order.
        folder: folder for both files.
        plain: mmdet alone runs them.
    """
    meta = {"dataset_meta": {"classes": tuple(class_names)}}
    checkpoints.write(folder / "checkpoint.pth", {"state_dict": state, "meta": meta})
    write_text(folder / "config.py", Config(config.to_dict()).pretty_text + "\n")
    needs = "plain mmdet runs it" if plain else "it needs this package where it runs (custom_imports)"
    return Export(("config.py", "checkpoint.pth"), plain, needs)
