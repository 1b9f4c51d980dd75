"""Export of a repaired DETR: a folder that transformers loads, or one with a small loader that needs this package."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from imbalance_bench.checkpoints import own as checkpoints
from imbalance_bench.classifiers.softmax import is_linear_softmax
from imbalance_bench.detectors import sigmoid_heads
from imbalance_bench.detectors.hosting import HostingLayer, aliases
from imbalance_bench.detectors.named_state import load_named
from imbalance_bench.detectors.port import Export
from imbalance_bench.detectors.transformers import folder as folders
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.files import write_text

if TYPE_CHECKING:
    from imbalance_bench.detectors.transformers.detector import Detr

LOADER = '''"""A DETR with a repaired classifier: ``load()`` returns it in evaluation mode.

It needs this package where it runs (imbalance_bench). ``post_process`` makes detections of its outputs; {own}.
"""

from pathlib import Path

from imbalance_bench.detectors.transformers.hosting import load_hosted, post_process

__all__ = ["CLASSES", "load", "post_process"]
CLASSES = {classes}
"""Names of the labels."""


def load(device="cpu"):
    """Build the model of ``config.json``, and load ``checkpoint.pth`` beside this file."""
    folder = Path(__file__).parent
    return load_hosted(folder, folder / "checkpoint.pth").to(device).eval()
'''
SAME = "that of transformers' image processor makes the same"
OTHER = "that of transformers' image processor does not, as these scores are no softmax"


def export(detector: Detr, checkpoint: Path, class_names: Sequence[str], folder: Path) -> Export:
    """Write ``config.json``, the preparation of images, and the weights.

    Args:
        detector: the detector as its user described it.
        checkpoint: checkpoint of a run on this detector.
        class_names: names in label order, for the loader; ``id2label`` is the user's.
        folder: folder for the files.

    Returns:
        What was written. Where the classifier is a linear layer with the head's activation, the weights are of the
        user's own model; otherwise the loader needs this package.

    Raises:
        InputError: the classifier reads other features than a query has.
    """
    content = checkpoints.load(checkpoint)
    (classifier,) = checkpoints.classifiers_of(content, checkpoint).values()
    if set(classifier.taps) != {"fc"}:
        taps = " and ".join(classifier.taps)
        raise InputError(
            f"option '--export': {type(classifier).__name__} reads {taps}, expected one that reads fc alone"
        )
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path(detector.source) / folders.PROCESSOR, folder)
    files = (folders.CONFIG, folders.PROCESSOR)
    softmax, model = detector.family.softmax, copy.deepcopy(detector.model)
    if is_linear_softmax(classifier) if softmax else sigmoid_heads.is_linear(classifier):
        others = {name: value for name, value in content["state_dict"].items() if not checkpoints.is_classifier(name)}
        load_named(model, others, strict=False)
        with torch.no_grad():
            for layer in map(model.get_submodule, aliases(model, detector.layer_name)):
                for name, value in classifier.named_parameters():
                    getattr(layer, name).copy_(value)
        folders.save(model, folder)
        return Export((*files, folders.WEIGHTS), True, "plain transformers runs it (from_pretrained of the folder)")
    folders.save_config(model, folder)
    stored = {"state_dict": content["state_dict"], "meta": {"classifier": classifier.config()}}
    checkpoints.write(folder / "checkpoint.pth", stored)
    own = SAME if HostingLayer(classifier, softmax).gives_scores else OTHER
    write_text(folder / "load.py", LOADER.format(own=own, classes=dict(enumerate(class_names))))
    needs = "it needs this package where it runs (imbalance_bench)"
    return Export(("load.py", "checkpoint.pth", *files), False, needs)
